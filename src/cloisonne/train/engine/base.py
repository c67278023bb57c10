"""The checkpoint that a training begins with."""

import json
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from cloisonne.errors import TrainingError
from cloisonne.models.checkpoints.ldm.single_file import SCHEDULER
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.train.engine.examples import Canvas
from cloisonne.train.engine.settings import WORLD, Settings


def read_model(settings: Settings) -> Model:
    """The base in float32 on the CPU, its UNet with diffusers' own attention.

    Raises CheckpointError where it is no model, TrainingError where it hears no words, inpaints, or is of XL.
    """
    model = load(settings.base, device="cpu", dtype=torch.float32)
    if model.image_only or model.text.pooled_width or model.spec.extra_channels:
        raise TrainingError(
            f'"{model.name}" is for exemplars, for inpainting, or of Stable Diffusion XL; '
            "give a text-to-image base of Stable Diffusion 1.x or 2.x."
        )
    model.net.unet.set_attn_processor(AttnProcessor2_0())
    return model


def scheduler_of(model: Model) -> dict[str, Any]:
    """The configuration of the base's scheduler."""
    files = [file for file in model.files if file.name == "scheduler_config.json"]
    if files:
        return json.loads(files[0].read_text(encoding="utf-8"))
    return SCHEDULER | {"prediction_type": model.spec.prediction}


def size_of(settings: Settings, model: Model) -> int:
    """Side of the training pictures in pixels. Raises TrainingError where the base cannot work on it."""
    size = settings.resolution or model.native.width
    if size % model.spec.factor:
        raise TrainingError(f"--resolution is {size}; give a multiple of {model.spec.factor}, which the base works on.")
    return size


def canvas_of(size: int, model: Model) -> Canvas:
    """The canvas of training pictures of that size."""
    side = size // model.spec.vae_factor
    return Canvas(size=size, latent=(model.spec.latent_channels, side, side), levels=len(model.schedule.trained()))


def is_world(settings: Settings) -> bool:
    """Whether the data is the procedural world and no folder."""
    return settings.data == WORLD
