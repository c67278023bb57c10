"""Paint by Example as a training task (arXiv 2211.13227, equation 2): the squared error of the network output, given
noisy latents, the masked image, and the token of the exemplar.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPVisionModel

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.paint_by_example import ExemplarEncoder
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.files import read
from cloisonne.models.family_members import CLIP, tower_of
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.world import WorldDataset
from cloisonne.train.engine import trainer
from cloisonne.train.engine.base import base_unet, canvas_of, is_world, read_model, scheduler_of, size_of
from cloisonne.train.engine.diffusion import Diffusion
from cloisonne.train.engine.examples import Batch
from cloisonne.train.exemplar.examples import HoleExamples
from cloisonne.train.exemplar.output import write_exemplars
from cloisonne.train.exemplar.settings import BUILTIN_ENCODER, Settings
from cloisonne.train.exemplar.student import Student, widen
from cloisonne.world.picture import EVERYTHING


class ExemplarTask:
    """A widened UNet and the head of an image encoder; see :class:`~cloisonne.train.engine.task.Task`."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        dataset = (
            None if is_world(settings) else CocoDataset(Path(settings.data), image_only=True, strict=settings.strict)
        )
        self._settings, self._model = settings, read_model(settings)
        model = self._model
        sha256 = model.hash
        size = size_of(settings, model)
        dataset = dataset or WorldDataset(size, EVERYTHING, pictures=200_000, style_pairs=settings.style_pairs)
        tower = read_tower(settings.image_encoder)
        torch.manual_seed(settings.seed)
        pooled = settings.context == "pooled"
        blocks = settings.mapper_blocks if pooled else 0
        encoder = ExemplarEncoder(tower, model.spec.token_width, blocks, pooled=pooled)
        unet = base_unet(model)
        widen(unet)
        self.examples = HoleExamples(dataset, settings, canvas_of(size, model), encoder.side)
        self.student = Student(unet, encoder, settings)
        if settings.adapter is not None:
            self.student.load_adapter(read_adapter(Path(settings.adapter).expanduser()), settings.adapter)
        self.trained = self.student.trained()
        self.facts: Mapping[str, Any] = {"resolution": size, "base": sha256, "data": dataset.digest}
        self.warnings: tuple[str, ...] = dataset.warnings
        self._diffusion = Diffusion(model, device)

    def loss(self, student: nn.Module, batch: Batch, autocast: Any) -> Tensor:
        keep, noise, t = batch["keep"], batch["noise"], batch["t"]
        both = torch.cat([batch["pixels"], batch["pixels"] * keep])
        noises = torch.cat([batch["posterior"], batch["masked_posterior"]])
        z0, known = self._diffusion.latents(both, noises, autocast).chunk(2)
        latent_keep = F.interpolate(keep, z0.shape[-2:], mode="bilinear", align_corners=False)
        z = self._diffusion.noised(z0, noise, t)
        output = student(z, known, latent_keep, batch["exemplar"], batch["conditioned"], t)
        return F.mse_loss(output.float(), self._diffusion.target(z0, noise, t))

    def write(self, record: Mapping[str, Any]) -> None:
        made = {"base": self._model.name, **record}
        write_exemplars(self._settings.output, self._model, self.student, scheduler_of(self._model), made)


def train(settings: Settings, report: Callable[[str], None] = print, *, seconds: float | None = None) -> list[float]:
    """Train an exemplar model; see :func:`cloisonne.train.engine.trainer.train`."""
    return trainer.train(settings, ExemplarTask, report, seconds=seconds)


def read_tower(source: str) -> CLIPVisionModel:
    """Load a CLIP image encoder in float32. Raises CheckpointError if there is none."""
    if source == BUILTIN_ENCODER:
        folder = BUILTIN / CLIP
    else:
        folder = Path(source).expanduser()
        if not folder.is_dir():
            from cloisonne.models.checkpoints.hub import snapshot
            from cloisonne.models.checkpoints.sources import is_hub_id

            if not is_hub_id(source):
                raise CheckpointError(f'There is no folder "{source}"; give a folder or hub id of a CLIP model.')
            folder = snapshot(source)
    return read(folder, tower_of)


def read_adapter(folder: Path) -> dict[str, Tensor]:
    """Read the folder ``adapter/`` of a LoRA training. Raises CheckpointError if it cannot be read."""
    file = folder / "model.safetensors"
    if not file.is_file():
        raise CheckpointError(f'There is no "{file}"; give the folder adapter/ of a training with --lora.')
    try:
        return load_file(file)
    except SafetensorError as error:
        raise CheckpointError(f'"{file}" cannot be read ({error}); give another adapter.') from None
