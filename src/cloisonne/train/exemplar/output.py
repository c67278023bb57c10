"""Writes the trained model as a diffusers ``PaintByExamplePipeline`` folder."""

import json
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.models.adapters.paint_by_example import published
from cloisonne.models.model import Model
from cloisonne.train.exemplar.student import Student

_INDEX = "model_index.json"


def write_exemplars(
    output: Path, base: Model, student: Student, scheduler: Mapping[str, Any], record: Mapping[str, Any]
) -> None:
    """Write the UNet, VAE, image encoder, scheduler, ``model_index.json`` and ``training.json`` (the record).

    With LoRA, ``adapter/`` also holds the trained tensors: low-rank matrices, the first UNet layer and the head of the
    encoder. The adapters are merged into the student. Each entry appears atomically, the index last.
    """
    partial = output / "pipeline.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "image_encoder").mkdir(parents=True)
        if student.rank is not None:
            (partial / "adapter").mkdir()
            save_file(
                _contiguous(student.adapter()), partial / "adapter" / "model.safetensors", metadata={"format": "pt"}
            )
        student.merge_adapters()
        student.unet.save_pretrained(partial / "unet")
        base.vae.module.save_pretrained(partial / "vae")
        config, tensors = published(student.encoder.cpu())
        save_file(_contiguous(tensors), partial / "image_encoder" / "model.safetensors", metadata={"format": "pt"})
        _write(partial / "image_encoder" / "config.json", config)
        _write(partial / "scheduler" / "scheduler_config.json", dict(scheduler))
        training = {**record, "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}}
        _write(partial / "training.json", training)
        index = {
            "_class_name": "PaintByExamplePipeline",
            "_diffusers_version": diffusers.__version__,
            "image_encoder": ["paint_by_example", "PaintByExampleImageEncoder"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "scheduler": ["diffusers", scheduler.get("_class_name", "DDIMScheduler")],
        }
        _write(partial / _INDEX, index)
        _move(partial, output)
    except OSError as error:
        raise OutputError(
            f'The output "{output}" cannot be written ({error.strerror}); free space or choose another output.'
        ) from None


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def _move(partial: Path, output: Path) -> None:
    (output / _INDEX).unlink(missing_ok=True)
    for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == _INDEX):
        shutil.rmtree(output / entry.name, ignore_errors=True)
        (output / entry.name).unlink(missing_ok=True) if (output / entry.name).is_file() else None
        os.replace(entry, output / entry.name)
    partial.rmdir()
