"""The settings of ReCo's training beside those of every training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cloisonne.train.engine import settings


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Flips, words, position tokens, and adapters."""

    counts = ("max_length", "num_bins", "max_regions", "rank")
    shares = ("proportion_empty_prompts",)

    random_flip: Annotated[bool, "Mirror half of the pictures, and the words left and right with them."] = True
    proportion_empty_prompts: Annotated[float, "Share of the pictures told without words, for guidance."] = 0.1
    max_length: Annotated[int | None, "Tokens of a text; 616, or the base's own if it has position tokens."] = None
    num_bins: Annotated[int | None, "Position tokens; 1000, or the base's own."] = None
    max_regions: Annotated[int, "Most regions a picture is told with."] = 20
    lora: Annotated[bool, "Train low-rank adapters of the attention and the new rows only."] = False
    rank: Annotated[int, "Rank of the adapters."] = 16

    def _faults(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._faults()
        yield "num_bins", self.num_bins, self.num_bins == 1, "give two bins at least, the two edges"
