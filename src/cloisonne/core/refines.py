"""What must hold of the estimate of x0: known pixels, a bounded range."""

from dataclasses import dataclass, replace

from torch import Tensor

from cloisonne.core.step import ALWAYS, Interval, Step


@dataclass(frozen=True, kw_only=True, eq=False)
class Pin:
    """Keep what is known: ``x0 = known + mask * (x0 - known)``.

    known: [C, H, W]; mask: [H, W] in [0, 1], 1 where the canvas is free to change. A walk that starts at
    ``alpha * known + s * n`` stays there outside of the mask, with the same n under a deterministic sampler
    (blended latent diffusion, arXiv 2206.02779, without its noising at every step).
    """

    known: Tensor
    mask: Tensor
    stream: str = "image"
    when: Interval = ALWAYS

    @property
    def streams(self) -> tuple[str, ...]:
        return (self.stream,)

    def __call__(self, x0: Tensor, z: Tensor, step: Step) -> Tensor:
        return self.known + self.mask * (x0 - self.known)

    def in_scene(self, scene: str) -> "Pin":
        return replace(self, stream=f"{scene}/{self.stream}")

    def __repr__(self) -> str:
        return f'Pin of {float((self.mask == 0).float().mean()):.0%} of "{self.stream}", {self.when}'


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """Bound the estimate to ``[-limit, limit]`` (``clip_sample`` of a scheduler's config)."""

    limit: float
    stream: str = "image"
    when: Interval = ALWAYS

    @property
    def streams(self) -> tuple[str, ...]:
        return (self.stream,)

    def __call__(self, x0: Tensor, z: Tensor, step: Step) -> Tensor:
        return x0.clamp(-self.limit, self.limit)

    def in_scene(self, scene: str) -> "Clamp":
        return replace(self, stream=f"{scene}/{self.stream}")
