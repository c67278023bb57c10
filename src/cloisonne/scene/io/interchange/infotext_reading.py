"""Reads AUTOMATIC1111's infotext: from the metadata of an image, and from the text to prompt, negative and settings.

PNG has it as text under ``parameters``, JPEG and WebP as EXIF user comment.
"""

import io
import json
import re
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from cloisonne.errors import ImageError
from cloisonne.scene.io.infotext import PARAMETERS
from cloisonne.scene.io.quiet import without_warnings

_SETTING = re.compile(r'\s*(\w[\w \-/.]*?):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_LEAST = 3
"""A line with fewer settings is part of the prompt."""
_STEPS, _NEGATIVE = "Steps", "Negative prompt:"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_CODE = 8
"""Bytes at the start of a user comment that name its encoding."""


@dataclass
class Infotext:
    """An infotext in its parts.

    Attributes:
        prompt, negative: may have several lines.
        settings: by name, in order. Readers take out what they use.
        more: lines after the settings.
    """

    prompt: str
    negative: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    def taken(self, start: str) -> dict[str, str]:
        """Take out the settings whose names begin with ``start``."""
        found = {name: value for name, value in self.settings.items() if name.startswith(start)}
        for name in found:
            del self.settings[name]
        return found


def parsed(text: str) -> Infotext:
    """Split an infotext into its parts. The settings are the last line that has ``Steps`` and two others."""
    lines = text.replace("\r\n", "\n").strip().split("\n")
    at = next((k for k in reversed(range(len(lines))) if _STEPS in _settings(lines[k])), len(lines))
    texts, settings = lines[:at], _settings(lines[at]) if at < len(lines) else {}
    start = next((k for k, line in enumerate(texts) if line.lstrip().startswith(_NEGATIVE)), at)
    negative = "\n".join(texts[start:]).strip().removeprefix(_NEGATIVE)
    return Infotext("\n".join(texts[:start]).strip(), negative.strip(), settings, tuple(filter(None, lines[at + 1 :])))


def is_infotext(text: str) -> bool:
    """Whether a text has a line of settings or a negative prompt, as only an infotext has."""
    found = parsed(text)
    return bool(found.settings or found.negative)


def _settings(line: str) -> dict[str, str]:
    """The settings of a line; none if it is part of a prompt."""
    found = {name.strip(): _unquoted(value.strip()) for name, value in _SETTING.findall(line)}
    return found if len(found) >= _LEAST else {}


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value


def image_texts(data: bytes, name: str) -> dict[str, str]:
    """The texts in an image file's metadata by key; the infotext of any format under ``parameters``.

    Raises:
        ImageError: it is no PNG, JPEG or WebP file, or damaged; the message calls it ``name``.
    """
    try:
        with without_warnings(), Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            if image.format == "PNG":
                image.load()  # texts may stand after the pixels
            texts = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
            comment = image.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT)
    # The decoder raises all kinds of exceptions for damaged files.
    except Exception as error:
        raise ImageError(f"{name} cannot be read as an image ({error}); save it again from its original.") from None
    if comment and PARAMETERS not in texts:
        texts[PARAMETERS] = _comment(comment)
    return texts


def _comment(comment: Any) -> str:
    """Decode an EXIF user comment. UTF-16 of either byte order stands after ``UNICODE``; tools differ in it."""
    if isinstance(comment, str):
        return comment.removeprefix("UNICODE").lstrip("\0")
    code, body = comment[:_CODE], comment[_CODE:]
    if not code.startswith(b"UNICODE"):
        return (body if code.rstrip(b"\0") in (b"", b"ASCII") else comment).decode("utf-8", "replace").strip("\0")
    texts = [body.decode(order, "replace") for order in ("utf-16-be", "utf-16-le")]
    return max(texts, key=lambda text: sum(character.isascii() for character in text)).strip("\ufeff\0")
