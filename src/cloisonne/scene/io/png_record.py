"""The metadata of a generated PNG under the key ``cloisonne``: the whole scene, and the environment of the run.

It has only the fields below, no dates and no absolute paths. When read, its size is limited and its schema checked.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import AfterValidator, Field, field_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import FILE, ImageRef, data_uri, encoded, given_background, given_learned, given_mask
from cloisonne.scene.io.images import opened
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.shapes.mask_reading import Channel, read_mask
from cloisonne.scene.values import Text, Value, brief

KEY = "cloisonne"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_EMBEDDED_BYTES = 8 * 2**20
"""Larger inputs are stored as path and hash."""
MAX_RECORD_BYTES = 32 * 2**20
"""Limit of all embedded inputs of a scene: as base64 they stay below the 64 MiB of text that Pillow reads of a PNG."""


def _relative_only(text: str) -> str:
    if _is_absolute(text):
        raise SceneError(f"{brief(text)} is an absolute path, which an image's metadata must not contain; give a name.")
    return text


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _checked_image(picture: Any, role: str, region: str | None) -> Any:
    """Refuse references to files without a relative path and a hash: a foreign PNG must not read other files."""
    by_hash = isinstance(picture, Mapping) and picture.get("sha256") and not _is_absolute(str(picture.get("path", "")))
    if not by_hash and not str(picture).startswith("data:"):
        wanted = "neither embedded nor a relative path with its sha256"
        raise SceneError(f"The {role} {brief(picture)} is {wanted}; give the scene as JSON instead.")
    return picture


_Short = Annotated[Text, Field(max_length=200), AfterValidator(_relative_only)]


class Record(Value):
    """The scene of one image, and the environment that it was generated in.

    Attributes:
        scene: resolved, with the image's own seed, as :func:`self_contained` returns it.
        model_hash: hash of the weights.
        versions: of packages, by name.
        device, dtype, threads: of the computation.
        place, batch: index of the image in its batch, and the batch size, if they affect its bits.
    """

    version: Literal[1] = 1
    scene: dict[str, Any]
    model_hash: _Short = ""
    versions: Annotated[dict[_Short, _Short], Field(max_length=32)] = Field(default_factory=dict)
    device: _Short = "cpu"
    dtype: _Short = "float32"
    threads: int = Field(default=1, strict=True, ge=1, le=65536)
    place: int = Field(default=0, strict=True, ge=0, le=1_000_000)
    batch: int = Field(default=1, strict=True, ge=1, le=1_000_000)

    @field_validator("scene")
    @classmethod
    def _check_images(cls, scene: dict[str, Any]) -> dict[str, Any]:
        wire.with_pictures(scene, _checked_image)
        return scene

    def text(self) -> str:
        """The record as one line of ASCII JSON."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))


def self_contained(scene: Mapping[str, Any], folder: Path, *, embed: bool = True) -> dict[str, Any]:
    """Prepare a scene's object for the metadata of an image in ``folder``.

    Masks are embedded as grey PNG, as they were read (mask channel "luminance"). Inputs larger than MAX_EMBEDDED_BYTES
    become a path relative to ``folder`` and a SHA-256. A model's folder becomes its name.

    Args:
        scene: a complete scene's object (``Scene.to_dict(complete=True)``).
        folder: the folder of the image.
        embed: embed images, such as the background, byte for byte; otherwise they also become path and SHA-256.
    """
    room = MAX_RECORD_BYTES
    channels = _mask_channels(scene)
    embedded: set[str | None] = set()

    def stored(given: Any, role: str, region: str | None) -> Any:
        nonlocal room
        picture = {"mask": given_mask, FILE: given_learned}.get(role, given_background)(given)
        content = picture.read()
        if role == "mask":
            content = encoded(read_mask(picture, region, channels.get(region, "auto")).image)
        if role == "outside":
            # Without its metadata, which contains another scene, and perhaps an earlier one in that.
            content = encoded(opened(picture, role))
        # References by hash stay references, so that a replayed image has the same bytes. Masks and concepts learned
        # for this image exist nowhere else.
        made = role == "mask" or (role == FILE and picture.data is not None)
        if (made or (embed and picture.sha256 is None)) and len(content) <= min(room, MAX_EMBEDDED_BYTES):
            room -= len(content)
            embedded.update({region} if role == "mask" else ())
            return data_uri(content)
        path = None if picture.path is None else Path(wire.relative(picture.path, folder))
        return ImageRef(path=path, sha256=hashlib.sha256(picture.read()).hexdigest()).wire()

    data = wire.with_pictures(scene, stored)
    for region in data.get("regions", ()):
        if region.get("name") in embedded:
            region["mask_channel"] = "luminance"
    if _is_absolute(data["model"]):
        data["model"] = PureWindowsPath(data["model"]).name
    return data


def _mask_channels(scene: Mapping[str, Any]) -> dict[str | None, Channel]:
    """Mask channels, by the names of the regions that have a mask."""
    masked = [region for region in scene.get("regions", ()) if region.get("mask") is not None]
    return {region.get("name"): region.get("mask_channel", "auto") for region in masked}


def _with_old_mask_channels(data: dict[str, Any]) -> dict[str, Any]:
    """Read masks of records without mask channels, which are older than these, by luminance."""
    scene = data.get("scene")
    for region in scene.get("regions") or () if isinstance(scene, dict) else ():
        if isinstance(region, dict) and region.get("mask") is not None:
            region.setdefault("mask_channel", "luminance")
    return data


def read_record(png: bytes, name: str) -> Record:
    """Parse the record in a PNG file. Raises SceneError, which calls the file ``name``, if it is missing or damaged."""
    try:
        with without_warnings(), Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            text = image.info.get(KEY)
    # The decoder raises all kinds of exceptions for damaged files.
    except Exception as error:
        raise SceneError(f"{name} cannot be read as a PNG ({error}); give a PNG written by cloisonne.") from None
    if not isinstance(text, str):
        raise SceneError(
            f"{name} carries no scene; give a PNG written by cloisonne, or the scene as JSON. An image of another tool "
            "has to be imported first."
        )
    return Record(**_with_old_mask_channels(wire.parse(text)))
