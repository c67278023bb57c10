"""What is trained: text encoder and UNet as one module, together (arXiv 2211.15518, section 3.2)."""

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
"""The attention's projections, which get adapters."""


class Student(nn.Module):
    """Ids [B, L], noisy latents [B, C, H, W] and t [B] to the UNet's output [B, C, H, W].

    All parameters are trained; with ``lora`` only adapters and the rows that the base was grown by.
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
        """The UNet's output for latents that hear the sequence."""
        heard = self.text(ids).last_hidden_state
        return self.unet(z, t, encoder_hidden_states=heard, return_dict=False)[0]

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def _adapt(self, base: Base, settings: Settings) -> None:
        torch.manual_seed(settings.seed)
        for module, layers in ((self.unet, UNET_LAYERS), (self.text, TEXT_LAYERS)):
            module.add_adapter(LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=layers))
        tables = self.text.embeddings
        tables.token_embedding = GrownEmbedding(tables.token_embedding, base.grown.first_token)
        tables.position_embedding = GrownEmbedding(tables.position_embedding, base.grown.first_place)

    @torch.no_grad()
    def settle(self) -> dict[str, Tensor]:
        """Make adapters part of the weights they adapt, and grown tables plain; returns the new rows [n, D]."""
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, BaseTunerLayer):
                    layer.merge()
                    setattr(parent, name, layer.get_base_layer())
        new: dict[str, Tensor] = {}
        for name, table in list(self.text.embeddings.named_children()):
            if isinstance(table, GrownEmbedding):
                new[name] = table.new.detach().cpu().clone()
                setattr(self.text.embeddings, name, nn.Embedding.from_pretrained(table.weight.detach()))
        for module in (self.unet, self.text):
            # What peft leaves behind says that adapters are to be saved apart.
            module._hf_peft_config_loaded = False
            module.__dict__.pop("peft_config", None)
        return new


class GrownEmbedding(nn.Module):
    """An embedding table of which only the rows from ``first`` on are trained; the others do not even decay."""

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
        """Rows [..., D] of ids [...]."""
        if not len(self.new):
            return F.embedding(ids, self.old)
        old = F.embedding(ids.clamp(max=self.first - 1), self.old)
        new = F.embedding((ids - self.first).clamp(min=0), self.new)
        return torch.where((ids >= self.first)[..., None], new, old)
