"""Localized control as a training task: ``L = MSE(network) + lambda(t) * mean((S(x0) - S(z0))^2 * M)``
(arXiv 2602.01991, section 3). x0 is the network's estimate of the clean latents, for epsilon and v prediction.
"""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloisonne.errors import OutputError
from cloisonne.train.control.edges import schedule, x0_loss
from cloisonne.train.control.examples import MapExamples
from cloisonne.train.control.settings import Settings
from cloisonne.train.control.student import Student, first_adapter
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.world import WorldDataset
from cloisonne.train.engine import trainer
from cloisonne.train.engine.base import canvas_of, is_world, read_model, size_of
from cloisonne.train.engine.diffusion import Diffusion
from cloisonne.train.engine.examples import Batch


class ControlTask:
    """An adapter for a frozen base; see :class:`~cloisonne.train.engine.task.Task`."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        dataset = None if is_world(settings) else CocoDataset(Path(settings.data), strict=settings.strict)
        self._settings, self._model = settings, read_model(settings)
        model = self._model
        sha256 = model.hash
        size = size_of(settings, model)
        dataset = dataset or WorldDataset(size)
        self.examples = MapExamples(dataset, settings, model.text, canvas_of(size, model))
        adapter = first_adapter(model, settings)
        self._adapter: Any = adapter
        self.student = Student(adapter, model, settings)
        self.trained = {name: p for name, p in self.student.named_parameters() if p.requires_grad}
        self.facts: Mapping[str, Any] = {"resolution": size, "base": sha256, "data": dataset.digest}
        self.warnings: tuple[str, ...] = dataset.warnings
        self._diffusion = Diffusion(model, device)

    def loss(self, student: nn.Module, batch: Batch, autocast: Any) -> Tensor:
        settings, diffusion = self._settings, self._diffusion
        z0 = diffusion.latents(batch["pixels"], batch["posterior"], autocast)
        noise, t, mask = batch["noise"], batch["t"], batch["mask"]
        z = diffusion.noised(z0, noise, t)
        output = student(z, batch["map"], mask, batch["ids"], t).float()
        error = (output - diffusion.target(z0, noise, t)).square()
        total = (diffusion.weight(settings.loss_weighting, t) * error).mean()
        if settings.x0_loss != "none" and settings.x0_weight > 0:
            latent_mask = F.adaptive_avg_pool2d(mask, (z0.shape[-2], z0.shape[-1]))
            estimate = diffusion.clean(output, z, t)
            edge_loss = x0_loss(settings.x0_loss, estimate, z0, latent_mask, by_area=settings.normalize_by_area)
            weight = schedule(settings.x0_schedule, t, diffusion.levels(t)[1].flatten())
            total = total + settings.x0_weight * (weight * edge_loss).mean()
        return total

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the adapter as a diffusers folder, and ``training.json``."""
        output = self._settings.output
        made = {"base": self._model.name, "kind": self._settings.kind, **record}
        made["versions"] = {name: version(name) for name in ("torch", "diffusers", "transformers")}
        try:
            self._adapter.cpu().save_pretrained(output)
            (output / "training.json").write_text(json.dumps(made, indent=2, default=str) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(
                f'The output "{output}" cannot be written ({error.strerror}); free space or choose another output.'
            ) from None


def train(settings: Settings, report: Callable[[str], None] = print, *, seconds: float | None = None) -> list[float]:
    """Train an adapter; see :func:`cloisonne.train.engine.trainer.train`."""
    return trainer.train(settings, ControlTask, report, seconds=seconds)
