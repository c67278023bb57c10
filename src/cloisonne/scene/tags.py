"""What texts of other programs hold beside words: LoRA and embedding tags, BREAK and AND. Pure text.

Nothing between ``{`` and ``}`` and nothing behind a ``\\`` is a tag.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.values import shown

_TAGS = re.compile(
    r"(?P<quoted>\\.|\{[^}]*\})|(?P<bracket>[\[\]])"
    r"|<(?P<kind>lora|lyco|hypernet):(?P<name>[^<>:]+)(?P<scale>:[^<>]*)?>"
    r"|(?<![\w<])embedding:(?P<word>[\w<>.-]*[\w>])"
    r"|(?P<control>\bBREAK\b|\bAND\b)|(?P<wildcard>__\w[\w/-]*__)",
    re.DOTALL | re.IGNORECASE,
)
_ADVICE = {
    "BREAK": "texts are not cut in chunks here; write a comma, or give each part a region of its own",
    "AND": "texts are not mixed by it here; write a comma, or give each part a region of its own",
    "wildcard": "there are no files of wildcards here; write the options, {red|blue|green}",
    "hypernet": "hypernetworks are not read here; use a LoRA",
}


class Untagged(NamedTuple):
    """text: without its LoRA tags, embeddings as their words. loras: of the tags. notes: the ends of warnings about
    what stays in the text and is read as letters, each behind "the text holds"."""

    text: str
    loras: tuple[Lora, ...]
    notes: tuple[str, ...]


@dataclass
class _Reader:
    learned: Callable[[str], str | None]
    text: str
    depth: int = 0

    def __post_init__(self) -> None:
        self.loras: list[Lora] = []
        self.notes: list[str] = []

    def take(self, match: re.Match[str]) -> str:
        """What stands in the place of one match."""
        if match["bracket"]:
            self.depth = max(0, self.depth + (1 if match[0] == "[" else -1))
        elif match["kind"]:
            return self._extension(match)
        elif match["word"]:
            if (word := self.learned(match["word"])) is not None:
                return word
            self.notes.append(
                f"{shown(match[0])}, which is no learned word of the model; load its file as an embedding"
            )
        # Capitals alone are the operators, and not where all is written in capitals.
        elif match["control"] in ("BREAK", "AND") and self.text != self.text.upper():
            self.notes.append(f'"{match[0]}", but {_ADVICE[match[0]]}')
        elif match["wildcard"]:
            self.notes.append(f"{shown(match[0])}, but {_ADVICE['wildcard']}")
        return match[0]

    def _extension(self, match: re.Match[str]) -> str:
        if match["kind"].lower() == "hypernet":
            self.notes.append(f"{shown(match[0])}, but {_ADVICE['hypernet']}")
            return match[0]
        if self.depth:
            raise SceneError(
                f"The text {shown(self.text)} has {shown(match[0])} between square brackets, but LoRAs have no "
                "schedules of words; write it outside of them, or give a region start and stop."
            )
        try:
            scale = float((match["scale"] or ":1")[1:])
        except ValueError:
            raise SceneError(
                f"The text {shown(self.text)} has {shown(match[0])}; write a name and one number, as in <lora:ink:0.8>."
            ) from None
        self.loras.append(Lora(name=match["name"].strip(), scale=scale))
        return ""


def untagged(text: str, learned: Callable[[str], str | None]) -> Untagged:
    """Read the tags of a text. learned: the model's word for an embedding's name, or None where it has none.

    Raises SceneError for tags that cannot be meant.
    """
    reader = _Reader(learned, text)
    plain = _TAGS.sub(reader.take, text)
    if reader.loras:
        plain = re.sub(r"\s*,\s*(?=,|$)", "", re.sub(r"[ \t]{2,}", " ", plain)).strip().removeprefix(",").strip()
    return Untagged(plain, tuple(reader.loras), tuple(dict.fromkeys(reader.notes)))


def added(own: tuple[Lora, ...], more: tuple[Lora, ...]) -> tuple[Lora, ...]:
    """LoRAs of two sources by name, their scales added up."""
    scales: dict[str, float] = {}
    for lora in (*own, *more):
        scales[lora.name] = scales.get(lora.name, 0.0) + lora.scale
    return tuple(Lora(name=name, scale=scale) for name, scale in sorted(scales.items()))
