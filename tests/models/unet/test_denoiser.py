"""A UNet of diffusers as a network of ours gives diffusers' answers, whatever it is conditioned on."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.parameterization import to_x0
from cloisonne.core.plan import AttentionEdit, Call, Row, Site, Step
from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser
from cloisonne.models.unet.injection_points import DOWN, SKIP_MID

STEP = Step(index=0, count=1, t=321, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)
Z, TEXT = torch.randn(2, 4, 16, 16), torch.randn(2, 5, 32)


def tiny(**config: Any) -> UNet2DConditionModel:
    blocks: dict[str, Any] = {
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "sample_size": 16,
        "layers_per_block": 1,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**blocks, **config}).eval()


def net_of(unet: UNet2DConditionModel, prediction: Any = "sample") -> UNetDenoiser:
    spec = NetSpec.from_unet(unet.config, latent="tiny", vae_factor=8, prediction=prediction)
    return UNetDenoiser(deepcopy(unet), spec)


def regional() -> TextSequences:
    """Batch row 0 is conditioned on a softly masked text and an unmasked one."""
    mask = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    return TextSequences([TextSequence(0, TEXT[0], mask), TextSequence(0, TEXT[1]), TextSequence(1, TEXT[1])], 2)


def call(**fields: Any) -> Call:
    rows = (Row("canvas", "image", "cond"), Row("canvas", "image", "null"))
    texts = TextSequences([TextSequence(0, TEXT[0]), TextSequence(1, TEXT[1])], 2)
    return Call(**{"z": Z, "step": STEP, "rows": rows, "texts": texts, **fields})


@torch.no_grad()
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_output_is_read_by_the_prediction_of_the_spec(kind: Any) -> None:
    unet = tiny()
    assert torch.equal(net_of(unet, kind)(call()), to_x0(unet(Z, 321, TEXT).sample, Z, STEP, kind))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_estimate_is_finite_at_zero_terminal_snr(kind: Any) -> None:
    step = Step(index=0, count=1, t=999, alpha=0.0, s=1.0, t_next=0, alpha_next=1, s_next=0)
    assert net_of(tiny(), kind)(call(step=step)).isfinite().all()


@torch.no_grad()
def test_xl_takes_pooled_text_and_size() -> None:
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 64}
    unet = tiny(**xl, transformer_layers_per_block=(1, 2), use_linear_projection=True)
    net = net_of(unet)
    assert net.spec.pooled_width == 16
    pooled, size = torch.randn(2, 16), torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)
    expected = unet(Z, 321, TEXT, added_cond_kwargs={"text_embeds": pooled, "time_ids": size}).sample
    assert torch.equal(net(call(pooled=pooled, micro={"size": size})), expected)
    with pytest.raises(CapabilityError, match='View "canvas": the network needs pooled text'):
        net(call())


@torch.no_grad()
def test_inpainting_takes_further_channels() -> None:
    unet = tiny(in_channels=9, out_channels=4)
    net, hole = net_of(unet), torch.randn(2, 5, 16, 16)
    assert (net.spec.latent_channels, net.spec.extra_channels) == (4, 5)
    assert torch.equal(net(call(channels=hole)), unet(torch.cat([Z, hole], 1), 321, TEXT).sample)
    with pytest.raises(CapabilityError, match="0 extra input channels were given, but the network takes 5"):
        net(call())


def test_channels_for_a_network_that_takes_none_are_refused() -> None:
    with pytest.raises(CapabilityError, match="5 extra input channels were given, but the network takes 0"):
        net_of(tiny())(call(channels=torch.zeros(2, 5, 16, 16)))


@torch.no_grad()
def test_adapter_features_reach_the_blocks_each_time() -> None:
    """diffusers empties the list it is given; a second call must find the features again."""
    unet = tiny()
    features = (torch.randn(2, 32, 8, 8), torch.randn(2, 64, 8, 8))
    expected = unet(Z, 321, TEXT, down_intrablock_additional_residuals=list(features)).sample
    net, request = net_of(unet), call(residuals={DOWN: features})
    assert torch.equal(net(request), expected)
    assert torch.equal(net(request), expected)
    assert not torch.equal(expected, unet(Z, 321, TEXT).sample)


@torch.no_grad()
def test_controlnet_residuals_reach_the_skips() -> None:
    unet = tiny()
    shapes = [(32, 16), (32, 16), (32, 8), (64, 8)]
    down, mid = tuple(torch.randn(2, c, side, side) for c, side in shapes), torch.randn(2, 64, 8, 8)
    expected = unet(Z, 321, TEXT, down_block_additional_residuals=down, mid_block_additional_residual=mid).sample
    assert torch.equal(net_of(unet)(call(residuals={SKIP_MID: (*down, mid)})), expected)


@torch.no_grad()
def test_half_precision_network_answers_in_float32() -> None:
    unet = tiny()
    exact = net_of(unet, "v_prediction")(call(texts=regional()))
    x0 = net_of(unet.bfloat16(), "v_prediction")(call(texts=regional()))
    assert x0.dtype == torch.float32
    torch.testing.assert_close(x0, exact, atol=0.1, rtol=0)


@torch.no_grad()
def test_middle_block_and_ratio_of_sides_do_not_matter() -> None:
    unet, z = tiny(), torch.randn(2, 4, 6, 22)
    assert torch.equal(net_of(unet)(call(z=z)), unet(z, 321, TEXT).sample)


def test_spec_counts_pixels() -> None:
    spec = net_of(tiny()).spec
    assert (spec.native_latent, spec.native_size, spec.net_factor, spec.factor) == (16, 128, 2, 16)
    assert (spec.token_width, spec.pooled_width, spec.extra_channels) == (32, 0, 0)


@pytest.mark.parametrize(
    "config",
    [
        {"encoder_hid_dim_type": "text_proj", "encoder_hid_dim": 32},
        {"addition_embed_type": "text"},
        {"down_block_types": ("AttnDownBlock2D", "CrossAttnDownBlock2D")},
        {"down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D")},
    ],
)
def test_unets_of_other_families_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"load one of these|load a Stable Diffusion UNet"):
        net_of(tiny(**config))


class Visited(AttentionEdit):
    """Notes the attention layers of a forward and changes none."""

    def __init__(self) -> None:
        self.sites: list[Site] = []

    def touches(self, site: Site, call: Call) -> bool:
        self.sites.append(site)
        return False


@torch.no_grad()
@pytest.mark.parametrize("canvas", [(16, 16), (7, 22)])
@pytest.mark.parametrize("config", [{}, {"mid_block_type": None}, {"transformer_layers_per_block": (1, 2)}])
def test_sites_are_those_of_a_forward(canvas: tuple[int, int], config: dict[str, Any]) -> None:
    net, visited = net_of(tiny(**config)), Visited()
    net(call(z=torch.randn(2, 4, *canvas), edits=(visited,)))
    assert net.sites(canvas) == tuple(dict.fromkeys(visited.sites))


def test_installing_twice_is_installing_once() -> None:
    net = net_of(tiny())
    again = UNetDenoiser(net.unet, net.spec)
    with torch.no_grad():
        assert torch.equal(net(call()), again(call()))


def test_training_reaches_every_weight() -> None:
    net = net_of(tiny())
    net(call(texts=regional())).sum().backward()
    assert all(parameter.grad is not None for parameter in net.unet.parameters())


def test_tokens_learn_through_the_call() -> None:
    value: Tensor = TEXT[0].clone().requires_grad_()
    net_of(tiny())(call(texts=TextSequences([TextSequence(0, value), TextSequence(1, TEXT[1])], 2))).sum().backward()
    assert value.grad is not None
    assert value.grad.abs().sum() > 0
