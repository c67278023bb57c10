"""What a method or condition compiles from: the scene, the model, the grid and the encoders."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.joint_blocks import JointOptions
from cloisonne.core.attention.transfer import to_device
from cloisonne.core.guidance import Cfg, Rescale
from cloisonne.core.plan import Conditioning, Interval, Tokens
from cloisonne.methods.encoder import Encoder
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Frame
from cloisonne.scene.shapes.masks import Mask

ISOLATE = 0.15
"""For this fraction of the steps, image tokens of a region attend only to image tokens of the region; 10 to 20 % in
3DIS-FLUX (arXiv 2501.05131). Not measured here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """Inputs of a compilation.

    Attributes:
        scene: resolved.
        grid: (H, W) of the latents.
        frame: the canvas in pixels, and the part of the background that it is.
        num_steps: of denoising.
        encoder: encodes texts, and what conditions bring; each thing once.
        summarised: whether views need a summary text of the whole canvas, as ControlNets do.
    """

    scene: Scene
    model: Model
    grid: tuple[int, int]
    frame: Frame
    num_steps: int
    encoder: Encoder
    summarised: bool = False

    def at_progress(self, progress: float) -> "Context":
        """The same with the scene's texts as they are when ``progress`` in [0, 1) of the steps is done."""
        return replace(self, scene=self.scene.at_progress(progress, self.num_steps))

    def encode_negative(self, region: Region | None = None) -> EncodedText:
        """The scene's negative, and a region's own behind it.

        Nothing is the empty text, or zeros where the model was trained with zeros.
        """
        own, name = (region.negative, region.name) if region else ("", None)
        text = ", ".join(filter(None, [self.scene.negative, own]))
        if text or not self.model.text.zero_when_empty:
            return self.encoder.text(text, name)
        return self.model.text.blank()

    def summary(self, text: str) -> Conditioning:
        """What a view has of ``text`` as a whole: pooled text, and the summary that ControlNets read, one chunk."""
        return self._summary(lambda: self.encoder.text(text))

    def negative_summary(self, region: Region | None = None) -> Conditioning:
        """The same of the null branch: of the scene's negative, or the region's."""
        return self._summary(lambda: self.encode_negative(region))

    def _summary(self, encode: Callable[[], EncodedText]) -> Conditioning:
        """encode: not called for networks that need neither."""
        return Conditioning(
            pooled=encode().pooled if self.model.text.pooled_width else None,
            summary=encode().tokens[: self.model.text.length] if self.summarised else None,
        )

    def shared(self) -> Conditioning:
        """What conditions every branch of every text-conditioned view besides text and regions.

        The canvas size and the guidance where the network takes them, and the masked-image channels of an inpainting
        network.
        """
        width, height = self.frame.canvas
        micro = {"size": (height, width, 0.0, 0.0, height, width), "guidance": (self.guidance(),)}
        micro = {name: value for name, value in micro.items() if name in self.model.spec.micro}
        if not self.model.spec.inpaints or self.model.image_only:
            return Conditioning(micro=micro)
        known, keep = self.encoder.known()
        if self.model.spec.masks_pixels:
            # What is known, then the mask of each pixel, 1 where it may change.
            free = F.pixel_unshuffle(1 - keep[None], self.model.spec.vae_factor)
            return Conditioning(channels=torch.cat([known, free.to(known)]), micro=micro)
        # In the network's order (arXiv 2112.10752, section 4.5): 1 where any pixel may change, then what is known.
        free = F.adaptive_max_pool2d(1 - keep[None], known.shape[-2:])
        return Conditioning(channels=torch.cat([free.to(known), known]), micro=micro)

    def joint_options(self) -> JointOptions:
        """How regions hold in joint attention, by the scene and the defaults."""
        isolate, blocks = self.scene.isolate, self.scene.blocks
        return JointOptions(isolate=ISOLATE if isolate is None else isolate, every=1 if blocks is None else blocks)

    def tensor(self, mask: Mask) -> Tensor:
        """A mask [H, W] as a tensor on the model's device."""
        return to_device(torch.from_numpy(np.ascontiguousarray(mask)), self.model.device)

    def guidance(self, region: Region | None = None) -> float:
        """The region's guidance scale, or the scene's.

        Where its exemplar is an image prompt or a reference image, its similarity is that scale too.
        """
        own = None if region is None else region.guidance
        if own is None and region is not None and (self.model.ip_adapter or self.model.spec.takes_references):
            own = region.similarity
        scale = self.scene.guidance if own is None else own
        assert scale is not None, "a resolved scene has guidance"
        return scale

    def guide(self, scale: float | Tensor) -> Cfg:
        """Classifier-free guidance with the scene's interval and rescaling; scale: a number or a map [H, W].

        Without a null branch where the scale is an input of the network.
        """
        if self.model.spec.embeds_guidance:
            return Cfg(scale=1.0)
        amount = self.scene.guidance_rescale
        return Cfg(
            scale=scale,
            interval=Interval(*self.scene.guidance_interval),
            rescale=Rescale(amount, self.model.schedule.prediction) if amount else None,
        )


def tokens_of(text: EncodedText, mask: Tensor | None = None, region: str | None = None) -> Tokens:
    """An encoded text as a piece of conditioning. mask: [H, W]. region: the name of the region it is about."""
    return Tokens(text.tokens, mask=mask, ids=text.ids, region=region)
