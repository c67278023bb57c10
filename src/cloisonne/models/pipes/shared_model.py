"""A model whose weights belong to a pipeline: its hash, and what is added to it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from cloisonne.errors import CapabilityError
from cloisonne.models.model import Model, Origin
from cloisonne.models.model_spec import ModelSpec
from cloisonne.models.pipes.carried import adapters

OF_THE_PIPELINE = (
    *("device", "dtype", "offload", "variant", "transformer", "text_encoders", "vae", "tokenizer", "prediction"),
    *("vae_tiling", "vae_slicing"),
)
"""Options of ``load`` that the pipeline decides."""


def shared(model: Model, carried: Sequence[str]) -> Model:
    """The model with a hash of its weights, and with add-ons that leave the pipeline's weights where they are.

    carried: what else determines its images, one line each.
    """
    origin = model.origin
    assert origin is not None, "it was composed"

    def make(spec: ModelSpec) -> Model:
        _check(model, origin.spec, spec)
        return shared(origin.make(spec), carried)

    modules = (*model.net.modules, model.vae.module, *model.text.modules)
    return replace(
        model, digest=lambda: digest_of(modules, carried), origin=Origin(origin.spec, make, from_files=False)
    )


def _check(model: Model, old: ModelSpec, new: ModelSpec) -> None:
    """Raise CapabilityError for options that are the pipeline's, and for LoRAs that PEFT's layers do not take."""
    for name in OF_THE_PIPELINE:
        if getattr(old, name) != getattr(new, name):
            raise CapabilityError(f"{name} is the pipeline's; change it there, and call from_pipe again.")
    networks = {str(i): module for i, module in enumerate((*model.net.modules, *model.text.modules))}
    if old.lora != new.lora and (names := adapters(networks)):
        raise CapabilityError(
            f"The pipeline's adapters {', '.join(names)} are layers of its networks, into which no LoRA is fused; load "
            "the LoRA in the pipeline, and call from_pipe again."
        )


def digest_of(modules: Sequence[Any], carried: Sequence[str]) -> str:
    """SHA-256 over the tensors and configurations of the networks."""
    total = hashlib.sha256()
    for line in carried:
        total.update(f"{line}\n".encode())
    for module in modules:
        config = module.config if isinstance(module.config, dict) else module.config.to_dict()
        total.update(json.dumps(dict(config), sort_keys=True, default=str).encode())
        for name, tensor in sorted(module.state_dict().items()):
            total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()
