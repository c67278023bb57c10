"""What is trained: the UNet with C + 1 more input channels, and what is between the image tower and its one token."""

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.paint_by_example import ExemplarEncoder
from cloisonne.train.exemplar.settings import Settings

LAYERS = (
    r".*\.(conv1|conv2|conv_shortcut|conv|proj_in|proj_out|time_emb_proj|to_v|to_out\.0|net\.0\.proj|net\.2)"
    r"|.*attn1\.(to_q|to_k)"
)
"""The UNet's layers that get adapters: all but the first and last, norms, and what one token leaves without effect."""


def widen(unet: Any) -> None:
    """Give the UNet's first layer C + 1 more input channels, of zeros: its output does not change (section 3.2)."""
    old, channels = unet.conv_in, unet.config["out_channels"]
    wide = nn.Conv2d(2 * channels + 1, old.out_channels, old.kernel_size, padding=old.padding)
    extra = old.weight.new_zeros(old.out_channels, channels + 1, *old.kernel_size)
    wide.weight = nn.Parameter(torch.cat([old.weight.detach(), extra], 1))
    wide.bias = old.bias
    unet.conv_in = wide
    unet.register_to_config(in_channels=2 * channels + 1)


class Student(nn.Module):
    """Noisy latents, the masked picture's latents and its mask, and an exemplar, to the UNet's output [B, C, H, W].

    The image tower stays as it is. With ``lora`` the UNet's weights do too, but for its first layer.
    """

    def __init__(self, unet: Any, encoder: ExemplarEncoder, settings: Settings) -> None:
        super().__init__()
        self.unet, self.encoder = unet, encoder
        self.rank = settings.rank if settings.lora else None
        self.requires_grad_(True)
        encoder.vision.requires_grad_(False)
        if settings.lora:
            torch.manual_seed(settings.seed)
            unet.requires_grad_(False)
            unet.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=LAYERS))
            unet.conv_in.requires_grad_(True)
        if settings.gradient_checkpointing:
            unet.enable_gradient_checkpointing()
        self.train()
        encoder.vision.eval()

    def forward(self, z: Tensor, known: Tensor, keep: Tensor, exemplar: Tensor, told: Tensor, t: Tensor) -> Tensor:
        """z, known [B, C, H, W], keep [B, 1, H, W], exemplar [B, 3, side, side], told [B] bool, t [B]."""
        with torch.no_grad():
            seen = self.encoder.seen(exemplar)
        token = self.encoder.of_seen(seen)
        heard = torch.where(told[:, None, None], token, self.encoder.null.to(token.dtype)[None])
        return self.unet(torch.cat([z, known, keep], 1), t, encoder_hidden_states=heard, return_dict=False)[0]

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def adapter(self) -> dict[str, nn.Parameter]:
        """The same by plain names: ``unet.<layer>.down`` and ``.up`` of each adapter, and the rest as it is."""
        return {_plain(name): p for name, p in self.trained().items()}

    @torch.no_grad()
    def begin_with(self, given: Mapping[str, Tensor], source: str) -> None:
        """Take over the adapter of an earlier training; CheckpointError where it is not one of the same layers."""
        own = self.adapter()
        for name, p in own.items():
            if name not in given or given[name].shape != p.shape:
                found = list(given[name].shape) if name in given else "missing"
                raise CheckpointError(
                    f'"{source}" does not fit: "{name}" is {found} there and {list(p.shape)} here; give the folder '
                    "adapter/ of a training on the same base with the same --rank and --mapper_blocks."
                )
        for name, p in own.items():
            p.copy_(given[name])

    @torch.no_grad()
    def settle(self) -> None:
        """Make adapters part of the weights that they adapt."""
        for parent in list(self.unet.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        self.unet._hf_peft_config_loaded = False
        self.unet.__dict__.pop("peft_config", None)


def _plain(name: str) -> str:
    return name.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
