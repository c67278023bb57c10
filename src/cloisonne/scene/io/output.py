"""Writes images as PNG, JPEG or WebP, atomically."""

import io
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from PIL import ExifTags, Image

from cloisonne.errors import OutputError, spelled
from cloisonne.scene.io.colour_space import png_options, preserved_metadata
from cloisonne.scene.io.infotext import PARAMETERS
from cloisonne.scene.io.png_record import KEY, Record
from cloisonne.scene.values import quoted

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB"),
    "WEBP": ("RGB", "RGBA"),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    # exact: also preserve the colours of transparent pixels.
    "WEBP": {"lossless": True, "exact": True},
}
_MAX_EXIF_BYTES = 65_000
"""A JPEG segment holds 65,533 bytes."""


def check_output(path: str | Path, *, overwrite: bool = False, like: Image.Image | None = None) -> None:
    """Check that :func:`write_picture` can write to ``path``, before any work is done.

    Symbolic links are followed; a dangling link's target is a new file.

    Args:
        path: the output file.
        overwrite: allow an existing file.
        like: an image of the mode and transparency that will be written; None is RGB.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(
            f"The output {quoted(path)} has no supported extension; end its name with .png, .jpg or .webp."
        )
    if like is not None and (like.mode not in _MODES[kind] or (kind != "PNG" and "transparency" in like.info)):
        form = f"of mode {like.mode}" + (" with transparent colours" if "transparency" in like.info else "")
        raise OutputError(
            f"{kind} cannot store an image {form} ({quoted(path.name)}); end the output's name with .png."
        )
    check_target(path, overwrite=overwrite)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Check that a file of any kind can be written to ``path``. Raises OutputError if it cannot."""
    try:
        if path.is_dir():
            raise OutputError(f"The output {quoted(path)} is a folder; give the name of a file.")
        if path.exists() and not overwrite:
            allowed = spelled("overwrite=True", "--overwrite")
            raise OutputError(f"The output {quoted(path)} exists; choose another name, or allow it with {allowed}.")
        folder = target_of(path).parent
        if not folder.is_dir():
            raise OutputError(
                f"There is no folder {quoted(folder)} for the output {quoted(path.name)}; create it first."
            )
        if not os.access(folder, os.W_OK):
            raise OutputError(f"The folder {quoted(folder)} is not writable; choose another folder for the output.")
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None


def target_of(path: Path) -> Path:
    """The file that is written for ``path``: the target of a symbolic link, else ``path``.

    Raises:
        OutputError: the link leads back to itself.
    """
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise OutputError(f"The output {quoted(path)} is a link that leads back to itself; choose another name.")
    return target


def write_picture(
    image: Image.Image,
    path: str | Path,
    *,
    record: Record | None = None,
    parameters: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write ``image`` with the metadata in ``image.info`` that its format supports (``colour_space.py``).

    The file appears under its name once it is complete. Symbolic links are followed.

    Args:
        image: the image.
        path: the output file; its extension gives the format.
        record: stored under the key ``cloisonne``, in PNG only.
        parameters: the infotext; in JPEG and WebP the EXIF user comment, omitted if it is too long.
        overwrite: allow an existing file.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, like=image)
    kind = _FORMATS[path.suffix.lower()]
    options = _OPTIONS[kind] | preserved_metadata(image.info)
    if kind == "PNG":
        options = _png_options(image, record, parameters)
    elif parameters is not None:
        options |= _with_comment(image, parameters)
    _write(path, lambda file: image.save(file, kind, **options))


def write_text(text: str, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a text file in UTF-8, which appears under its name once it is complete. Symbolic links are followed.

    Raises:
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    _write(path, lambda file: file.write(text.encode()))


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under another name, and rename it."""
    try:
        target = target_of(path)
        temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                write(file)
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None


def png_bytes(image: Image.Image, *, record: Record | None = None, parameters: str | None = None) -> bytes:
    """The bytes of the PNG file that :func:`write_picture` writes."""
    file = io.BytesIO()
    image.save(file, "PNG", **_png_options(image, record, parameters))
    return file.getvalue()


def _png_options(image: Image.Image, record: Record | None, parameters: str | None) -> dict[str, Any]:
    options = png_options(image.info)
    for key, text in {PARAMETERS: parameters, KEY: None if record is None else record.text()}.items():
        if text is not None:
            options["pnginfo"].add_text(key, text)
    return options


def _with_comment(image: Image.Image, text: str) -> dict[str, bytes]:
    """EXIF of ``image`` with ``text`` as its user comment, in the encoding that other tools read."""
    exif = Image.Exif()
    exif.load(image.info.get("exif") or b"")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + text.encode("utf-16-be")
    data = exif.tobytes()
    return {"exif": data} if len(data) <= _MAX_EXIF_BYTES else {}


def _cannot_write(path: Path, error: Exception) -> OutputError:
    if isinstance(error, OutputError):
        return error
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"The output {quoted(path)} cannot be written ({reason}); choose another path.")
