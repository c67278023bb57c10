"""Writes the trained model as a Stable Diffusion pipeline folder for diffusers and ``cloisonne.load``."""

import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.train.reco.base import Base
from cloisonne.train.reco.student import Student

_INDEX = "model_index.json"


def write_pipeline(output: Path, base: Base, student: Student, record: Mapping[str, Any], *, lora: bool) -> None:
    """Write the text encoder, UNet, VAE, tokenizer, scheduler, ``model_index.json`` and ``training.json`` (the record).

    With ``lora`` the adapters are merged into the pipeline and the student, and also written to ``lora/`` for use with
    the base: diffusers' ``pytorch_lora_weights.safetensors``, and ``position_rows.safetensors`` with the new rows of
    the token and position embeddings. Each entry appears atomically, the index last.
    """
    partial = output / "pipeline.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        adapters = _adapters(student) if lora else None
        rows = student.merge_adapters()
        if adapters is not None:
            (partial / "lora").mkdir()
            save_file(adapters, partial / "lora" / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
            save_file(rows, partial / "lora" / "position_rows.safetensors")
        parts = Parts(
            family=base.model.family,
            network=student.unet,
            vae=base.model.vae.module,
            texts=(TextPart(student.text, base.tokenizer),),
            scheduler=base.scheduler,
        )
        parts.save(partial)
        if base.family is not None:
            shutil.copyfile(base.family, partial / "family.json")
        training = {**record, "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}}
        (partial / "training.json").write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
        _move(partial, output)
    except OSError as error:
        raise OutputError(
            f'The output "{output}" cannot be written ({error.strerror}); free space or choose another output.'
        ) from None


def _adapters(student: Student) -> dict[str, Tensor]:
    """The LoRA weights by diffusers' names."""
    named: dict[str, Tensor] = {}
    for prefix, module in (("unet", student.unet), ("text_encoder", student.text)):
        own = convert_state_dict_to_diffusers(get_peft_model_state_dict(module, save_embedding_layers=False))
        named |= {f"{prefix}.{name}": values.detach().cpu().contiguous() for name, values in own.items()}
    return named


def _move(partial: Path, output: Path) -> None:
    (output / _INDEX).unlink(missing_ok=True)
    for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == _INDEX):
        shutil.rmtree(output / entry.name, ignore_errors=True)
        os.replace(entry, output / entry.name)
    partial.rmdir()
