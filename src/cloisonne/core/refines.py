"""What must hold of the estimate of x0: known pixels, a bounded range."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.run import Run
from cloisonne.core.step import ALWAYS, Interval, Step


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfOneCanvas:
    """What the refines of a single canvas have in common."""

    stream: str = "image"
    when: Interval = ALWAYS

    @property
    def streams(self) -> tuple[str, ...]:
        return (self.stream,)

    def in_scene(self, scene: str) -> Self:
        return replace(self, stream=f"{scene}/{self.stream}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pin(_OfOneCanvas):
    """Keep what is known: ``x0 = known + mask * (x0 - known)``.

    known: [C, H, W]; mask: [H, W] in [0, 1], 1 where the canvas is free to change. Sampling that starts
    at ``alpha * known + s * n`` stays there outside of the mask, with the same n under a deterministic sampler
    (blended latent diffusion, arXiv 2206.02779, without its noising at every step).
    """

    known: Float[Tensor, "C H W"]
    mask: Float[Tensor, "H W"]

    def __call__(
        self, x0: Float[Tensor, "S C H W"], z: Float[Tensor, "S C H W"], step: Step, run: Run
    ) -> Float[Tensor, "S C H W"]:
        return self.known + self.mask * (x0 - self.known)

    def __repr__(self) -> str:
        return f'Pin of {float((self.mask == 0).float().mean()):.0%} of "{self.stream}", {self.when}'


@dataclass(frozen=True, kw_only=True, eq=False)
class Follow:
    """Keep one canvas as another outside of a mask: ``x0_target = x0_source + mask * (x0_target - x0_source)``.

    mask: [H, W] in [0, 1], 1 where the target is free. Where both begin at the same noise they stay the same outside,
    to the last bit under a deterministic sampler.
    """

    source: str
    target: str
    mask: Float[Tensor, "H W"]
    when: Interval = ALWAYS

    @property
    def streams(self) -> tuple[str, ...]:
        return (self.source, self.target)

    def __call__(
        self, x0: Float[Tensor, "S C H W"], z: Float[Tensor, "S C H W"], step: Step, run: Run
    ) -> Float[Tensor, "S C H W"]:
        return torch.stack([x0[0], torch.where(self.mask > 0, x0[0] + self.mask * (x0[1] - x0[0]), x0[0])])

    def in_scene(self, scene: str) -> "Follow":
        return replace(self, source=f"{scene}/{self.source}", target=f"{scene}/{self.target}")

    def __repr__(self) -> str:
        return f'Follow of "{self.source}" by "{self.target}" on {float((self.mask == 0).float().mean()):.0%}'


@dataclass(frozen=True, kw_only=True, eq=False)
class Coarse(_OfOneCanvas):
    """Keep what a smaller grid shows of the canvas: ``x0 = x0 + low(known - x0)`` (ILVR, arXiv 2108.02938, eq. 7).

    known: [C, H, W]. grid: (h, w); ``low`` averages to this grid and interpolates back.
    """

    known: Float[Tensor, "C H W"]
    grid: tuple[int, int]

    def __call__(
        self, x0: Float[Tensor, "S C H W"], z: Float[Tensor, "S C H W"], step: Step, run: Run
    ) -> Float[Tensor, "S C H W"]:
        coarse = F.interpolate(self.known - x0, self.grid, mode="area")
        return x0 + F.interpolate(coarse, x0.shape[-2:], mode="bicubic", align_corners=False)

    def __repr__(self) -> str:
        return f'Coarse grid of {self.grid[1]} x {self.grid[0]} of "{self.stream}" as given, {self.when}'


@dataclass(frozen=True, kw_only=True)
class Clamp(_OfOneCanvas):
    """Bound the estimate to ``[-limit, limit]`` (``clip_sample`` of a scheduler's config)."""

    limit: float

    def __call__(
        self, x0: Float[Tensor, "S C H W"], z: Float[Tensor, "S C H W"], step: Step, run: Run
    ) -> Float[Tensor, "S C H W"]:
        return x0.clamp(-self.limit, self.limit)
