"""A tiny random UNet, and the plans that the laws of the core are tried on. Latents are 4 x 16 x 16."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.plan import Branch, Conditioning, Guidance, Plan, Tokens, View
from cloisonne.core.schedule import Schedule
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser

SHAPE = (4, 16, 16)
CONFIG: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}
"""Stable Diffusion's scheduler."""


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


@pytest.fixture(scope="session")
def stock() -> UNet2DConditionModel:
    """The UNet as diffusers runs it."""
    return tiny_unet()


@pytest.fixture(scope="session")
def nets() -> Mapping[str, UNetDenoiser]:
    """The same UNet as a network of ours, by what its output is taken to mean."""
    unet = tiny_unet()
    return {
        kind: UNetDenoiser(unet, NetSpec.from_unet(unet.config, latent="tiny", vae_factor=8, prediction=kind))
        for kind in ("epsilon", "v_prediction", "sample")
    }


@pytest.fixture
def net(nets: Mapping[str, UNetDenoiser]) -> UNetDenoiser:
    return nets["v_prediction"]


@pytest.fixture
def schedule() -> Schedule:
    return Schedule.from_config({**CONFIG, "prediction_type": "v_prediction"})


@pytest.fixture
def words() -> Callable[..., Tensor]:
    """words(seed, count): count random tokens [N, 32]."""

    def make(seed: int, count: int = 7) -> Tensor:
        return torch.randn(count, 32, generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture
def say(words: Callable[..., Tensor]) -> Callable[..., Conditioning]:
    """say(seed, mask=None, bias_mask=None, count=7): a branch with one piece of text."""

    def make(seed: int, *, count: int = 7, **masks: Tensor) -> Conditioning:
        return Conditioning(tokens=(Tokens(words(seed, count), **masks),))

    return make


@pytest.fixture
def view(net: UNetDenoiser, say: Callable[..., Conditioning]) -> Callable[..., View]:
    """view(name, cond, null=..., weight=1, ...): a view of the whole canvas, guided if it has a null branch."""

    def make(name: str, cond: Branch, null: Branch | None = None, guide: Guidance | None = None, **fields: Any) -> View:
        branches = {"cond": cond} if null is None else {"null": null, "cond": cond}
        guide = guide or (Single() if null is None else Cfg(scale=3.0))
        return View(**{"net": net, "weight": torch.ones(16, 16), **fields}, name=name, branches=branches, guide=guide)

    return make


@pytest.fixture
def plain(view: Callable[..., View], say: Callable[..., Conditioning]) -> Plan:
    """One guided prompt for the whole canvas."""
    return Plan(views=(view("canvas", say(1), say(0)),))


@pytest.fixture
def left() -> Tensor:
    """A hard mask of the left 9 of 16 columns; its edge cuts the pixels of the coarser grid."""
    mask = torch.zeros(16, 16)
    mask[:, :9] = 1
    return mask


@pytest.fixture
def soft() -> Tensor:
    """[5, 16, 16] overlapping soft masks in [0, 1] with hard zeros; together they leave no pixel bare."""
    masks = torch.rand(5, 16, 16, generator=torch.Generator().manual_seed(3))
    masks = torch.where(masks > 0.5, masks, 0.0)
    masks[0] = masks[0] + (masks.sum(0) == 0)
    return masks
