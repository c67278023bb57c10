"""References to images that are not decoded yet: a file, or the bytes of one."""

import base64
import binascii
import hashlib
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from PIL import Image
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from cloisonne.errors import ImageError
from cloisonne.scene.io.arrays import colour_array, is_array, mask_array
from cloisonne.scene.io.colour_space import png_options
from cloisonne.scene.values import brief, quoted

FILE = "file"
"""Role of a file that is not an image: safetensors, such as a learned concept."""
MAX_FILE_BYTES = 512 * 2**20
"""Largest file that is read."""

_SIGNATURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp", b"GIF8": "gif", b"BM": "bmp"}
_BYTES = "data:application/octet-stream"
"""Start of data URIs of files that are not images."""


@dataclass(frozen=True)
class ImageRef:
    """A reference to an image file.

    Attributes:
        path: the file, relative to the current folder.
        data: the bytes of the file; takes precedence over ``path``.
        sha256: hash that the file must have, in hexadecimal. With ``sha256`` alone the image must be given again.
    """

    path: Path | None = None
    data: bytes | None = None
    sha256: str | None = None

    def __repr__(self) -> str:
        return f"ImageRef({self})"

    def __str__(self) -> str:
        if self.data is not None:
            return f"<{len(self.data)} bytes>"
        return f"<SHA-256 {self.sha256}>" if self.path is None else quoted(self.path)

    def read(self) -> bytes:
        """Read the bytes of the file. Raises ImageError if it is missing, or its hash is not ``sha256``."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ImageError(f"The image with SHA-256 {self.sha256} was not saved with the scene; give it again.")
        data = _file_bytes(self.path)
        if self.sha256 is not None and hashlib.sha256(data).hexdigest() != self.sha256:
            raise ImageError(
                f"{self} is not the image that the scene was made with, by its SHA-256; restore it or give it again."
            )
        return data

    def wire(self) -> str | dict[str, str]:
        """The reference in JSON: a path, a data URI, or an object with ``path`` and ``sha256``."""
        if self.data is not None:
            return data_uri(self.data)
        path = {} if self.path is None else {"path": self.path.as_posix()}
        return path["path"] if self.sha256 is None else path | {"sha256": self.sha256}


def _file_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ImageError(
                f"There is no file {quoted(path)}; check the path (paths in a scene file are relative to it)."
            )
        if not path.is_file():
            raise ImageError(f"{quoted(path)} is not a file; give the path of a file.")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ImageError(f"{quoted(path)} is larger than {MAX_FILE_BYTES >> 20} MiB; give a smaller file.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"The file {quoted(path)} cannot be read ({reason}); give one that can.") from None


def data_uri(data: bytes) -> str:
    """Encode an image file, or a safetensors file, as a data URI with its media type."""
    kind = next((f"data:image/{kind}" for signature, kind in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        kind = _BYTES if data[8:9] == b"{" else "data:image/png"
    return f"{kind};base64,{base64.b64encode(data).decode('ascii')}"


def encoded(image: Image.Image) -> bytes:
    """Encode ``image`` as PNG with its colour space, resolution, EXIF and transparency, and no other metadata."""
    file = io.BytesIO()
    try:
        image.save(file, "PNG", **png_options(image.info))
    except (OSError, ValueError) as error:
        raise ImageError(f"An image of mode {image.mode} cannot be stored ({error}); convert it to RGB or L.") from None
    return file.getvalue()


def given_background(value: object) -> ImageRef:
    """Make a reference from a path, data URI, PIL image, array [H, W], [H, W, 3] or [H, W, 4], or tensor [3, H, W].

    Arrays and tensors are uint8, or floats in [0, 1].
    """
    return _given_colours(value, "background")


def given_picture(value: object) -> ImageRef:
    """Like :func:`given_background`, for any other image."""
    return _given_colours(value, "image")


def given_as(role: str) -> Callable[[object], ImageRef]:
    """A function like :func:`given_background` for another image, whose messages call it ``role``."""
    return lambda value: _given_colours(value, role)


def given_learned(value: object) -> ImageRef:
    """Make a reference to a learned concept from a path, a data URI or bytes."""
    return ImageRef(data=value) if isinstance(value, bytes) else _given(value, FILE)


def given_outside(value: object) -> ImageRef:
    """Like :func:`given_background`, for the image outside of regions."""
    return _given_colours(value, "outside")


def _given_colours(value: object, field: str) -> ImageRef:
    return _given(Image.fromarray(colour_array(value, field)) if is_array(value) else value, field)


def given_mask(value: object) -> ImageRef:
    """Make a reference to a mask from a path, a data URI, a PIL image, or an array or tensor [H, W].

    Arrays and tensors are bool, uint8, uint16, or floats in [0, 1], which are stored with 16 bits.
    """
    return _given(Image.fromarray(mask_array(value)) if is_array(value) else value, "mask")


def _given(value: object, field: str) -> ImageRef:
    if isinstance(value, ImageRef):
        return value
    if isinstance(value, Image.Image):
        return ImageRef(data=encoded(value))
    if isinstance(value, Mapping) and value and set(value) <= {"path", "sha256"}:
        path, sha256 = value.get("path"), value.get("sha256")
        if all(part is None or isinstance(part, str) for part in (path, sha256)) and (path or sha256):
            return ImageRef(path=Path(path) if path else None, sha256=sha256)
    if isinstance(value, str) and value.startswith("data:"):
        return ImageRef(data=_from_data_uri(value, field))
    if isinstance(value, str) and "://" in value:
        raise ImageError(f"{field} is {brief(value)}, but URLs are not fetched; give the path of a file.")
    if isinstance(value, str | os.PathLike) and str(value):
        return ImageRef(path=Path(value))
    raise ImageError(f"{field} is {brief(value)}; give the path of {'a file' if field == FILE else 'an image'}.")


def _from_data_uri(text: str, field: str) -> bytes:
    head, _, body = text.partition(",")
    kind = _BYTES if field == FILE else "data:image/png"
    if not (head.startswith(kind.removesuffix("png")) and head.endswith(";base64")):
        raise ImageError(f"{field} is {brief(text)}; give a data URI that begins with {kind};base64,.")
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        raise ImageError(f"{field} has base64 text that cannot be decoded; encode the file again.") from None


ON_THE_WIRE = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string", "description": "a path relative to the scene's file, or data:image/png;base64,..."},
            {
                "type": "object",
                "properties": {"path": {"type": "string"}, "sha256": {"type": "string"}},
                "additionalProperties": False,
            },
        ]
    }
)
Background = Annotated[ImageRef, PlainValidator(given_background), PlainSerializer(ImageRef.wire), ON_THE_WIRE]
OutsideImageRef = Annotated[ImageRef, PlainValidator(given_outside), PlainSerializer(ImageRef.wire), ON_THE_WIRE]
MaskImageRef = Annotated[ImageRef, PlainValidator(given_mask), PlainSerializer(ImageRef.wire), ON_THE_WIRE]
