"""Noise levels of rectified flow models: ``z = (1 - sigma) x0 + sigma n``, shifted by the size of the canvas.

A checkpoint's ``scheduler_config.json`` means what it means to diffusers' FlowMatchEulerDiscreteScheduler, to the
level (Esser et al., arXiv 2403.03206, section 5.3.2 for the shift).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.parameterization import Parameterization
from cloisonne.core.step import Step
from cloisonne.errors import CheckpointError, SceneError

Shift = Literal["exponential", "linear"]
Measure = Literal["tokens", "tokens and steps"]

KEYS = {
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "use_dynamic_shifting": False,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "shift_terminal": None,
    "time_shift_type": "exponential",
}
"""The keys that are honoured, with the defaults of diffusers."""
REFUSED = (
    "invert_sigmas",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "stochastic_sampling",
)
"""Keys that change the levels in ways that no supported family uses."""


@dataclass(frozen=True, kw_only=True)
class FlowSchedule:
    """The levels of a flow model.

    num_levels: of the training. shift: by which sigma becomes ``shift sigma / (1 + (shift - 1) sigma)``. dynamic: the
    shift depends on the number of image tokens instead: ``mu`` rises linearly from base_shift at base_tokens to
    max_shift at max_tokens, and sigma becomes ``e^mu / (e^mu + (1 / sigma - 1))``, or with kind "linear"
    ``mu / (mu + (1 / sigma - 1))``. terminal: the levels are stretched so that the last one before 0 is this.
    evenly: "steps" spreads the levels before the shift as FLUX's pipelines do, from 1 to 1 / count; "range" as the
    scheduler does by itself, from the largest to the smallest level of the training. measured: what ``mu`` depends on;
    "tokens and steps" is FLUX.2's fit, which has no use for the four numbers above.
    """

    num_levels: int = 1000
    shift: float = 1.0
    dynamic: bool = False
    base_shift: float = 0.5
    max_shift: float = 1.15
    base_tokens: int = 256
    max_tokens: int = 4096
    terminal: float | None = None
    kind: Shift = "exponential"
    evenly: Literal["steps", "range"] = "range"
    measured: Measure = "tokens"
    prediction: Parameterization = "flow"

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        evenly: Literal["steps", "range"] = "range",
        measured: Measure = "tokens",
    ) -> "FlowSchedule":
        """The schedule of a diffusers ``scheduler_config.json``; CheckpointError for keys that are not honoured."""
        for key in REFUSED:
            if config.get(key):
                raise CheckpointError(f"The scheduler config has {key} {config[key]}, which is not supported.")
        values: dict[str, Any] = KEYS | {key: config[key] for key in KEYS if key in config}
        if values["time_shift_type"] not in ("exponential", "linear"):
            raise CheckpointError(
                f'The scheduler config has time_shift_type "{values["time_shift_type"]}"; supported are exponential, '
                "linear."
            )
        return cls(
            num_levels=values["num_train_timesteps"],
            shift=values["shift"],
            dynamic=values["use_dynamic_shifting"],
            base_shift=values["base_shift"],
            max_shift=values["max_shift"],
            base_tokens=values["base_image_seq_len"],
            max_tokens=values["max_image_seq_len"],
            terminal=values["shift_terminal"],
            kind=values["time_shift_type"],
            evenly=evenly,
            measured=measured,
        )

    def spaced(self, spacing: str, spread: str) -> "FlowSchedule":
        """SceneError: the steps of a flow are spread by its shift."""
        raise SceneError(f'spacing is "{spacing}", but a flow model spreads its steps by its own shift; leave it out.')

    def trained(self) -> tuple[Step, ...]:
        """All levels of training, noisy to clean, one a step, without any shift."""
        return _steps([(self.num_levels - i) / self.num_levels for i in range(self.num_levels)], self.num_levels)

    def steps(
        self, count: int, *, ends_clean: bool = True, strength: float = 1.0, num_tokens: int = 0
    ) -> tuple[Step, ...]:
        """The steps of sampling, noisy to clean; see :class:`~cloisonne.core.noise_schedule.NoiseSchedule`.

        A flow always ends clean.
        """
        if not 1 <= count <= self.num_levels:
            raise SceneError(f"{count} steps were asked for; this model's schedule allows 1 to {self.num_levels}.")
        if not 0.0 <= strength <= 1.0:
            raise SceneError(f"strength is {strength}; give a number from 0 (unchanged) to 1 (from pure noise).")
        sigmas = [float(sigma) for sigma in self.sigmas(count, num_tokens=num_tokens)]
        return _steps(sigmas[count - int(count * strength) :], self.num_levels)

    def sigmas(self, count: int, *, num_tokens: int) -> Float[Tensor, " count"]:
        """[count] float32, falling; without the 0 at the end."""
        mu = self.mu(num_tokens, count)
        if self.evenly == "steps":
            sigmas = torch.linspace(1.0, 1 / count, count, dtype=torch.float64).float()
        else:
            ends = torch.tensor([1.0, 1 / self.num_levels])
            first, last = map(float, ends if self.dynamic else self._shifted(ends, mu))
            sigmas = torch.linspace(first, last, count, dtype=torch.float64)
        sigmas = self._shifted(sigmas, mu)
        if self.terminal:
            rest = 1 - sigmas
            sigmas = 1 - rest / (rest[-1] / (1 - self.terminal))
        return sigmas.float()

    def mu(self, num_tokens: int, count: int) -> float:
        """The dynamic shift of a canvas of so many image tokens in ``count`` steps."""
        if self.measured == "tokens and steps":
            return fitted_mu(num_tokens, count)
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return num_tokens * slope + (self.base_shift - slope * self.base_tokens)

    def _shifted(self, sigmas: Float[Tensor, " T"], mu: float) -> Float[Tensor, " T"]:
        if not self.dynamic:
            return self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        scale = math.exp(mu) if self.kind == "exponential" else mu
        return scale / (scale + (1 / sigmas - 1))


def fitted_mu(num_tokens: int, count: int) -> float:
    """FLUX.2's dynamic shift, fitted by its authors: between a line in the tokens at 10 steps and one at 200 steps.

    Beyond 4300 tokens the line of 200 steps holds for all.
    """
    many = 0.00016927 * num_tokens + 0.45666666
    if num_tokens > 4300:
        return many
    few = 8.73809524e-05 * num_tokens + 1.89833333
    return many + (many - few) / 190 * (count - 200)


def _steps(sigmas: Sequence[float], num_levels: int) -> tuple[Step, ...]:
    """From level to level, and from the last one to the clean canvas."""
    return tuple(
        Step(
            index=i,
            count=len(sigmas),
            t=sigma * num_levels,
            alpha=1 - sigma,
            s=sigma,
            t_next=after * num_levels,
            alpha_next=1 - after,
            s_next=after,
        )
        for i, (sigma, after) in enumerate(pairwise([*sigmas, 0.0]))
    )
