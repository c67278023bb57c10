"""Settings of ReCo training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cloisonne.train.engine import settings


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Augmentation, captions, position tokens, and LoRA."""

    counts = ("max_length", "num_bins", "max_regions", "rank")
    shares = ("proportion_empty_prompts",)

    random_flip: Annotated[bool, "Mirror half of the images, swapping the words left and right."] = True
    proportion_empty_prompts: Annotated[float, "Fraction of the images with an empty prompt, for guidance."] = 0.1
    max_length: Annotated[
        int | None, "Text length in tokens; default 616, or that of the base if it has position tokens."
    ] = None
    num_bins: Annotated[int | None, "Number of position tokens; default 1000, or that of the base."] = None
    max_regions: Annotated[int, "Maximum number of regions per image."] = 20
    lora: Annotated[bool, "Train only LoRA adapters of the attention, and the new embedding rows."] = False
    rank: Annotated[int, "Rank of the LoRA adapters."] = 16

    def _checks(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._checks()
        yield "num_bins", self.num_bins, self.num_bins == 1, "give at least 2 bins, one for each edge"
