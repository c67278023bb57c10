"""An image file's metadata about colours and resolution, which a writer must preserve.

PNG has four ways to name a colour space: cICP, iCCP, sRGB, and gAMA with cHRM. The first that is present applies.
"""

import io
import math
import struct
from collections.abc import Mapping
from typing import Any

from PIL import PngImagePlugin

PRESERVED = ("icc_profile", "exif", "transparency", "gamma", "chromaticity", "srgb", "cicp", "dpi")
"""Keys of ``Image.info`` that are preserved. cicp: four bytes, which Pillow does not read; see :func:`cicp_of`."""

_SRGB_GAMMA = 1 / 2.2
_SRGB_CHROMATICITY = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SRGB_TRANSFER = 13
_BT709_PRIMARIES = 1


def preserved_metadata(info: Mapping[Any, Any]) -> dict[str, Any]:
    """The entries of an image's ``info`` that are preserved with its pixels."""
    found = {name: info[name] for name in PRESERVED if info.get(name) is not None}
    if not _is_resolution(found.get("dpi")):
        found.pop("dpi", None)
    return found


def _is_resolution(dpi: Any) -> bool:
    try:
        return len(dpi) == 2 and all(math.isfinite(float(number)) and 0 < float(number) < 1e6 for number in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return False


def png_chunks(info: Mapping[Any, Any]) -> PngImagePlugin.PngInfo:
    """The PNG chunks for the colour space in ``info``. Pillow itself writes ``icc_profile`` and ``dpi``."""
    chunks = PngImagePlugin.PngInfo()
    if (cicp := info.get("cicp")) is not None:
        chunks.add(b"cICP", cicp)
    if (gamma := info.get("gamma")) is not None:
        chunks.add(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    if (chromaticity := info.get("chromaticity")) is not None:
        chunks.add(b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in chromaticity)))
    if (srgb := info.get("srgb")) is not None:
        chunks.add(b"sRGB", bytes([srgb]))
    return chunks


def png_options(info: Mapping[Any, Any]) -> dict[str, Any]:
    """Options of ``Image.save`` that write :func:`preserved_metadata` of ``info`` to a PNG."""
    found = preserved_metadata(info)
    options = {name: found[name] for name in ("icc_profile", "exif", "transparency", "dpi") if name in found}
    return {**options, "pnginfo": png_chunks(found)}


def cicp_of(file: bytes) -> bytes | None:
    """The four bytes of a PNG's cICP chunk: primaries, transfer, matrix, full range; None if it has none."""
    at = 8
    while at + 8 <= len(file):
        length, kind = struct.unpack(">I4s", file[at : at + 8])
        if kind == b"cICP" and length == 4:
            return file[at + 8 : at + 12]
        if kind in (b"IDAT", b"IEND"):
            return None
        at += 12 + length
    return None


def own_space(info: Mapping[Any, Any]) -> str:
    """Describe the colour space in an image's ``info``; "" if it is sRGB."""
    if (cicp := info.get("cicp")) is not None:
        primaries, transfer = cicp[0], cicp[1]
        same = (primaries, transfer) == (_BT709_PRIMARIES, _SRGB_TRANSFER)
        return "" if same else f"cICP with primaries {primaries} and transfer {transfer}"
    if (profile := info.get("icc_profile")) is not None:
        name = _profile_name(profile)
        return "" if "srgb" in name.lower() else f'the profile "{name}"' if name else "a profile that cannot be read"
    if info.get("srgb") is not None:
        return ""
    gamma, chromaticity = info.get("gamma", _SRGB_GAMMA), info.get("chromaticity", _SRGB_CHROMATICITY)
    near = zip(chromaticity, _SRGB_CHROMATICITY, strict=True)
    found = [] if abs(gamma - _SRGB_GAMMA) < 0.01 else [f"gAMA {gamma:.5g}"]
    found += [] if all(abs(a - b) < 0.005 for a, b in near) else ["cHRM of other primaries"]
    return " and ".join(found)


def _profile_name(profile: bytes) -> str:
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (OSError, ImageCms.PyCMSError):
        return ""
