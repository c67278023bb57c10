"""Solvers from noise to canvas, in ``z = alpha * x0 + s * n``; each is ``init`` and ``step``.

A solver sees only ``denoise(z, step) -> x0``. State is returned, never hidden. All formulas stay finite where alpha
is 0 (zero terminal SNR, the start of a flow schedule); there each of them but the ancestral takes the step of DDIM.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.schedule import Schedule, Spread
from cloisonne.core.step import Step
from cloisonne.errors import SceneError

Denoise = Callable[[Tensor, Step], Tensor]
"""(z [S, C, H, W], step) -> the estimate of x0, [S, C, H, W]."""

State = TypeVar("State")


@runtime_checkable
class Sampler(Protocol[State]):
    """A solver. ``ends_clean``: it goes to alpha 1, s 0; otherwise to the schedule's own final level."""

    @property
    def ends_clean(self) -> bool: ...

    def init(self, z: Float[Tensor, "S C H W"]) -> State: ...

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: State, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], State]:
        """z at the step's end; noise() draws the next unit noise [S, C, H, W]."""
        ...


@dataclass(frozen=True)
class Ddim:
    """DDIM (arXiv 2010.02502, eq. 12, 16). With eta 0 it is Euler's method on the probability flow in s / alpha; with
    eta 1 it is Euler's ancestral sampling, because both renew the share of noise that a step of the chain would."""

    eta: float = 0.0
    ends_clean: bool = False

    def init(self, z: Float[Tensor, "S C H W"]) -> None:
        return None

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: None, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], None]:
        x0 = denoise(z, step)
        n = (z - step.alpha * x0) / step.s
        renewed = self.eta * math.sqrt(max(0.0, 1 - _noise_ratio(step) ** 2))
        if renewed == 0:
            return step.alpha_next * x0 + step.s_next * n, None
        mixed = math.sqrt(1 - renewed**2) * n + renewed * noise()
        return step.alpha_next * x0 + step.s_next * mixed, None


@dataclass(frozen=True)
class Heun:
    """Heun's second-order method on the probability flow in s / alpha (arXiv 2206.00364, algorithm 1, no churn).

    Two estimates a step; one where the step begins at alpha 0 or ends at s 0.
    """

    ends_clean: bool = True

    def init(self, z: Float[Tensor, "S C H W"]) -> None:
        return None

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: None, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], None]:
        x0 = denoise(z, step)
        n = (z - step.alpha * x0) / step.s
        z_next = step.alpha_next * x0 + step.s_next * n
        if step.alpha == 0 or step.s_next == 0:
            return z_next, None
        n_next = (z_next - step.alpha_next * denoise(z_next, step.at_next())) / step.s_next
        slope = (n + n_next) / 2
        return step.alpha_next / step.alpha * (z - step.s * slope) + step.s_next * slope, None


class Past(NamedTuple):
    """The estimate of the step before, and that step's length in log(alpha / s)."""

    x0: Float[Tensor, "S C H W"]
    length: float


@dataclass(frozen=True)
class DpmPlusPlus2M:
    """DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2, midpoint form); first order on the first and the last step."""

    ends_clean: bool = True

    def init(self, z: Float[Tensor, "S C H W"]) -> Past | None:
        return None

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: Past | None, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], Past | None]:
        x0 = denoise(z, step)
        ratio = _noise_ratio(step)
        length = math.inf if ratio == 0 else -math.log(ratio)
        drawn = x0
        if state is not None and step.s_next > 0:
            drawn = x0 + length / (2 * state.length) * (x0 - state.x0)
        return step.s_next / step.s * z + step.alpha_next * (1 - ratio) * drawn, Past(x0, length)


LINEAR_MULTISTEP = ((1,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
"""Weights of the last noises, the newest first, by how many there are (arXiv 2202.09778, eq. 8)."""


@dataclass(frozen=True)
class Pndm:
    """PNDM without its Runge-Kutta steps, also called PLMS (arXiv 2202.09778): DDIM's step by the last four noises.

    Two estimates on the first step, as Heun's method takes them, and one on each other.
    """

    ends_clean: bool = False

    def init(self, z: Float[Tensor, "S C H W"]) -> tuple[Float[Tensor, "S C H W"], ...]:
        return ()

    def step(
        self,
        denoise: Denoise,
        z: Float[Tensor, "S C H W"],
        step: Step,
        state: tuple[Tensor, ...],
        noise: Callable[[], Tensor],
    ) -> tuple[Float[Tensor, "S C H W"], tuple[Tensor, ...]]:
        x0 = denoise(z, step)
        n = (z - step.alpha * x0) / step.s
        past = (n, *state)[:4]
        z_next = step.alpha_next * x0 + step.s_next * n
        if step.alpha == 0 or step.count == 1:
            return z_next, past
        if state or step.s_next == 0:
            weights = LINEAR_MULTISTEP[len(past) - 1]
            n = torch.stack([weight * one for weight, one in zip(weights, past, strict=True)]).sum(dim=0)
        else:
            n = (n + (z_next - step.alpha_next * denoise(z_next, step.at_next())) / step.s_next) / 2
        return step.alpha_next / step.alpha * (z - step.s * n) + step.s_next * n, past


@dataclass(frozen=True)
class Lcm:
    """Multistep consistency sampling of a latent consistency model (arXiv 2310.04378, algorithm 3).

    The consistency function is the boundary-conditioned estimate ``c_skip z + c_out x0`` (Appendix B): c_skip is
    1 at t 0 and falls with ``TIMESTEP_SCALING * t``. Between two steps it is noised afresh.
    """

    ends_clean: bool = True

    def init(self, z: Float[Tensor, "S C H W"]) -> None:
        return None

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: None, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], None]:
        scaled = (step.t * TIMESTEP_SCALING / SIGMA_DATA) ** 2
        c_skip, c_out = 1 / (scaled + 1), math.sqrt(scaled / (scaled + 1))
        consistent = c_skip * z + c_out * denoise(z, step)
        if step.s_next == 0:
            return step.alpha_next * consistent, None
        return step.alpha_next * consistent + step.s_next * noise(), None


