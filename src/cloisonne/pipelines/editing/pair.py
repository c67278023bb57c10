"""A prepared scene of edits: both halves, the given image, and the decoding of two canvases to two images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.core.conditioning import Conditioning
from cloisonne.core.refines import Pin
from cloisonne.errors import SceneError
from cloisonne.methods.layout import Placed, box_of, layout, place
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.layout_guidance import refuse_layout_guidance
from cloisonne.pipelines.inpaint import CROP, BackgroundEdit, as_pixels
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.scene.before_after import BeforeAfter, halves
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import area
from cloisonne.scene.shapes.masks import Mask, resized

Segment = Callable[[Tensor], Mask]
FRESH = 0.5
"""Fraction of fresh noise where an edit keeps a given image's object; 1 where another object takes its place."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Both halves of a scene, prepared.

    scene: resolved, with its edits. picture: the background's edit, if there is a background.
    """

    scene: Scene
    parts: BeforeAfter
    before: Prepared
    after: Prepared
    picture: BackgroundEdit | None
    model: Model

    @classmethod
    def of(cls, scene: Scene, model: Model, method: str | None = None, crop: float = CROP) -> "Pair":
        """Prepare both halves. method: replaces the scene's. crop: as in :meth:`BackgroundEdit.of`."""
        if scene.region_boost == "auto":
            raise SceneError('region_boost is "auto", but the two images of an edit share one boost; give a number.')
        refuse_layout_guidance(scene, "edits")
        parts = halves(scene)
        side = min(model.native.width, model.native.height)
        picture = None if scene.background is None else BackgroundEdit.of(scene, side, crop)
        changes = {} if method is None else {"method": method}
        before = prepare(parts.before.replace(**changes), model, given=picture)
        own = {name: getattr(before.scene, name) for name in ("seed", "width", "height")}
        after = prepare(parts.after.replace(**own, **changes), model, given=picture)
        _refuse_long_texts(before, after)
        for name in (*before.compiled.dropped, *after.compiled.dropped):
            if name in parts.edited:
                raise SceneError(
                    "The edit's phrases do not fit the model's text; shorten the phrases, leave regions out, or give "
                    "this one a higher priority.",
                    region=name,
                )
        whole = before.scene.replace(regions=scene.regions)
        if method is not None:
            whole = whole.replace(method=scene.method or model.native.method)
        return cls(
            scene=whole,
            parts=parts,
            before=before,
            after=after,
            picture=picture,
            model=model,
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Size (H, W) of the latents."""
        return self.before.grid

    def placed(self) -> list[Placed]:
        """All active regions on the latent grid."""
        if self.picture is not None:
            return self.picture.placed(self.scene, self.grid)
        width, height = size_of(self.before.scene)
        masks = [(region, region.soft_mask(height, width)) for region in self.scene.active_regions]
        return [place(region, mask, box_of(region, mask), self.grid) for region, mask in masks]

    def seeds(self) -> tuple[tuple[int, Tensor], ...]:
        """(seed, mask [H, W]) of the regions with a seed of their own, in either half."""
        dropped = {*self.before.compiled.dropped, *self.after.compiled.dropped}
        placed = sorted((p for p in self.placed() if p.name not in dropped), key=lambda p: (-area(p.box), p.name))
        parts = layout(placed, self.before.ctx, weighted=False).parts
        return tuple((part.region.seed, part.share) for part in parts if part.region.seed is not None)

    @cached_property
    def pin(self) -> Pin:
        """The given image's latents and where they may change."""
        assert self.picture is not None, "there is a background"
        return self.picture.pin(self.model, size_of(self.before.scene), self.covered())

    def free(self) -> Tensor:
        """[H, W] of latents: 1 where any pixel of the cell may change, else 0."""
        return self._cells(self.covered()).to(self.model.device)

    def cells_of(self, name: str) -> Tensor:
        """[H, W] of latents: 1 where any pixel of the cell is in the region's mask, else 0."""
        return self._cells(self._region_mask(name)).to(self.model.device)

    def renoised(self, inverted: Tensor, fresh: Tensor, share: float | None = None) -> Tensor:
        """Inverted and fresh noise [C, H, W] mixed to variance 1.

        share: fraction of fresh noise in edited regions; None means 1 where an edit redraws its object, else ``FRESH``.
        """
        amount = torch.zeros(self.grid)
        for region in self.scene.active_regions:
            if region.edit is not None:
                own = share if share is not None else 1.0 if region.edit.redraws else FRESH
                amount = torch.maximum(amount, self._cells(self._region_mask(region.name or "")) * own)
        amount = amount.to(inverted.device)
        return ((1 - amount) * inverted + amount * fresh) / (amount.square() + (1 - amount).square()).sqrt()

    def covered(self) -> Mask:
        """[H, W] of pixels in [0, 1]: how much each pixel may change."""
        if self.picture is not None:
            others = [name for name in self.picture.masks if name not in self.parts.edited]
            return self.picture.covered(others)
        width, height = size_of(self.before.scene)
        return 1 - uncovered([self._region_mask(name) for name in self.parts.edited], height, width)

    def pictures(self, z: Tensor, segment: Segment | None = None) -> tuple[Image.Image, Image.Image, Image.Image]:
        """The images before, after, and after as decoded, from the canvases [2, C, H, W].

        segment: maps both decoded images [2, 3, h, w] to a mask [h, w] of the changed pixels.
        """
        covered = self.covered()
        decoded = torch.cat([self.model.vae.decode(canvas[None]) for canvas in z])
        pixels = [as_pixels(image) for image in decoded]
        if segment is not None:
            covered = covered * self._on_picture(segment(decoded))
        if self.picture is not None:
            after = self.picture.pasted(pixels[1], covered)
            return self.picture.unchanged(), after, self.picture.whole(pixels[1])
        after = Image.fromarray(_blended(pixels[0], pixels[1], covered))
        return Image.fromarray(pixels[0]), after, Image.fromarray(pixels[1])

    def difference_outside(self, before: Image.Image, after: Image.Image) -> int:
        """Largest difference of the two images outside of the edited regions, in 0 to 255."""
        covered = self.covered()
        if self.picture is not None:
            return self.picture.difference_outside(after, covered)
        pixels = [np.asarray(image).astype(int) for image in (before, after)]
        return int(np.abs(pixels[0] - pixels[1])[covered == 0].max(initial=0))

    def _on_picture(self, mask: Mask) -> Mask:
        """A mask of the canvas, placed on the background; 0 outside of the window."""
        if self.picture is None:
            return mask
        window, source = self.picture.window, self.picture.source
        whole = np.zeros((source.height, source.width), np.float32)
        whole[window.slices] = resized(mask, window.height, window.width)
        return whole

    def _region_mask(self, name: str) -> Mask:
        if self.picture is not None:
            return self.picture.masks[name]
        width, height = size_of(self.before.scene)
        return next(r.soft_mask(height, width) for r in self.scene.active_regions if r.name == name)

    def _cells(self, mask: Mask) -> Tensor:
        window = mask if self.picture is None else mask[self.picture.window.slices]
        return F.adaptive_max_pool2d(torch.from_numpy((window > 0).astype(np.float32))[None], self.grid)[0]


def _refuse_long_texts(*both: Prepared) -> None:
    """Raise SceneError for a text of several chunks: attention is shared token by token, between texts of one."""
    for prepared in both:
        encoder = prepared.ctx.model.text
        for view in prepared.compiled.plan.views:
            for branch in view.branches.values():
                assert isinstance(branch, Conditioning), "a method's branches do not depend on the step"
                if any(len(piece.value) > encoder.length for piece in branch.tokens):
                    raise SceneError(
                        f"A text of this edit takes more than {encoder.capacity} tokens, which edits cannot read; "
                        "shorten caption, phrase or negative.",
                        region=view.region,
                    )


def _blended(before: NDArray[np.uint8], after: NDArray[np.uint8], covered: Mask) -> NDArray[np.uint8]:
    """After where ``covered`` is above 0, mixed by it; exactly before elsewhere."""
    amount = covered[..., None]
    mixed = np.rint(before + amount * (after.astype(np.float32) - before)).clip(0, 255).astype(np.uint8)
    return np.where(amount > 0, mixed, before)
