"""Tags in prompts of other tools: LoRAs, embeddings, BREAK, AND, wildcards. Pure text.

Text between ``{`` and ``}`` and text after a ``\\`` is never a tag.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.values import brief

_TAGS = re.compile(
    r"(?P<quoted>\\.|\{[^}]*\})|(?P<bracket>[\[\]])"
    r"|<(?P<kind>lora|lyco|hypernet):(?P<name>[^<>:]+)(?P<scale>:[^<>]*)?>"
    r"|(?<![\w<])embedding:(?P<word>[\w<>.-]*[\w>])"
    r"|(?P<control>\bBREAK\b|\bAND\b)|(?P<wildcard>__\w[\w/-]*__)",
    re.DOTALL | re.IGNORECASE,
)
_ADVICE = {
    "BREAK": "prompts are not split into chunks; write a comma, or give each part its own region",
    "AND": "prompts are not composed with it; write a comma, or give each part its own region",
    "wildcard": "wildcard files are not supported; list the options, as in {red|blue|green}",
    "hypernet": "hypernetworks are not supported; use a LoRA",
}


class Untagged(NamedTuple):
    """A text without its tags.

    Attributes:
        text: without LoRA tags; embedding tags are replaced by the embeddings' tokens.
        loras: the LoRAs that the tags name.
        notes: about syntax that stays in the text as plain text. Each completes "The scene's caption holds ...".
    """

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
        """Return the replacement of one match."""
        if match["bracket"]:
            self.depth = max(0, self.depth + (1 if match[0] == "[" else -1))
        elif match["kind"]:
            return self._extension(match)
        elif match["word"]:
            if (word := self.learned(match["word"])) is not None:
                return word
            self.notes.append(f"{brief(match[0])}, but the model has no such embedding; load its file")
        # Only capitals are operators, and only in a text that is not all capitals.
        elif match["control"] in ("BREAK", "AND") and self.text != self.text.upper():
            self.notes.append(f'"{match[0]}", but {_ADVICE[match[0]]}')
        elif match["wildcard"]:
            self.notes.append(f"{brief(match[0])}, but {_ADVICE['wildcard']}")
        return match[0]

    def _extension(self, match: re.Match[str]) -> str:
        if match["kind"].lower() == "hypernet":
            self.notes.append(f"{brief(match[0])}, but {_ADVICE['hypernet']}")
            return match[0]
        if self.depth:
            raise SceneError(
                f"The text {brief(self.text)} has {brief(match[0])} inside square brackets, but a LoRA cannot be "
                "scheduled; move it outside the brackets, or give its region start and stop."
            )
        try:
            scale = float((match["scale"] or ":1")[1:])
        except ValueError:
            raise SceneError(
                f"The text {brief(self.text)} has {brief(match[0])}; write a name and one number, as in <lora:ink:0.8>."
            ) from None
        self.loras.append(Lora(name=match["name"].strip(), scale=scale))
        return ""


def untagged(text: str, learned: Callable[[str], str | None]) -> Untagged:
    """Take the tags out of a text.

    Args:
        learned: maps an embedding's name to the model's token for it, or None if the model has no such embedding.

    Raises:
        SceneError: a tag is invalid.
    """
    reader = _Reader(learned, text)
    plain = _TAGS.sub(reader.take, text)
    if reader.loras:
        plain = re.sub(r"\s*,\s*(?=,|$)", "", re.sub(r"[ \t]{2,}", " ", plain)).strip().removeprefix(",").strip()
    return Untagged(plain, tuple(reader.loras), tuple(dict.fromkeys(reader.notes)))


def added(own: tuple[Lora, ...], more: tuple[Lora, ...]) -> tuple[Lora, ...]:
    """Merge two lists of LoRAs: scales of the same name add up."""
    scales: dict[str, float] = {}
    for lora in (*own, *more):
        scales[lora.name] = scales.get(lora.name, 0.0) + lora.scale
    return tuple(Lora(name=name, scale=scale) for name, scale in sorted(scales.items()))
