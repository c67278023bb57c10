"""Read a diffusers pipeline folder of Z-Image or Z-Image Turbo into its parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

from cloisonne.models.checkpoints.files import files_of, variant_notes
from cloisonne.models.checkpoints.mmdit.flow_scheduler import flow_scheduler_of
from cloisonne.models.checkpoints.mmdit.members import checked_members, read_network, read_qwen
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.families import FAMILIES
from cloisonne.models.mmdit.zimage_network import JointZImage
from cloisonne.models.model import Native
from cloisonne.models.text.qwen import ZIMAGE

TURBO_SHIFT = 3.0
"""Of Turbo's scheduler; that of Z-Image is 6. The configurations of their networks are equal."""
TURBO = Native(width=1024, height=1024, steps=8, guidance=1.0, sampler="euler", method="isolated")


def read_zimage(folder: Path, index: Mapping[str, Any], dtype: torch.dtype, variant: str | None) -> Parts:
    """ZImageTransformer2DModel, Qwen3, FLUX.1's AutoencoderKL; the scheduler's shift sets the usual values."""
    members = FAMILIES["zimage"].members
    taken = checked_members(folder, index, members, variant)
    notes, warnings = variant_notes(folder.name, {} if variant else taken)
    warn = list(warnings)
    listed = index.get("scheduler")
    scheduler = flow_scheduler_of(folder, listed[1] if isinstance(listed, list) else None)
    network = read_network(
        ZImageTransformer2DModel, folder / "transformer", dtype, taken["transformer"], warn, own=JointZImage
    )
    return Parts(
        family="zimage",
        network=network,
        vae=read_network(AutoencoderKL, folder / "vae", dtype, taken["vae"], warn),
        texts=(read_qwen(folder, index, ZIMAGE.layers, dtype, taken["text_encoder"], warn),),
        scheduler=scheduler,
        native=TURBO if scheduler.get("shift") == TURBO_SHIFT else None,
        files=files_of([folder / member for member in (*members, "scheduler")]),
        notes=notes,
        warnings=tuple(warn),
    )
