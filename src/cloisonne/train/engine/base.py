"""The base checkpoint that is fine-tuned."""

import json
from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from cloisonne.errors import TrainingError
from cloisonne.models.checkpoints.ldm.constants import SCHEDULER
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.unet.denoiser import unet_of
from cloisonne.train.engine.examples import Canvas
from cloisonne.train.engine.settings import WORLD, Settings


def read_model(settings: Settings) -> Model:
    """Load the base in float32 on the CPU, with diffusers' attention processors in the UNet.

    Raises:
        CheckpointError: The base is not a readable checkpoint.
        TrainingError: The base is image-conditioned only, an inpainting model, or Stable Diffusion XL.
    """
    model = load(settings.base, device="cpu", dtype=torch.float32)
    if model.image_only or model.text.pooled_width or model.spec.extra_channels:
        raise TrainingError(
            f'The base "{model.name}" is image-conditioned only, an inpainting model, or Stable Diffusion XL; '
            "give a text-to-image base of Stable Diffusion 1.x or 2.x."
        )
    base_unet(model).set_attn_processor(AttnProcessor2_0())
    return model


def base_unet(model: Model) -> UNet2DConditionModel:
    """The UNet of the base."""
    return unet_of(model.net, "Training").unet


def scheduler_of(model: Model) -> dict[str, Any]:
    """The scheduler configuration of the base."""
    files = [file for file in model.files if file.name == "scheduler_config.json"]
    if files:
        return json.loads(files[0].read_text(encoding="utf-8"))
    return SCHEDULER | {"prediction_type": model.spec.prediction}


def size_of(settings: Settings, model: Model) -> int:
    """Side of the training images in pixels. Raises TrainingError if the base does not support it."""
    size = settings.resolution or model.native.width
    if size % model.spec.factor:
        raise TrainingError(f"--resolution is {size}; the base needs a multiple of {model.spec.factor}.")
    return size


def canvas_of(size: int, model: Model) -> Canvas:
    """The canvas of training images of that size."""
    side = size // model.spec.vae_factor
    return Canvas(size=size, latent=(model.spec.latent_channels, side, side), levels=len(model.schedule.trained()))


def is_world(settings: Settings) -> bool:
    """Whether the training data is the procedural world instead of a folder."""
    return settings.data == WORLD