TIMESTEP_SCALING, SIGMA_DATA = 10.0, 0.5
"""Of the boundary conditions of published latent consistency models, for t in [0, 1000)."""


@dataclass(frozen=True)
class Tcd:
    """Strategic stochastic sampling of trajectory consistency distillation (arXiv 2402.19159, algorithm 4).

    Each step goes to the level of ``(1 - eta) * t_next`` without noise and is noised to the level of t_next. eta is
    the paper's gamma, in [0, 1]: 0 is deterministic, 1 noises a clean estimate. levels: the model's schedule, at whose
    first level the last step ends; without one, eta must be 0 and the steps end where they say.
    """

    eta: float = 0.0
    levels: Schedule | None = None
    ends_clean: bool = False

    def init(self, z: Float[Tensor, "S C H W"]) -> None:
        return None

    def step(
        self, denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step, state: None, noise: Callable[[], Tensor]
    ) -> tuple[Float[Tensor, "S C H W"], None]:
        x0 = denoise(z, step)
        n = (z - step.alpha * x0) / step.s
        if step.index == step.count - 1 and self.levels is not None:
            alpha, s = self.levels.level(0)
            return alpha * x0 + s * n, None
        if self.eta == 0 or self.levels is None:
            return step.alpha_next * x0 + step.s_next * n, None
        alpha, s = self.levels.level(math.floor((1 - self.eta) * step.t_next))
        share = step.alpha_next / alpha
        renewed = math.sqrt(max(0.0, step.s_next**2 - (share * s) ** 2))
        return share * (alpha * x0 + s * n) + renewed * noise(), None


def _noise_ratio(step: Step) -> float:
    """sigma_next / sigma: the fraction of the noise in s / alpha that a deterministic step retains, in [0, 1]."""
    return (step.s_next * step.alpha) / (step.s * step.alpha_next)


SAMPLERS: dict[str, Sampler[Any]] = {
    "ddim": Ddim(),
    "euler": Ddim(ends_clean=True),
    "euler-ancestral": Ddim(eta=1.0, ends_clean=True),
    "heun": Heun(),
    "dpmpp-2m": DpmPlusPlus2M(),
    "pndm": Pndm(),
    "lcm": Lcm(),
    "tcd": Tcd(),
}

SPREADS: dict[str, Spread] = {
    "ddim": "closed",
    "euler": "continuous",
    "euler-ancestral": "continuous",
    "heun": "continuous",
    "dpmpp-2m": "open",
    "pndm": "closed",
    "lcm": "closed",
    "tcd": "closed",
}
"""Which levels the scheduler of diffusers that is the same solver takes."""

DISTILLED = ("lcm", "tcd")
"""Solvers of networks distilled for a few steps. Their spacing is "distilled" where a scene names none."""

ETA = {"ddim": 0.0, "tcd": 0.3}
"""The samplers that take eta, with its default."""


def check_sampler(given: Any) -> Sampler[Any]:
    """A sampler made elsewhere; SceneError where it is none."""
    missing = [name for name in ("ends_clean", "init", "step") if not hasattr(given, name)]
    if isinstance(given, type) or missing:
        wrong = "a class, not an object of it" if isinstance(given, type) else f"without {' and '.join(missing)}"
        raise SceneError(
            f"sampler is {given!r}, {wrong}; give one of {', '.join(SAMPLERS)}, or an object with ends_clean, init and "
            "step as core.samplers.Sampler has them."
        )
    return given


def sampler(name: str, eta: float | None = None, levels: Schedule | None = None) -> Sampler[Any]:
    """The sampler of a scene.

    Args:
        name: One of ``SAMPLERS``.
        eta: In [0, 1], of the samplers of ``ETA``: the share of noise that ``ddim`` renews, gamma of ``tcd``. None is
            the sampler's default.
        levels: The model's schedule; ``tcd`` needs it.

    Raises:
        SceneError: There is no such sampler, eta is out of range, or the sampler takes none.
    """
    if name not in SAMPLERS:
        raise SceneError(f'There is no sampler "{name}"; choose one of {", ".join(SAMPLERS)}.')
    found = SAMPLERS[name]
    if name not in ETA:
        if not eta:
            return found
        takers = " or ".join(f'"{taker}"' for taker in ETA)
        raise SceneError(f'eta is {eta}, but the sampler "{name}" has no eta; leave it out or choose {takers}.')
    eta = ETA[name] if eta is None else eta
    if not 0 <= eta <= 1:
        raise SceneError(f"eta is {eta}; give a number from 0 (deterministic) to 1 (all noise is renewed).")
    if isinstance(found, Tcd):
        if levels is None and eta > 0:
            raise SceneError(
                f'The sampler "{name}" with eta {eta} needs the levels of a diffusion schedule, which this model '
                "does not have; choose another sampler."
            )
        return replace(found, eta=eta, levels=levels)
    assert isinstance(found, Ddim), "only ddim and tcd take eta"
    return replace(found, eta=eta)
