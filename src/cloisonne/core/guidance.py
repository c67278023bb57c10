"""How the branches of a view become one estimate: a single branch, or classifier-free guidance."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cloisonne.core.parameterization import Parameterization, from_x0, to_x0
from cloisonne.core.step import ALWAYS, Interval, Step


@dataclass(frozen=True)
class Single:
    """The estimate of one branch as it is."""

    branch: str = "cond"

    def branches(self, step: Step) -> tuple[str, ...]:
        return (self.branch,)

    def __call__(
        self, x0s: Mapping[str, Float[Tensor, "C H W"]], z: Float[Tensor, "C H W"], step: Step
    ) -> Float[Tensor, "C H W"]:
        return x0s[self.branch]


@dataclass(frozen=True)
class Rescale:
    """Pull the spread of the guided prediction towards that of "cond" (arXiv 2305.08891, section 3.4, eq. 15, 16).

    amount: phi in [0, 1]. prediction: what the network predicts, because the spread is that of its own output.
    """

    amount: float
    prediction: Parameterization

    def __call__(
        self, guided: Float[Tensor, "C H W"], cond: Float[Tensor, "C H W"], z: Float[Tensor, "C H W"], step: Step
    ) -> Float[Tensor, "C H W"]:
        own_guided = from_x0(guided, z, step, self.prediction)
        spread = from_x0(cond, z, step, self.prediction).std() / own_guided.std()
        return to_x0((self.amount * spread + 1 - self.amount) * own_guided, z, step, self.prediction)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cfg:
    """Classifier-free guidance of "cond" against "null": ``x0 = null + scale * (cond - null)`` (arXiv 2207.12598).

    scale: a number, or a map [H, W] of the view's window (guidance per region); the number 1 asks "cond" alone.
    interval: outside of it "null" is not asked, so the step costs one row less (arXiv 2404.07724).
    rescale: None, or a :class:`Rescale`.
    """

    scale: float | Float[Tensor, "H W"]
    interval: Interval = ALWAYS
    rescale: Rescale | None = None

    def branches(self, step: Step) -> tuple[str, ...]:
        unguided = isinstance(self.scale, float | int) and self.scale == 1
        return ("cond",) if unguided or step not in self.interval else ("cond", "null")

    def __call__(
        self, x0s: Mapping[str, Float[Tensor, "C H W"]], z: Float[Tensor, "C H W"], step: Step
    ) -> Float[Tensor, "C H W"]:
        cond = x0s["cond"]
        if "null" not in x0s:
            return cond
        guided = x0s["null"] + self.scale * (cond - x0s["null"])
        return guided if self.rescale is None else self.rescale(guided, cond, z, step)

    def __repr__(self) -> str:
        scale = f"map of mean {float(self.scale.mean()):.2f}" if isinstance(self.scale, Tensor) else f"{self.scale}"
        return f"Cfg(scale={scale}, interval={self.interval}, rescale={self.rescale})"
