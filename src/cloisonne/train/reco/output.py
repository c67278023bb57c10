"""What a training leaves behind: a Stable Diffusion pipeline folder that diffusers and ``cloisonne.load`` read."""

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
    """Write text encoder, UNet, vae, tokenizer, scheduler, index, and ``training.json``: what they were made of.

    With ``lora`` the adapters are merged into the pipeline, and lie in ``lora/`` apart, for the base: diffusers'
    ``pytorch_lora_weights.safetensors``, and ``position_rows.safetensors`` with the rows that the base's tables of
    tokens and places were extended by. The student is a plain one afterwards. Members appear whole, the index last.
    """
    partial = output / "pipeline.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        adapters = _adapters(student) if lora else None
        rows = student.settle()
        if adapters is not None:
            (partial / "lora").mkdir()
            save_file(adapters, partial / "lora" / "pytorch_lora_weights.safetensors", metadata={"format": "pt"})
            save_file(rows, partial / "lora" / "position_rows.safetensors")
        parts = Parts(
            family=base.model.family,
            unet=student.unet,
            vae=base.model.vae.module,
            texts=(TextPart(student.text, base.tokenizer),),
            scheduler=base.scheduler,
        )
        parts.save(partial)
        if base.family is not None:
            shutil.copyfile(base.family, partial / "family.json")
        told = {**record, "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}}
        (partial / "training.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        _move(partial, output)
    except OSError as error:
        raise OutputError(f'"{output}" cannot be written ({error.strerror}); make room, or choose another.') from None


def _adapters(student: Student) -> dict[str, Tensor]:
    """The adapters' weights by diffusers' names."""
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
