"""Pictures from outside: checked by their first bytes, decoded within limits, and encoded again as PNG.

What is stored is only what the decoder understood: pixels and their colour space. Names, comments, positions and
whatever else a file holds are gone.
"""

import io
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image

from cloisonne.errors import ImageError, SceneError
from cloisonne.scene.io.image_ref import ImageRef, encoded
from cloisonne.scene.io.images import opened, orientation, turned_upright
from cloisonne.scene.io.png_record import SIGNATURE, read_record
from cloisonne.studio.settings import Limits

FORMATS = ("PNG", "JPEG", "WEBP")
_UNUSED = ("exif", "dpi")
"""Metadata that may reveal where a photo was taken, or means nothing here."""


def as_png(data: bytes, role: str, limits: Limits) -> bytes:
    """Decode a PNG, JPEG or WebP file and encode it again as PNG, upright.

    Raises:
        ImageError: it is of another format, damaged, animated or larger than ``limits.pixels``.
    """
    check_size(data, role, limits)
    image = opened(ImageRef(data=data), role)
    image = turned_upright(image, orientation(image)) if image.getexif() else image
    for name in _UNUSED:
        image.info.pop(name, None)
    return encoded(image)


def check_size(data: bytes, role: str, limits: Limits) -> None:
    """Raise ImageError for a picture that is too large or none, by its header alone."""
    side = round(limits.pixels**0.5)
    too_large = f"but at most {side} x {side} are allowed; shrink it."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise ImageError(f"The {role} has more than {Image.MAX_IMAGE_PIXELS} pixels, {too_large}") from None
    # Decoders raise all kinds of exceptions for damaged files.
    except Exception:
        raise ImageError(f"The {role} is no PNG, JPEG or WebP picture that can be read; give one of these.") from None
    if width * height > limits.pixels:
        raise ImageError(f"The {role} has {width} x {height} pixels, {too_large}")


def embedded_scene(data: bytes) -> Mapping[str, Any] | None:
    """The scene's object in a generated PNG, or None if the file has none."""
    if not data.startswith(SIGNATURE):
        return None
    try:
        return read_record(data, "The picture").scene
    except (SceneError, ImageError):
        return None
