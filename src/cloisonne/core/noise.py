"""Seeded noise: one generator per canvas, so that no picture depends on its batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.transfer import to_device


@dataclass(frozen=True, eq=False)
class Seed:
    """Where the noise of one canvas comes from.

    value: the canvas's seed; canvases of equal seeds get equal noise. regions: (seed, mask [H, W] in [0, 1]) of the
    regions with a seed of their own.
    """

    value: int
    regions: tuple[tuple[int, Float[Tensor, "H W"]], ...] = ()


class Noise:
    """A stream of unit noises for S canvases, drawn on the CPU in float32 and moved to the device.

    Each call draws the next one, [S, C, H, W]: the first is where sampling starts, later ones are for stochastic
    samplers. Where a region has its own seed, the noises are mixed and divided by the root of the sum of their squared
    weights, which keeps the variance 1: ``n = sum_i w_i n_i / sqrt(sum_i w_i^2)``; the canvas weighs what is left of 1.
    """

    def __init__(self, seeds: Sequence[Seed], shape: tuple[int, int, int], device: torch.device | str = "cpu") -> None:
        self._shape = shape
        self._device = torch.device(device)
        self._sources = [_Source(seed, shape) for seed in seeds]

    def __call__(self) -> Float[Tensor, "S C H W"]:
        return to_device(torch.stack([source.draw() for source in self._sources]), self._device)


class _Source:
    """The noise of one canvas."""

    def __init__(self, seed: Seed, shape: tuple[int, int, int]) -> None:
        self._shape = shape
        masks = [mask.detach().float().cpu() for _, mask in seed.regions]
        weights = {seed.value: (1 - sum(masks, torch.zeros(shape[1:]))).clamp_min(0)}
        # Equal seeds are one noise, not independent ones: their weights add up before they are squared.
        for (value, _), mask in zip(seed.regions, masks, strict=True):
            weights[value] = weights[value] + mask if value in weights else mask
        self._generators = [torch.Generator("cpu").manual_seed(value) for value in weights]
        norm = torch.stack(list(weights.values())).square().sum(0).sqrt()
        self._weights = [weight / norm for weight in weights.values()]

    def draw(self) -> Float[Tensor, "C H W"]:
        noises = [torch.randn(self._shape, generator=generator) for generator in self._generators]
        if len(noises) == 1:
            return noises[0]
        return torch.stack([w * n for w, n in zip(self._weights, noises, strict=True)]).sum(0)
