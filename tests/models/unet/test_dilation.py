"""Dilated convolutions see of an enlarged image what they see of the image; and only inside of their context."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel

from cloisonne.core.predict import predict
from cloisonne.models.model import Model
from cloisonne.models.unet.denoiser import UNetDenoiser
from cloisonne.models.unet.dilation import deep_convolutions, dilating, dilation_of
from cloisonne.models.unet.region_lora import LowRank
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.scene import Scene

SCENE = Scene(caption="a cat", seed=3, steps=2, guidance=4.0, width=128, height=128)


def unet_of(model: Model) -> UNetDenoiser:
    assert isinstance(model.net, UNetDenoiser)
    return model.net


@pytest.mark.parametrize("factor", [1, 2, 3])
@torch.no_grad()
def test_a_dilated_convolution_of_an_enlarged_map_is_the_enlarged_convolution(tiny: Model, factor: int) -> None:
    convolutions = deep_convolutions(unet_of(tiny).unet)
    assert convolutions
    for conv in convolutions:
        x = torch.randn(1, conv.in_channels, 5, 4, generator=torch.Generator().manual_seed(1))
        with dilating(factor):
            found = conv(F.interpolate(x, scale_factor=factor, mode="nearest"))
        torch.testing.assert_close(found, F.interpolate(conv(x), scale_factor=factor, mode="nearest"))


@pytest.mark.parametrize("factor", [1, 2])
@torch.no_grad()
def test_a_lora_of_a_convolution_is_dilated_with_it(tiny: Model, factor: int) -> None:
    conv = deep_convolutions(unet_of(tiny).unet)[0]
    size = (conv.out_channels, conv.in_channels)
    down, up = torch.randn(2, size[1], 3, 3), torch.randn(size[0], 2, 1, 1)
    x, ones = torch.randn(1, size[1], 8, 8), torch.ones(1, 8, 8)
    fused = torch.einsum("or,rikl->oikl", up[..., 0, 0], down)
    with dilating(factor):
        found, expected = LowRank(down, up)(x, ones, conv), conv._conv_forward(x, fused, None)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(("scale", "factor"), [(0.5, 1), (1.0, 1), (1.49, 1), (1.5, 2), (2.4, 2), (2.5, 3), (4.0, 4)])
@torch.no_grad()
def test_a_network_is_dilated_from_half_as_large_again(tiny: Model, scale: float, factor: int) -> None:
    prepared = prepare(SCENE, tiny)
    z, step = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2)), prepared.steps[0]
    exact = predict(prepared.plan, z, step)
    assert dilation_of(scale) == factor
    enlarged = prepare(SCENE, replace(tiny, net=unet_of(tiny).enlarged(scale)))
    assert torch.equal(predict(enlarged.plan, z, step), exact) == (factor == 1)
    assert torch.equal(predict(prepared.plan, z, step), exact)


SHAPES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Stable Diffusion 1.5": ({"sample_size": 64}, ["down_blocks.3", "mid_block", "up_blocks.0"]),
    "Stable Diffusion XL": (
        {
            "sample_size": 128,
            "block_out_channels": (32, 64, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
        ["down_blocks.2", "mid_block", "up_blocks.0"],
    ),
    "the built-in family": (
        {
            "sample_size": 16,
            "block_out_channels": (32, 64, 64),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        },
        ["down_blocks.1", "down_blocks.2", "mid_block", "up_blocks.0", "up_blocks.1"],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_deep_levels(shape: str) -> None:
    config, levels = SHAPES[shape]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    deep = {id(conv) for conv in deep_convolutions(unet)}
    names = [name for name, module in unet.named_modules() if id(module) in deep]
    assert {name.partition(".resnets")[0] for name in names} == set(levels)
    assert len(names) == len(deep)
