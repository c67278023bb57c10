"""What a method sees while it compiles: the scene, the model, and how text becomes what a network hears."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest
from cloisonne.core.guidance import Cfg, Rescale
from cloisonne.core.plan import Conditioning, Interval
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """The resolved scene, the model, the grid (H, W) of latents, the walk's steps, and how ids [N] are said.

    shared: what every branch of every view is told besides its text, such as the channels of an inpainting network.
    hole: latents [C, H, W] of what is known, with grey where it is not, and [height, width], 1 where it is kept.
    looks: how an exemplar's picture, or None for none, becomes tokens [N, D]; N = 1 but for IP-Adapters. seen, unseen:
    the pictures that "cond" and "null" of every view that hears words look at, with an IP-Adapter.
    obeys: the features [C_i, H_i, W_i] of a region's control, or for a ControlNet what it is shown, [3, height, width].
    beside: ControlNets of every branch, yet without the text that they hear.
    """

    scene: Scene
    model: Model
    grid: tuple[int, int]
    num_steps: int
    say: Callable[[Sequence[int]], EncodedText]
    shared: Conditioning
    hole: tuple[Tensor, Tensor]
    looks: Callable[[Image.Image | None], Tensor]
    obeys: Callable[[Region], tuple[Tensor, ...]]
    beside: tuple[ControlNetRequest, ...] = ()
    seen: Conditioning = field(default_factory=Conditioning)
    unseen: Conditioning = field(default_factory=Conditioning)
    _features: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    _known: dict[tuple[tuple[int, ...], tuple[float, ...]], EncodedText] = field(default_factory=dict)
    _pictures: dict[str, Tensor] = field(default_factory=dict)

    def tokens(self, ids: Sequence[int], weights: Sequence[float] = ()) -> Tensor:
        """[N, D], on the model's device; the same ids are encoded once. weights: of the tokens; () is 1 for all.

        A token counts as in ComfyUI and InvokeAI: ``e + weight * (z - e)`` of its z and the e that the empty text has
        in its place. AUTOMATIC1111 multiplies z and restores the mean of the sequence, which needs a mean that is far
        from 0; the built-in encoder's is not.
        """
        return self._said(ids, weights).tokens

    def ids_of(self, tokens: Tensor) -> tuple[int, ...] | None:
        """The ids that were encoded to these very tokens; None for a part of a text, or what was not said here."""
        return next((ids for (ids, _), said in self._known.items() if said.tokens is tokens), None)

    def ids_in(self, tokens: Tensor) -> tuple[int, ...] | None:
        """The ids of these tokens [N, D], which are a text that was said here or cut out of one; None for others."""
        for (ids, _), said in self._known.items():
            if tokens.untyped_storage().data_ptr() == said.tokens.untyped_storage().data_ptr():
                first = int(tokens.storage_offset() - said.tokens.storage_offset()) // int(tokens.stride(0))
                return ids[first : first + len(tokens)]
        return None

    def at_progress(self, progress: float) -> "Context":
        """The same where the scene says what it does when ``progress`` in [0, 1) of the walk lies behind."""
        return replace(self, scene=self.scene.at_progress(progress, self.num_steps))

    def heard(self, text: str, region: str | None = None) -> Tensor:
        """[N, D]: text by the weights of its words, padded as Stable Diffusion does.

        SceneError about the region where it is too long.
        """
        return self._text(text, region).tokens

    def avoided(self, region: Region | None = None) -> Tensor:
        """[N, D]: what the scene avoids, and a region's own negative behind it."""
        return self._unsaid(region).tokens

    def overall(self, text: str) -> Conditioning:
        """What a view is told as a whole, besides its tokens, where ``text`` sums up what it hears."""
        return self._overall(lambda: self._text(text)) + self.seen

    def overall_avoided(self, region: Region | None = None) -> Conditioning:
        """The same of a null branch that avoids as a whole what the scene does, or what the region does."""
        return self._overall(lambda: self._unsaid(region)) + self.unseen

    def _overall(self, said: Callable[[], EncodedText]) -> Conditioning:
        """said: encodes the text, which is not done for networks that do not hear it."""
        pooled = said().pooled if self.model.text.pooled_width else None
        beside = tuple(replace(one, heard=said().tokens) for one in self.beside)
        return Conditioning(pooled=pooled, beside=beside) + self.shared

    def picture(self, region: Region) -> Tensor:
        """[N, D]: the tokens of a region's exemplar; a network is asked once."""
        assert region.exemplar is not None, "the region has an exemplar"
        name = region.name or ""
        if name not in self._pictures:
            self._pictures[name] = self.looks(region.exemplar.rgb(region.name))
        return self._pictures[name]

    def features(self, region: Region) -> tuple[Tensor, ...]:
        """[C_i, H_i, W_i] of every level of a region's control, or the map; the adapter is asked once."""
        name = region.name or ""
        if name not in self._features:
            self._features[name] = self.obeys(region)
        return self._features[name]

    def no_picture(self) -> Tensor:
        """[N, D]: the tokens of no exemplar."""
        return self.looks(None)

    def tensor(self, mask: Mask) -> Tensor:
        """A mask [H, W] as a tensor on the model's device."""
        return torch.from_numpy(np.ascontiguousarray(mask)).to(self.model.device)

    def guidance(self, region: Region | None = None) -> float:
        """The region's scale of guidance, or the scene's; with an IP-Adapter its similarity is that scale too."""
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

    def _text(self, text: str, region: str | None = None) -> EncodedText:
        text_encoder, said = self.model.text, pieces(text)
        ids = text_encoder.ids(*(piece.words for piece in said), region=region)
        if all(piece.weight == 1 for piece in said):
            return self._said(ids)
        weights = [piece.weight for piece in said for _ in text_encoder.words(piece.words)]
        return self._said(ids, [1.0, *weights, *[1.0] * (len(ids) - 1 - len(weights))])

    def _unsaid(self, region: Region | None) -> EncodedText:
        """What is avoided; nothing to avoid is an empty text, or zeros where the model was trained with zeros."""
        own, name = (region.negative, region.name) if region else ("", None)
        text = ", ".join(filter(None, [self.scene.negative, own]))
        if text or not self.model.text.silent:
            return self._text(text, name)
        return self.model.text.blank(self.model.text.length, self.model.device)

    def _said(self, ids: Sequence[int], weights: Sequence[float] = ()) -> EncodedText:
        key = (tuple(ids), tuple(weights) if any(weight != 1 for weight in weights) else ())
        if key not in self._known:
            self._known[key] = self._weighted(ids, weights) if key[1] else self.say(ids)
        return self._known[key]

    def _weighted(self, ids: Sequence[int], weights: Sequence[float]) -> EncodedText:
        """The pooled text has no tokens, and so no weights."""
        said, nothing = self._said(ids), self._said(self.model.text.ids()).tokens
        weight = said.tokens.new_tensor(weights)[:, None]
        return EncodedText(
            torch.where(weight == 1, said.tokens, nothing + weight * (said.tokens - nothing)), said.pooled
        )
