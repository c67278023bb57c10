"""The trained networks: text encoder and UNet, trained jointly (arXiv 2211.15518, section 3.2)."""

from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from cloisonne.train.reco.base import Base
from cloisonne.train.reco.settings import Settings

UNET_LAYERS = ["to_q", "to_k", "to_v", "to_out.0"]
TEXT_LAYERS = ["q_proj", "k_proj", "v_proj", "out_proj"]
"""Target modules of the LoRA: the attention projections."""


class Student(nn.Module):
    """Text encoder and UNet: ids [B, L], noisy latents [B, C, H, W] and t [B] to the UNet output [B, C, H, W].

    All parameters are trained; with ``lora`` only the adapters and the new embedding rows.
    """

    def __init__(self, base: Base, settings: Settings) -> None:
        super().__init__()
        self.text: Any = base.text
        self.unet: Any = base.unet
        self.requires_grad_(not settings.lora)
        if settings.lora:
            self._adapt(base, settings)
        if settings.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            self.text.activation_checkpointing_enable()
        self.train()

    def forward(self, ids: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The UNet output, conditioned on the encoded sequence."""
        hidden_states = self.text(ids).last_hidden_state
        return self.unet(z, t, encoder_hidden_states=hidden_states, return_dict=False)[0]

    def trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def _adapt(self, base: Base, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        for module, layers in ((self.unet, UNET_LAYERS), (self.text, TEXT_LAYERS)):
            module.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=layers))
        tables = self.text.embeddings
        tables.token_embedding = ExtendedEmbedding(tables.token_embedding, base.extension.first_token)
        tables.position_embedding = ExtendedEmbedding(tables.position_embedding, base.extension.first_position)

    @torch.no_grad()
    def merge_adapters(self) -> dict[str, Tensor]:
        """Merge the LoRA adapters and replace extended embeddings by plain ones. Returns the new rows [n, D]."""
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        new: dict[str, Tensor] = {}
        for name, table in list(self.text.embeddings.named_children()):
            if isinstance(table, ExtendedEmbedding):
                new[name] = table.new.detach().cpu().clone()
                setattr(self.text.embeddings, name, nn.Embedding.from_pretrained(table.weight.detach()))
        for module in (self.unet, self.text):
            # With these attributes set, diffusers and transformers would save adapters separately.
            module._hf_peft_config_loaded = False
            module.__dict__.pop("peft_config", None)
        return new


class ExtendedEmbedding(nn.Module):
    """An embedding table whose rows from ``first`` on are trained; earlier rows are frozen, without weight decay."""

    def __init__(self, table: nn.Embedding, first: int) -> None:
        super().__init__()
        weight = table.weight.detach()
        self.old = nn.Parameter(weight[:first].clone(), requires_grad=False)
        self.new = nn.Parameter(weight[first:].clone(), requires_grad=first < len(weight))
        self.first = first

    @property
    def weight(self) -> Tensor:
        """The whole table [N, D]."""
        return torch.cat([self.old, self.new])

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings [..., D] of ids [...]."""
        if not len(self.new):
            return F.embedding(ids, self.old)
        old = F.embedding(ids.clamp(max=self.first - 1), self.old)
        new = F.embedding((ids - self.first).clamp(min=0), self.new)
        return torch.where((ids >= self.first)[..., None], new, old)
