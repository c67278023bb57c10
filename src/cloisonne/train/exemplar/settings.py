"""The settings of Paint by Example's training beside those of every training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cloisonne.train.engine import settings

BUILTIN_ENCODER = "builtin"
CONTEXTS = ("pooled", "all")


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Which boxes, masks and exemplars are shown, and what is trained."""

    counts = ("mapper_blocks", "rank")
    shares = ("min_area", "max_area", "arbitrary_mask_percent", "whole_mask_percent", "proportion_null", "style_pairs")
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"context": CONTEXTS}

    image_encoder: Annotated[
        str, 'CLIP\'s image tower: "builtin", or a folder or hub id of a CLIP model, such as clip-vit-large-patch14.'
    ] = BUILTIN_ENCODER
    context: Annotated[str, f"One of {', '.join(CONTEXTS)}: the exemplar as one token, or as one a patch."] = "pooled"
    mapper_blocks: Annotated[int, "Blocks between image tower and token."] = 5
    augment: Annotated[bool, "Turn, warp and blur the exemplar, so that it cannot be copied."] = True
    min_area: Annotated[float, "Smallest box, as a share of the picture."] = 0.02
    max_area: Annotated[float, "Largest box."] = 0.8
    arbitrary_mask_percent: Annotated[float, "Share of the masks that are blobs and not rectangles."] = 0.5
    whole_mask_percent: Annotated[float, "Share of the masks that are the whole picture."] = 0.1
    proportion_null: Annotated[float, "Share of the pictures told no exemplar, for guidance by similarity."] = 0.2
    style_pairs: Annotated[float, "World only: share of the pictures told another whole one of their style."] = 0.05
    lora: Annotated[bool, "Train low-rank adapters of the UNet, its first layer and the encoder's head only."] = False
    rank: Annotated[int, "Rank of the adapters."] = 32
    adapter: Annotated[str | None, "With --lora: the folder adapter/ of an earlier training, to begin with."] = None

    def _faults(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._faults()
        yield "adapter", self.adapter, self.adapter is not None and not self.lora, "give --lora, too, or leave it out"
