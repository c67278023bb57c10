"""Seeded noise: independent of the batch, and of unit variance also where regions bring seeds of their own."""

import pytest
import torch

from cloisonne.core.noise import Noise, Seed

SHAPE = (4, 64, 64)


def test_noise_is_that_of_a_seeded_generator() -> None:
    """So that diffusers' pipelines start from the same latents with the same CPU generator."""
    generator = torch.Generator().manual_seed(7)
    noise = Noise([Seed(7)], SHAPE)
    for _ in range(2):
        assert torch.equal(noise(), torch.randn(1, *SHAPE, generator=generator))


def test_batch_does_not_change_an_image() -> None:
    together = Noise([Seed(1), Seed(2), Seed(1)], SHAPE)
    alone = Noise([Seed(2)], SHAPE)
    for _ in range(3):
        draw = together()
        assert torch.equal(draw[1:2], alone())
        assert torch.equal(draw[0], draw[2]), "canvases of equal seeds get equal noise"


def test_region_with_a_seed_keeps_its_noise_when_the_image_changes() -> None:
    mask = torch.zeros(64, 64)
    mask[:, 32:] = 1
    first, second = (Noise([Seed(value, ((9, mask),))], SHAPE)()[0] for value in (1, 2))
    assert torch.equal(first[..., 32:], second[..., 32:])
    assert torch.equal(first[..., :32], Noise([Seed(1)], SHAPE)()[0][..., :32])


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_mixed_noise_has_unit_variance(level: float) -> None:
    masks = torch.full((64, 64), level), torch.full((64, 64), 0.7)
    noise = Noise([Seed(1, ((2, masks[0]), (3, masks[1])))], SHAPE)()
    assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.9])
def test_equal_seeds_are_one_noise_of_unit_variance(level: float) -> None:
    half = torch.full((64, 64), level)
    for regions in (((1, half),), ((2, half), (2, half))):
        noise = Noise([Seed(1, regions)], SHAPE)()
        assert noise.std().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(Noise([Seed(1, ((1, half),))], SHAPE)(), Noise([Seed(1)], SHAPE)())


def test_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    Noise([Seed(1)], SHAPE)()
    assert torch.equal(torch.get_rng_state(), before)
