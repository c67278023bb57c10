"""Writing pictures: PNG, JPEG and WebP, whole or not at all."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin

from cloisonne.errors import OutputError, spelled
from cloisonne.scene.parameters import PARAMETERS
from cloisonne.scene.record import KEY, Record
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
    # exact: the colours under transparent pixels are the source's bytes too.
    "WEBP": {"lossless": True, "exact": True},
}
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_MAX_EXIF_BYTES = 65_000
"""A JPEG segment holds 65,533 bytes."""


def check_output(path: str | Path, *, overwrite: bool = False, like: Image.Image | None = None) -> None:
    """OutputError where :func:`write_picture` could not write to ``path``; to be asked before any work.

    like: a picture of the mode and transparency that will be written; None means RGB.
    """
    path = Path(path)
    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise OutputError(f"The output {quoted(path)} has no known ending; end its name with .png, .jpg or .webp.")
    if like is not None and (like.mode not in _MODES[kind] or (kind != "PNG" and "transparency" in like.info)):
        form = f"of mode {like.mode}" + (" with transparent colours" if "transparency" in like.info else "")
        raise OutputError(
            f"{kind} cannot hold a picture {form} ({quoted(path.name)}); end the output's name with .png."
        )
    try:
        if path.is_dir():
            raise OutputError(f"The output {quoted(path)} is a folder; give the name of a file.")
        if path.exists() and not overwrite:
            allowed = spelled("overwrite=True", "--overwrite")
            raise OutputError(f"The output {quoted(path)} exists; choose another name, or allow it with {allowed}.")
        if not path.parent.is_dir():
            raise OutputError(
                f"There is no folder {quoted(path.parent)} for the output {quoted(path.name)}; make it first."
            )
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"The folder {quoted(path.parent)} is not writable; choose another place for the output.")
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None


def write_picture(
    image: Image.Image,
    path: str | Path,
    *,
    record: Record | None = None,
    parameters: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write ``image`` with its ``icc_profile``, ``exif`` and ``transparency`` (in ``image.info``) and what it carries.

    record: under the key ``cloisonne``, PNG only. parameters: the infotext; in JPEG and WebP the EXIF user comment,
    left out where it does not fit. The file appears under its name when it is complete. OutputError where it cannot.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, like=image)
    kind = _FORMATS[path.suffix.lower()]
    options = _OPTIONS[kind] | _kept(image)
    if kind == "PNG":
        options["pnginfo"] = _texts({PARAMETERS: parameters, KEY: None if record is None else record.text()})
    elif parameters is not None:
        options |= _with_comment(image, parameters)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            image.save(file, kind, **options)
        temporary.replace(path)
    except (OSError, ValueError) as error:
        raise _cannot_write(path, error) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _kept(image: Image.Image) -> dict[str, Any]:
    names = ("icc_profile", "exif", "transparency")
    return {name: image.info[name] for name in names if image.info.get(name) is not None}


def _texts(texts: dict[str, str | None]) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        if text is not None:
            info.add_text(key, text)
    return info


def _with_comment(image: Image.Image, text: str) -> dict[str, bytes]:
    """EXIF of ``image`` with ``text`` as its user comment, in the encoding that other tools read it in."""
    exif = Image.Exif()
    exif.load(image.info.get("exif") or b"")
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + text.encode("utf-16-be")
    data = exif.tobytes()
    return {"exif": data} if len(data) <= _MAX_EXIF_BYTES else {}


def _cannot_write(path: Path, error: Exception) -> OutputError:
    if isinstance(error, OutputError):
        return error
    reason = getattr(error, "strerror", None) or error
    return OutputError(f"The output {quoted(path)} cannot be written ({reason}); choose another place.")
