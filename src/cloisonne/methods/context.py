"""What a method compiles from: the scene, the model, and encoders of text, exemplars and control images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.guidance import Cfg, Rescale
from cloisonne.core.plan import Conditioning, Interval, Tokens
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import Piece, pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """The resolved scene, the model, the grid (H, W) of latents, the number of steps, and how things are encoded.

    blank: texts are zeros, and no network runs. shared: what conditions every branch of every text-conditioned view
    besides text and regions: the channels of an inpainting network, the size of SDXL. hole: latents [C, H, W] of what
    is known, with grey where nothing is, and [height, width], 1 where it is preserved. encode_image: an exemplar's
    image, or None for the null image, to tokens [N, D]; N = 1 but for IP-Adapters. encode_control: a region's control
    to features [C_i, H_i, W_i], or to the control image [3, height, width] of a ControlNet. summarised: whether views
    need a summary text of the whole window, as ControlNets do.
    """

    scene: Scene
    model: Model
    grid: tuple[int, int]
    num_steps: int
    shared: Conditioning
    hole: tuple[Tensor, Tensor]
    encode_image: Callable[[Image.Image | None], Tensor]
    encode_control: Callable[[Region], tuple[Tensor, ...]]
    summarised: bool = False
    blank: bool = False
    _controls: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    _texts: dict[tuple[object, ...], EncodedText] = field(default_factory=dict)
    _images: dict[str, Tensor] = field(default_factory=dict)

    def at_progress(self, progress: float) -> "Context":
        """The same with the scene's texts as they are when ``progress`` in [0, 1) of the steps is done."""
        return replace(self, scene=self.scene.at_progress(progress, self.num_steps))

    def encode(self, text: str, region: str | None = None) -> EncodedText:
        """A text by the weights of its words, padded as its encoder does; each text is encoded once.

        Raises SceneError, about the region if there is one, where it is too long.
        """
        return self.encode_pieces(pieces(text), region)

    def encode_pieces(self, parts: Sequence[Piece], region: str | None = None) -> EncodedText:
        """The same of a text in pieces, whose places are in ``EncodedText.word_spans``."""
        key = tuple(parts)
        if key not in self._texts:
            self._texts[key] = self.model.text.encode(key, region=region, blank=self.blank)
        return self._texts[key]

    def encode_negative(self, region: Region | None = None) -> EncodedText:
        """The scene's negative, and a region's own behind it.

        Nothing is the empty text, or zeros where the model was trained with zeros.
        """
        own, name = (region.negative, region.name) if region else ("", None)
        text = ", ".join(filter(None, [self.scene.negative, own]))
        if text or not self.model.text.zero_when_empty:
            return self.encode(text, name)
        return self.model.text.blank()

    def encode_tokens(self, ids: Sequence[int], weights: Sequence[float] = ()) -> EncodedText:
        """Token ids and the weight of each; () is 1 for all. For methods that build sequences of their own."""
        key = ("ids", tuple(ids), tuple(weights))
        if key not in self._texts:
            encoder: Any = self.model.text
            self._texts[key] = encoder.encode_ids(ids, weights, blank=self.blank)
        return self._texts[key]

    def summary(self, text: str) -> Conditioning:
        """What a view has of ``text`` as a whole: pooled text, and the summary that ControlNets read, one chunk."""
        return self._summary(lambda: self.encode(text))

    def negative_summary(self, region: Region | None = None) -> Conditioning:
        """The same of the null branch: of the scene's negative, or the region's."""
        return self._summary(lambda: self.encode_negative(region))

    def _summary(self, encode: Callable[[], EncodedText]) -> Conditioning:
        """encode: not called for networks that need neither."""
        return Conditioning(
            pooled=encode().pooled if self.model.text.pooled_width else None,
            summary=encode().tokens[: self.model.text.length] if self.summarised else None,
        )

    def image_tokens(self, region: Region) -> Tensor:
        """[N, D]: the tokens of a region's exemplar; its image is encoded once."""
        assert region.exemplar is not None, "the region has an exemplar"
        name = region.name or ""
        if name not in self._images:
            self._images[name] = self.encode_image(region.exemplar.rgb(region.name))
        return self._images[name]

    def null_image_tokens(self) -> Tensor:
        """[N, D]: the tokens of no exemplar."""
        return self.encode_image(None)

    def control_features(self, region: Region) -> tuple[Tensor, ...]:
        """[C_i, H_i, W_i] of every level of a region's control, or its control image; made once."""
        name = region.name or ""
        if name not in self._controls:
            self._controls[name] = self.encode_control(region)
        return self._controls[name]

    def tensor(self, mask: Mask) -> Tensor:
        """A mask [H, W] as a tensor on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(mask)).to(self.model.device)

    def guidance(self, region: Region | None = None) -> float:
        """The region's guidance scale, or the scene's; with an IP-Adapter its similarity is that scale too."""
        own = None if region is None else region.guidance
        if own is None and region is not None and self.model.ip_adapter is not None:
            own = region.similarity
        scale = self.scene.guidance if own is None else own
        assert scale is not None, "a resolved scene has guidance"
        return scale

    def guide(self, scale: float | Tensor) -> Cfg:
        """Classifier-free guidance with the scene's interval and rescaling; scale: a number or a map [H, W]."""
        amount = self.scene.guidance_rescale
        return Cfg(
            scale=scale,
            interval=Interval(*self.scene.guidance_interval),
            rescale=Rescale(amount, self.model.schedule.prediction) if amount else None,
        )


def tokens_of(text: EncodedText, mask: Tensor | None = None, region: str | None = None) -> Tokens:
    """An encoded text as a piece of conditioning. mask: [H, W]. region: the name of the region it is about."""
    return Tokens(text.tokens, mask=mask, ids=text.ids, region=region)
