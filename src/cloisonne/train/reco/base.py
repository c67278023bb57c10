"""The checkpoint that training begins with."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from cloisonne.errors import TrainingError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.single_file import SCHEDULER
from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.vocabulary import Grown, extend


@dataclass(frozen=True, kw_only=True)
class Base:
    """Its networks in float32 on the CPU, with position tokens. scheduler: its configuration.

    sha256: of the files it was loaded from. family: its ``family.json``, if it has one.
    """

    model: Model
    unet: Any
    text: Any
    tokenizer: Any
    grown: Grown
    scheduler: dict[str, Any]
    sha256: str
    family: Path | None


def read_base(settings: Settings) -> Base:
    """Load and extend it. Raises CheckpointError where it is no model, TrainingError where ReCo cannot train it."""
    model = load(settings.base, device="cpu", dtype=torch.float32)
    if model.wordless or model.text.pooled_width or model.spec.extra_channels:
        raise TrainingError(
            f'"{model.name}" is for exemplars, for inpainting, or of Stable Diffusion XL; '
            "give a text-to-image base of Stable Diffusion 1.x or 2.x."
        )
    sha256 = model.hash
    unet, text, tokenizer = model.net.unet, model.text.modules[0], model.text.tokenizer
    unet.set_attn_processor(AttnProcessor2_0())
    return Base(
        model=model,
        unet=unet,
        text=text,
        tokenizer=tokenizer,
        grown=extend(tokenizer, text, bins=settings.num_bins, length=settings.max_length),
        scheduler=_scheduler(model),
        sha256=sha256,
        family=model.files[0].parent.parent / "family.json" if model.family == "builtin" else None,
    )


def _scheduler(model: Model) -> dict[str, Any]:
    files = [file for file in model.files if file.name == "scheduler_config.json"]
    if files:
        return json.loads(files[0].read_text(encoding="utf-8"))
    return SCHEDULER | {"prediction_type": model.spec.prediction}
