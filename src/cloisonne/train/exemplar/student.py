"""The trained networks: the UNet with C + 1 more input channels, and the mapper from image encoder to token."""

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
"""Target modules of the LoRA: all but the first and last layers, norms, and layers without effect for one token."""


def widen(unet: Any) -> None:
    """Add C + 1 zero-initialised input channels to the first UNet layer; its output stays the same (section 3.2)."""
    old, channels = unet.conv_in, unet.config["out_channels"]
    wide = nn.Conv2d(2 * channels + 1, old.out_channels, old.kernel_size, padding=old.padding)
    extra = old.weight.new_zeros(old.out_channels, channels + 1, *old.kernel_size)
    wide.weight = nn.Parameter(torch.cat([old.weight.detach(), extra], 1))
    wide.bias = old.bias
    unet.conv_in = wide
    unet.register_to_config(in_channels=2 * channels + 1)


class Student(nn.Module):
    """UNet and exemplar encoder: noisy latents, masked latents, mask and exemplar to the UNet output [B, C, H, W].

    The image encoder is frozen. With ``lora`` the UNet weights are frozen too, except for the first layer.
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

    def forward(
        self, z: Tensor, known: Tensor, keep: Tensor, exemplar: Tensor, conditioned: Tensor, t: Tensor
    ) -> Tensor:
        """z, known [B, C, H, W], keep [B, 1, H, W], exemplar [B, 3, side, side], conditioned [B] bool, t [B]."""
        with torch.no_grad():
            features = self.encoder.image_features(exemplar)
        token = self.encoder.tokens_of(features)
        tokens = torch.where(conditioned[:, None, None], token, self.encoder.null.to(token.dtype)[None])
        return self.unet(torch.cat([z, known, keep], 1), t, encoder_hidden_states=tokens, return_dict=False)[0]

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def adapter(self) -> dict[str, nn.Parameter]:
        """The trained parameters as named in files: ``unet.<layer>.down`` and ``.up`` for LoRA, others unchanged."""
        return {_file_name(name): p for name, p in self.trained().items()}

    @torch.no_grad()
    def load_adapter(self, given: Mapping[str, Tensor], source: str) -> None:
        """Load the adapter of an earlier training. Raises CheckpointError if names or shapes differ."""
        own = self.adapter()
        for name, p in own.items():
            if name not in given or given[name].shape != p.shape:
                found = list(given[name].shape) if name in given else "missing"
                raise CheckpointError(
                    f'The adapter "{source}" does not fit: "{name}" is {found} there and {list(p.shape)} here; '
                    "give the folder adapter/ of a training on the same base with the same --rank and --mapper_blocks."
                )
        for name, p in own.items():
            p.copy_(given[name])

    @torch.no_grad()
    def merge_adapters(self) -> None:
        """Merge the LoRA adapters into the UNet weights."""
        for parent in list(self.unet.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        self.unet._hf_peft_config_loaded = False
        self.unet.__dict__.pop("peft_config", None)


def _file_name(name: str) -> str:
    return name.replace(".lora_A.default.weight", ".down").replace(".lora_B.default.weight", ".up")
