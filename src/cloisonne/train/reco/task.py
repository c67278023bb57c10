"""ReCo as a training task: the squared error of the network output at a uniform timestep
(arXiv 2211.15518, section 3.2).

cloisonne train reco --base SOURCE --data FOLDER --output OUT
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.world import WorldDataset
from cloisonne.train.engine import trainer
from cloisonne.train.engine.base import canvas_of, is_world, size_of
from cloisonne.train.engine.diffusion import Diffusion
from cloisonne.train.engine.examples import Batch
from cloisonne.train.reco.base import read_base
from cloisonne.train.reco.examples import ReCoExamples
from cloisonne.train.reco.output import write_pipeline
from cloisonne.train.reco.settings import Settings
from cloisonne.train.reco.student import Student


class ReCoTask:
    """Text encoder and UNet, trained on images with regions; see :class:`~cloisonne.train.engine.task.Task`."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        dataset = None if is_world(settings) else CocoDataset(Path(settings.data), strict=settings.strict)
        self._settings, self._base = settings, read_base(settings)
        model = self._base.model
        size = size_of(settings, model)
        dataset = dataset or WorldDataset(size)
        self.examples = ReCoExamples(dataset, settings, self._base.tokenizer, canvas_of(size, model))
        self.student = Student(self._base, settings)
        self.trained = self.student.trained()
        self.facts: Mapping[str, Any] = {"resolution": size, "base": self._base.sha256, "data": dataset.digest}
        self.warnings: tuple[str, ...] = dataset.warnings
        self._diffusion = Diffusion(model, device)

    def loss(self, student: nn.Module, batch: Batch, autocast: Any) -> Tensor:
        z0 = self._diffusion.latents(batch["pixels"], batch["posterior"], autocast)
        noise, t = batch["noise"], batch["t"]
        output = student(batch["ids"], self._diffusion.noised(z0, noise, t), t)
        return F.mse_loss(output.float(), self._diffusion.target(z0, noise, t))

    def write(self, record: Mapping[str, Any]) -> None:
        made = {"base": self._base.model.name, **record}
        write_pipeline(self._settings.output, self._base, self.student, made, lora=self._settings.lora)


def train(settings: Settings, report: Callable[[str], None] = print, *, seconds: float | None = None) -> list[float]:
    """Train a ReCo model; see :func:`cloisonne.train.engine.trainer.train`."""
    return trainer.train(settings, ReCoTask, report, seconds=seconds)
