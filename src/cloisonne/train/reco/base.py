"""The base checkpoint, extended by position tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.models.model import Model
from cloisonne.train.engine.base import base_unet, read_model, scheduler_of
from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.vocabulary import Extension, extend


@dataclass(frozen=True, kw_only=True)
class Base:
    """The networks of the base in float32 on the CPU, with position tokens.

    scheduler: the scheduler configuration. sha256: digest of the files. family: its ``family.json``, or None.
    """

    model: Model
    unet: Any
    text: Any
    tokenizer: Any
    extension: Extension
    scheduler: dict[str, Any]
    sha256: str
    family: Path | None


def read_base(settings: Settings) -> Base:
    """Load and extend the base. Raises CheckpointError if it cannot be read, TrainingError if ReCo cannot train it."""
    model = read_model(settings)
    sha256 = model.hash
    encoder: Any = model.text
    unet, text, tokenizer = base_unet(model), encoder.module, encoder.tokenizer
    return Base(
        model=model,
        unet=unet,
        text=text,
        tokenizer=tokenizer,
        extension=extend(tokenizer, text, bins=settings.num_bins, length=settings.max_length),
        scheduler=scheduler_of(model),
        sha256=sha256,
        family=model.files[0].parent.parent / "family.json" if model.family == "builtin" else None,
    )
