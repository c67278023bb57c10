"""Decoding in tiles is decoding the whole, but for rounding; diffusers' tiles are not."""

from pathlib import Path

import pytest
import torch

from cloisonne.models.load import load
from cloisonne.models.tiled_decoding import decode_in_tiles, reach, tiles_of


@pytest.mark.parametrize("length", [1, 7, 8, 30, 33])
@pytest.mark.parametrize(("tile", "margin"), [(8, 0), (8, 3), (5, 40)])
def test_the_own_parts_of_tiles_are_the_axis(length: int, tile: int, margin: int) -> None:
    tiles = list(tiles_of(length, tile, margin))
    assert [place for one in tiles for place in range(one.own_start, one.own_stop)] == list(range(length))
    for one in tiles:
        assert one.own_stop - one.own_start <= tile
        assert one.start == max(one.own_start - margin, 0)
        assert one.stop == min(one.own_stop + margin, length)


@pytest.mark.parametrize("size", [(24, 40), (37, 19)])
@torch.no_grad()
def test_tiles_are_the_whole(tiny_sd: Path, size: tuple[int, int]) -> None:
    vae = load(tiny_sd).vae.module
    z = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0)) * 3
    whole = vae.decode(z, return_dict=False)[0]
    torch.testing.assert_close(decode_in_tiles(vae, z, 8), whole, atol=1e-4, rtol=1e-4)
    margin = reach(vae.decoder)
    assert 1 < margin < 14


@torch.no_grad()
def test_the_option_decodes_in_such_tiles(tiny_sd: Path) -> None:
    plain, tiled = load(tiny_sd).vae, load(tiny_sd, vae_tiling=True).vae
    tiled.module.tile_latent_min_size, tiled.module.tile_sample_min_size = 8, 64
    z = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(0)) * 3
    whole = plain.decode(z)
    torch.testing.assert_close(tiled.decode(z), whole, atol=1e-4, rtol=1e-4)
    theirs = tiled.module.decode(z / plain.scale, return_dict=False)[0]
    assert not torch.allclose(theirs, whole, atol=1e-2)


def test_a_gradient_reaches_the_latents(tiny_sd: Path) -> None:
    tiled = load(tiny_sd, vae_tiling=True).vae
    tiled.module.tile_latent_min_size = 8
    z = torch.randn(1, 4, 12, 12, requires_grad=True)
    tiled.decoded(z).square().mean().backward()
    assert z.grad is not None
    assert bool((z.grad != 0).any())
