"""The cost of a forward pass, counted on the meta device: nothing is computed."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.models.adapters.controlnet import ControlNet
from cloisonne.models.model import Model


@dataclass(frozen=True)
class Cost:
    """The cost of one forward pass.

    flops: floating-point operations. numbers: how many are in memory at once, estimated as twice the inputs and outputs
    of the largest layer.
    """

    flops: int
    numbers: int


def forward_cost(model: Model, grid: tuple[int, int], num_tokens: int) -> Cost:
    """One batch row of the UNet on a canvas (H, W), conditioned on a sequence of ``num_tokens``.

    Masked text sequences cost no more: the work depends on the canvas, not on the number of texts.
    """
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel.from_config(model.net.unet.config)
        z, t = torch.empty(1, model.spec.latent_channels + model.spec.extra_channels, *grid), torch.empty(1)
        given = _added(model)
        return _cost(unet, z, t, torch.empty(1, num_tokens, model.spec.token_width), **given)


def control_cost(net: ControlNet, model: Model, grid: tuple[int, int], num_tokens: int) -> Cost:
    """One batch row of one of the model's ControlNets on a canvas (H, W)."""
    with torch.device("meta"):
        module: Any = ControlNetModel.from_config(net.module.config)
        z, t = torch.empty(1, model.spec.latent_channels, *grid), torch.empty(1)
        given = _added(model)
        image = torch.empty(1, 3, *(side * model.vae.factor for side in grid))
        return _cost(module, z, t, torch.empty(1, num_tokens, model.spec.token_width), image, **given)


def decode_cost(model: Model, grid: tuple[int, int]) -> Cost:
    """Decoding a canvas (H, W) to an image."""
    with torch.device("meta"):
        vae: Any = AutoencoderKL.from_config(model.vae.module.config)
        return _cost(vae.decoder, torch.empty(1, model.vae.channels, *grid))


def _added(model: Model) -> dict[str, Any]:
    """The arguments for pooled text and size, for networks that take them."""
    pooled = {"text_embeds": torch.empty(1, model.spec.pooled_width)} if model.spec.pooled_width else {}
    size = {"time_ids": torch.empty(1, 6)} if "size" in model.spec.micro else {}
    return {"added_cond_kwargs": pooled | size} if pooled or size else {}


@torch.no_grad()
def _cost(network: nn.Module, *inputs: Tensor, **given: Any) -> Cost:
    largest = 0

    def measure(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal largest
        held = [value.numel() for value in (*args, output) if isinstance(value, Tensor)]
        largest = max(largest, sum(held))

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(measure)
    counter = FlopCounterMode(display=False)
    # Its own tracker has hooks on the modules of all threads.
    counter.mod_tracker = _NoTracker()  # type: ignore[assignment]
    with counter:
        network(*inputs, **given)
    return Cost(flops=counter.get_total_flops(), numbers=2 * largest)


class _NoTracker:
    """Stands for the tracker of a flop counter; counts are of the whole network."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None:
        return None

    def __exit__(self, *args: object) -> None:
        return None
