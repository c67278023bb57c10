"""Read a diffusers pipeline folder of FLUX.2 klein, distilled or base, into its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from cloisonne.models.checkpoints.files import files_of, variant_notes
from cloisonne.models.checkpoints.mmdit.flow_scheduler import flow_scheduler_of
from cloisonne.models.checkpoints.mmdit.members import checked_members, read_network, read_qwen
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Native
from cloisonne.models.text.qwen import FLUX2

DISTILLED = Native(width=1024, height=1024, steps=4, guidance=1.0, sampler="euler", method="isolated")


def read_flux2_klein(folder: Path, index: Mapping[str, Any], dtype: torch.dtype, variant: str | None) -> Parts:
    """Flux2Transformer2DModel, Qwen3, AutoencoderKLFlux2; ``is_distilled`` of the index sets the usual values."""
    members = FAMILIES["flux2"].members
    taken = checked_members(folder, index, members, variant)
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = list(warnings)
    listed = index.get("scheduler")
    return Parts(
        family="flux2",
        network=read_network(Flux2Transformer2DModel, folder / "transformer", dtype, taken["transformer"], warn),
        vae=read_network(AutoencoderKLFlux2, folder / "vae", dtype, taken["vae"], warn),
        texts=(read_qwen(folder, index, FLUX2.layers, dtype, taken["text_encoder"], warn),),
        scheduler=flow_scheduler_of(folder, listed[1] if isinstance(listed, list) else None),
        native=DISTILLED if index.get("is_distilled") else None,
        files=files_of([folder / member for member in (*members, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )
