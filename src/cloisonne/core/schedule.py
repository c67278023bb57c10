"""Noise levels of a trained model, and denoising steps through them.

A checkpoint's ``scheduler_config.json`` means what it means to diffusers' schedulers, to the timestep.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.parameterization import Parameterization
from cloisonne.core.step import Step
from cloisonne.errors import CheckpointError, SceneError

Spacing = Literal["leading", "trailing", "linspace", "karras", "distilled"]
"""How the steps are spread over the levels: arXiv 2305.08891, table 2; "karras": arXiv 2206.00364, eq. 5, rho 7;
"distilled": evenly among the levels of the solver that a network was distilled from, as LCM and TCD take them."""

Spread = Literal["closed", "open", "continuous"]
"""Which levels a solver takes of a spacing, as diffusers' schedulers do: "closed", ``count`` of them with the last one
(DDIM, PNDM); "open", ``count + 1`` without the last one (DPM-Solver++); "continuous", as "closed" with what
"linspace" puts between two levels (Euler, Heun)."""

PREDICTIONS: tuple[Parameterization, ...] = ("epsilon", "v_prediction", "sample")
"""What a network of a diffusion schedule may predict."""

RHO = 7.0

Level = tuple[float, float, float]
"""(t, alpha, s)."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The levels ``z = alpha * x0 + s * n`` on which a network was trained; index t, noise rising.

    Variance preserving (Stable Diffusion) by :meth:`from_config`; a flow schedule is ``alphas = 1 - ss``.
    final: (alpha, s) where samplers without a clean end of their own stop. offset: added to timesteps of "leading".
    prediction: what the network's output means. spread: which levels "leading" and "linspace" take. teacher_steps: of
    the solver that a network was distilled from, for "distilled".
    """

    alphas: tuple[float, ...]
    ss: tuple[float, ...]
    final: tuple[float, float] = (1.0, 0.0)
    spacing: Spacing = "leading"
    offset: int = 0
    prediction: Parameterization = "epsilon"
    spread: Spread = "closed"
    teacher_steps: int = 50

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Schedule":
        """The schedule of a diffusers ``scheduler_config.json``; missing keys have the defaults of DDIMScheduler."""
        alphas_cumprod = torch.cumprod(1 - _betas(config), dim=0).double()
        alphas, ss = (tuple(map(float, levels)) for levels in (alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()))
        spacing = "karras" if config.get("use_karras_sigmas") else config.get("timestep_spacing", "leading")
        return cls(
            alphas=alphas,
            ss=ss,
            final=(1.0, 0.0) if config.get("set_alpha_to_one", True) else (alphas[0], ss[0]),
            spacing=_known("timestep_spacing", spacing, get_args(Spacing)),
            offset=config.get("steps_offset", 0),
            prediction=_known("prediction_type", config.get("prediction_type", "epsilon"), PREDICTIONS),
            teacher_steps=config.get("original_inference_steps") or 50,
        )

    def trained(self) -> tuple[Step, ...]:
        """All levels of training, noisy to clean, one a step: the spacing and its offset are of sampling alone."""
        return replace(self, spacing="leading", offset=0).steps(len(self.alphas), ends_clean=False)

    def spaced(self, spacing: str, spread: str) -> "Schedule":
        """The same levels with steps spread otherwise: a ``Spacing`` and a ``Spread``."""
        return replace(
            self,
            spacing=_known("spacing", spacing, get_args(Spacing)),
            spread=_known("spread", spread, get_args(Spread)),
        )

    def steps(self, count: int, *, ends_clean: bool, strength: float = 1.0, num_tokens: int = 0) -> tuple[Step, ...]:
        """The steps of sampling, noisy to clean; see :class:`~cloisonne.core.noise_schedule.NoiseSchedule`.

        With ``strength`` below 1 the number of remaining steps is what ``Step.progress`` refers to, as in diffusers'
        image-to-image; none are left at strength 0. The levels do not depend on ``num_tokens``.
        """
        num_levels = len(self.alphas)
        open_end = self.spread == "open" and self.spacing in ("leading", "linspace")
        most = num_levels - (self.offset if self.spacing == "leading" else 0) - open_end
        most = min(most, self.teacher_steps) if self.spacing == "distilled" else most
        if not 1 <= count <= most:
            raise SceneError(f"{count} steps were asked for; this model's schedule allows 1 to {most}.")
        if self.spacing == "leading" and (top := self._timesteps(count)[0]) >= num_levels:
            raise SceneError(
                f"{count} steps begin at level {top} with the checkpoint's steps_offset of {self.offset}, but its "
                f"levels end at {num_levels - 1}; choose another number of steps."
            )
        if not 0.0 <= strength <= 1.0:
            raise SceneError(f"strength is {strength}; give a number from 0 (unchanged) to 1 (from pure noise).")
        levels = self._karras(count) if self.spacing == "karras" else [self._level(t) for t in self._timesteps(count)]
        if self.prediction == "epsilon" and levels[0][1] == 0:
            raise CheckpointError(
                "The scheduler starts at zero terminal SNR with epsilon prediction, which says nothing about the "
                'picture there; use a v-prediction model, or "timestep_spacing": "leading".'
            )
        taken = [*levels[count - int(count * strength) :], (0.0, *((1.0, 0.0) if ends_clean else self.final))]
        return tuple(
            Step(index=i, count=len(taken) - 1, t=t, alpha=a, s=s, t_next=t_next, alpha_next=a_next, s_next=s_next)
            for i, ((t, a, s), (t_next, a_next, s_next)) in enumerate(pairwise(taken))
        )

    def level(self, t: float) -> tuple[float, float]:
        """(alpha, s) of a timestep in [0, number of levels - 1]."""
        return self._level(t)[1:]

    def _level(self, t: float) -> Level:
        """A level of training, or between two of them by the noise per unit of signal."""
        below = int(t)
        if t == below:
            return float(t), self.alphas[below], self.ss[below]
        low, high = (self.ss[i] / self.alphas[i] for i in (below, below + 1))
        sigma = low + (t - below) * (high - low)
        return t, 1 / math.hypot(1, sigma), sigma / math.hypot(1, sigma)

    def _timesteps(self, count: int) -> Sequence[float]:
        num_levels = len(self.alphas)
        points = count + (self.spread == "open")
        match self.spacing:
            case "leading":
                return [i * (num_levels // points) + self.offset for i in reversed(range(points))][:count]
            case "trailing":
                return [round(num_levels - i * (num_levels / count)) - 1 for i in range(count)]
            case "distilled":
                gap, teacher = num_levels // self.teacher_steps, self.teacher_steps
                return [(teacher - i * teacher // count) * gap - 1 for i in range(count)]
            case _:
                spread = (num_levels - 1) / max(points - 1, 1)
                found = [num_levels - 1 - i * spread for i in range(count)]
                return found if self.spread == "continuous" else [round(t) for t in found]

    def _karras(self, count: int) -> list[Level]:
        """Levels even in sigma^(1/7), from the last t with any signal; the network gets the nearest t."""
        if not math.isclose(math.hypot(self.alphas[0], self.ss[0]), 1.0, rel_tol=1e-6):
            raise SceneError("Karras spacing was asked for, but this model's schedule is a flow; use another spacing.")
        sigmas = [s / a for a, s in zip(self.alphas, self.ss, strict=True) if a > 0]
        logs = [math.log(sigma) for sigma in sigmas]
        top, bottom = sigmas[-1] ** (1 / RHO), sigmas[0] ** (1 / RHO)
        spread = [(top + i / max(count - 1, 1) * (bottom - top)) ** RHO for i in range(count)]
        return [(float(round(_place(math.log(x), logs))), 1 / math.hypot(1, x), x / math.hypot(1, x)) for x in spread]


def _place(value: float, rising: list[float]) -> float:
    """Fractional index of a value in a rising table, linear in between and held at the ends."""
    i = min(max(bisect_right(rising, value) - 1, 0), len(rising) - 2)
    share = (value - rising[i]) / (rising[i + 1] - rising[i])
    return i + min(max(share, 0.0), 1.0)


def _known(field: str, value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise CheckpointError(f'The scheduler config has {field} "{value}"; supported are {", ".join(choices)}.')
    return value


def _betas(config: Mapping[str, Any]) -> Float[Tensor, " T"]:
    """[T] float32, computed as diffusers does so that the levels agree to the last bit."""
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    count = config.get("num_train_timesteps", 1000)
    if config.get("trained_betas") is not None:
        betas = torch.tensor(config["trained_betas"], dtype=torch.float32)
    else:
        match config.get("beta_schedule", "linear"):
            case "linear":
                betas = torch.linspace(start, end, count, dtype=torch.float32)
            case "scaled_linear":
                betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
            case "squaredcos_cap_v2":
                betas = _cosine_betas(count)
            case other:
                choices = "linear, scaled_linear, squaredcos_cap_v2"
                raise CheckpointError(f'The scheduler config has beta_schedule "{other}"; supported are {choices}.')
    return _zero_terminal_snr(betas) if config.get("rescale_betas_zero_snr") else betas


def _cosine_betas(count: int) -> Float[Tensor, " T"]:
    """arXiv 2102.09672, eq. 17."""
    signal = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return torch.tensor([min(1 - b / a, 0.999) for a, b in pairwise(signal)], dtype=torch.float32)


def _zero_terminal_snr(betas: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """arXiv 2305.08891, algorithm 1."""
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    alphas_cumprod = ((root - last) * (first / (first - last))) ** 2
    return 1 - torch.cat([alphas_cumprod[:1], alphas_cumprod[1:] / alphas_cumprod[:-1]])
