"""Settings of Paint by Example training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from cloisonne.train.engine import settings

BUILTIN_ENCODER = "builtin"
CONTEXTS = ("pooled", "all")


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    """Boxes, masks, exemplars, and the parameters that are trained."""

    counts = ("mapper_blocks", "rank")
    shares = ("min_area", "max_area", "arbitrary_mask_percent", "whole_mask_percent", "proportion_null", "style_pairs")
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"context": CONTEXTS}

    image_encoder: Annotated[
        str, 'CLIP image encoder: "builtin", or a folder or hub id of a CLIP model, such as clip-vit-large-patch14.'
    ] = BUILTIN_ENCODER
    context: Annotated[str, f"One of {', '.join(CONTEXTS)}: one token per exemplar, or one token per patch."] = "pooled"
    mapper_blocks: Annotated[int, "Transformer blocks between the image encoder and the token."] = 5
    augment: Annotated[bool, "Mirror, rotate, warp and blur the exemplar, to prevent copying."] = True
    min_area: Annotated[float, "Smallest box area, as a fraction of the image."] = 0.02
    max_area: Annotated[float, "Largest box area, as a fraction of the image."] = 0.8
    arbitrary_mask_percent: Annotated[float, "Fraction of the masks that are blobs instead of rectangles."] = 0.5
    whole_mask_percent: Annotated[float, "Fraction of the masks that cover the whole image."] = 0.1
    proportion_null: Annotated[float, "Fraction of the images without exemplar, for classifier-free guidance."] = 0.2
    style_pairs: Annotated[float, "World only: fraction of the images with an image of the same style as exemplar."] = (
        0.05
    )
    lora: Annotated[bool, "Train only LoRA adapters of the UNet, its first layer and the encoder's head."] = False
    rank: Annotated[int, "Rank of the LoRA adapters."] = 32
    adapter: Annotated[str | None, "With --lora: folder adapter/ of an earlier training to start from."] = None

    def _checks(self) -> Iterator[tuple[str, Any, bool, str]]:
        yield from super()._checks()
        yield "adapter", self.adapter, self.adapter is not None and not self.lora, "give --lora as well, or omit it"
