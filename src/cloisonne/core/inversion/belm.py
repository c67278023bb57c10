"""O-BELM on a lattice of integers: a second-order solver that retraces its own steps to the last bit, both ways.

With ``u = z / alpha`` and ``sigma = s / alpha``, levels counted from the clean end (0) and ``h_i = sigma_i -
sigma_(i-1)``, O-BELM (arXiv 2410.07273) is the leapfrog with unequal steps on the probability flow du/dsigma = n:

    u_(i-1) = r u_(i+1) + (1 - r) u_i - h_i (h_i + h_(i+1)) / h_(i+1) n(u_i),   r = (h_i / h_(i+1))^2

Ours: in ``y_i = c_i u_i`` with ``c_(i-1) = c_(i+1) / r`` the factor of y_(i+1) is 1. With y held in integers of 2^-30 a
step adds a rounded number that depends on y_i alone, and the step back takes the same number off again. Whatever the
network rounds does not matter, as long as it answers the same to the same: the same batch, kernel and threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from cloisonne.core.samplers import Denoise
from cloisonne.core.step import Step
from cloisonne.errors import SceneError

QUANTUM = 2.0**-30
LARGEST = 2.0**62


class Pair(NamedTuple):
    """Two neighbouring states, int64 [S, C, H, W] each: the noisier one first."""

    before: Tensor
    now: Tensor


@dataclass(frozen=True, eq=False)
class Lattice:
    """The solver for one walk; :func:`lattice` makes it. As a sampler it walks down, from noise or from a pair.

    sigmas, alphas, scales: of the levels, from the clean end on. start: where an inversion ended, whose walk is
    retraced: the first step then asks no network.
    """

    sigmas: tuple[float, ...]
    alphas: tuple[float, ...]
    scales: tuple[float, ...]
    start: Pair | None = None
    ends_clean: bool = False

    def init(self, z: Tensor) -> Pair | None:
        return None

    def step(self, denoise: Denoise, z: Tensor, step: Step, state: Pair | None, noise: object) -> tuple[Tensor, Pair]:
        """From level i = count - index to i - 1: DDIM first, O-BELM from then on."""
        i = len(self.sigmas) - 1 - step.index
        if state is None and self.start is not None:
            pair = self.start
        elif state is None:
            slope = noise_of(denoise, z, step)
            pair = Pair(
                self._held(z.double() / step.alpha, i),
                self._held(z.double() / step.alpha - self._length(i) * slope.double(), i - 1),
            )
        else:
            pair = Pair(state.now, state.before + self.added(denoise, state.now, step, i))
        return self.z(pair.now, i - 1), pair

    def added(self, denoise: Denoise, y: Tensor, step: Step, i: int) -> Tensor:
        """What a step from level i down adds to the state of level i + 1, in integers; the step up takes it off."""
        h, before = self._length(i), self._length(i + 1)
        u = y.double() * (QUANTUM / self.scales[i])
        slope = noise_of(denoise, self.z(y, i), step).double()
        moved = (1 - (h / before) ** 2) * u - h * (h + before) / before * slope
        return (moved * (self.scales[i - 1] / QUANTUM)).round().long()

    def z(self, y: Tensor, i: int) -> Tensor:
        """The canvas of a state at level i, float32."""
        return (y.double() * (self.alphas[i] * QUANTUM / self.scales[i])).float()

    def _held(self, u: Tensor, i: int) -> Tensor:
        held = u * (self.scales[i] / QUANTUM)
        if not bool((held.abs() < LARGEST).all()):
            raise SceneError("The latents leave the lattice; take fewer steps, or another inversion.")
        return held.round().long()

    def _length(self, i: int) -> float:
        return self.sigmas[i] - self.sigmas[i - 1]

    def hold(self, z: Tensor, i: int) -> Tensor:
        """The state at level i of a canvas [S, C, H, W]."""
        return self._held(z.double() / self.alphas[i], i)


def lattice(steps: Sequence[Step], start: Pair | None = None) -> Lattice:
    """The solver for these steps. Raises SceneError where they begin without any signal (zero terminal SNR)."""
    if steps[0].alpha == 0:
        raise SceneError("The lattice needs a first step with some signal; this schedule begins at zero terminal SNR.")
    levels = [(steps[-1].alpha_next, steps[-1].s_next), *((step.alpha, step.s) for step in reversed(steps))]
    sigmas = [s / alpha for alpha, s in levels]
    lengths = [0.0, *(b - a for a, b in pairwise(sigmas))]
    scales = [1.0] * len(levels)
    for i in range(len(levels) - 2, 0, -1):
        scales[i - 1] = scales[i + 1] * (lengths[i + 1] / lengths[i]) ** 2
    return Lattice(tuple(sigmas), tuple(alpha for alpha, _ in levels), tuple(scales), start)


def noise_of(denoise: Denoise, z: Float[Tensor, "S C H W"], step: Step) -> Float[Tensor, "S C H W"]:
    """The network's estimate of the noise n in ``z = alpha * x0 + s * n``."""
    return (z - step.alpha * denoise(z, step)) / step.s
