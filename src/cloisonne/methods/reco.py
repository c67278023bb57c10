"""ReCo's token sequence: caption and regions with position tokens between them (Yang et al., CVPR 2023, arXiv 2211.15518, section 3.1).

    [BOS] caption [EOS]  x0 y0 x1 y1 [BOS] phrase [EOS]  x0 y0 x1 y1 [BOS] phrase [EOS] ... [EOS] padding
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloisonne.errors import CapabilityError, SceneError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer offers to ReCo: the ids of its start, end and position tokens, and its length."""

    start: int
    end: int
    first_bin: int
    bins: int
    length: int

    @classmethod
    def of(cls, tokenizer: Any) -> "Vocabulary":
        """Read it from a transformers tokenizer; CapabilityError where there are no position tokens."""
        added = {token: index for token, index in tokenizer.get_vocab().items() if re.fullmatch(r"<bin\d+>", token)}
        if not added:
            raise CapabilityError("The model's tokenizer has no position tokens (<bin000> ...): load a ReCo checkpoint, or choose --method attention.")
        ids = sorted(added.values())
        if ids != list(range(ids[0], ids[0] + len(ids))):
            raise CapabilityError(f"The model's {len(ids)} position tokens do not have consecutive ids: its tokenizer is damaged.")
        return cls(start=tokenizer.bos_token_id, end=tokenizer.eos_token_id, first_bin=ids[0], bins=len(ids), length=tokenizer.model_max_length)

    def position(self, value: float) -> int:
        """Id of a coordinate in [0, 1]: the nearest of ``bins`` steps, halves to even."""
        return self.first_bin + int(round(value * (self.bins - 1)))


def normalise(text: str) -> str:
    """The published text clean-up: lower case, no leading marks, hyphens and slashes as spaces, single spaces."""
    text = text.lower().lstrip(",.!?*#:;~").replace("-", " ").replace("/", " ")
    return " ".join(text.split())


def sequence(tokenizer: Any, caption: str, regions: Sequence[tuple[Box, str]], *, vocabulary: Vocabulary | None = None) -> tuple[list[int], list[int]]:
    """Ids padded to the tokenizer's length, and the indices of the regions that fit.

    Regions are taken in the given order; one that would not fit whole is left out, never cut, and the ones after it still get their chance.
    Raises SceneError when the caption alone does not fit.
    """
    v = vocabulary or Vocabulary.of(tokenizer)
    ids = _words(tokenizer, v, caption)
    if len(ids) > v.length:
        raise SceneError(f"The caption takes {len(ids)} tokens, but the model reads at most {v.length}: shorten it.")
    kept = []
    for index, (box, phrase) in enumerate(regions):
        part = [v.position(value) for value in box] + _words(tokenizer, v, phrase)
        if len(ids) + len(part) <= v.length:
            ids += part
            kept.append(index)
    return ids + [v.end] * (v.length - len(ids)), kept


def _words(tokenizer: Any, v: Vocabulary, text: str) -> list[int]:
    return [v.start, *tokenizer(normalise(text), add_special_tokens=False).input_ids, v.end]
