"""The resumable training loop: a budget in minutes or images, checkpoints, and an exponential moving average (EMA).

All randomness of a step derives from (stage name, step), so a resumed run needs no generator state.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from cloisonne.errors import OutputError
from cloisonne.train.microbatches import Loss, Microbatches
from cloisonne.train.optimiser import Mixed

CPU = torch.device("cpu")


@dataclass(kw_only=True)
class Stage:
    """The training of one member: its modules, loss, budget and hyperparameters."""

    name: str
    modules: Mapping[str, nn.Module]
    loss: Loss | tuple[Loss, ...]
    """One loss, or one per microbatch. Each microbatch runs in its own thread; a step uses the mean gradient."""
    minutes: float
    pictures_per_step: int
    pictures: int | None = None
    """Budget in images; replaces ``minutes``."""
    device: torch.device = CPU
    lr: float = 1e-3
    muon: bool = True
    """Muon for the inner weight matrices; False uses AdamW for all parameters."""
    outer: tuple[str, ...] = ()
    """Substrings of parameter names that mark first and last layers, which AdamW trains."""
    frozen: tuple[str, ...] = ()
    ema: float = 0.999
    decay_from: float = 0.6
    """Fraction of the budget after which the learning rate decays linearly to zero."""
    warmup: int = 100

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses, one per microbatch."""
        return self.loss if isinstance(self.loss, tuple) else (self.loss,)


@dataclass(kw_only=True)
class Progress:
    """Progress of a stage; stored as JSON in ``state.json``."""

    step: int = 0
    seconds: float = 0.0
    pictures: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)


def run(
    stage: Stage,
    folder: Path,
    *,
    slice_minutes: float | None = None,
    report: Callable[[str], None] = print,
    checkpoint_seconds: float = 120.0,
) -> bool:
    """Train until the budget of the stage, or ``slice_minutes`` of it, is used up.

    The folder holds ``state.json`` and the safetensors file it names, so a run killed while writing resumes from the
    previous state. If the stage is finished, its modules hold the EMA weights afterwards.

    Returns:
        Whether the stage is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module in stage.modules.values():
        module.to(stage.device)
    training = _Training(stage, folder, report)
    previous_seconds, started = training.progress.seconds, time.monotonic()
    saved = started
    with Microbatches(stage.losses, [p for _, p in training.trainable]) as microbatches:
        while training.fraction < 1 and (slice_minutes is None or time.monotonic() - started < slice_minutes * 60):
            training.step(microbatches)
            training.progress.seconds = previous_seconds + time.monotonic() - started
            training.log()
            if time.monotonic() - saved > checkpoint_seconds:
                training.save()
                saved = time.monotonic()
    training.save()
    if training.fraction < 1:
        return False
    _copy(training.trainable, training.average)
    return True


class _Training:
    """A running stage: trainable parameters, optimiser, EMA weights and progress."""

    def __init__(self, stage: Stage, folder: Path, report: Callable[[str], None]) -> None:
        named = [(f"{m}.{n}", p) for m, module in stage.modules.items() for n, p in module.named_parameters()]
        for name, p in named:
            p.requires_grad_(not name.startswith(stage.frozen))
        self.stage, self.folder, self.report = stage, folder, report
        self.trainable = [(name, p) for name, p in named if p.requires_grad]
        self.optimiser = Mixed(self.trainable, lr=stage.lr, outer=stage.outer, muon=stage.muon)
        self.average = {name: p.detach().clone() for name, p in self.trainable}
        self.progress = Progress()
        self.figures: dict[str, float] = {}
        if (folder / "state.json").is_file():
            self._resume()

    @property
    def fraction(self) -> float:
        """Fraction of the budget that is used, at most 1."""
        if self.stage.pictures is not None:
            return min(self.progress.pictures / self.stage.pictures, 1.0)
        return min(self.progress.seconds / (self.stage.minutes * 60), 1.0)

    def step(self, microbatches: Microbatches) -> None:
        """Update the weights and their EMA once."""
        stage, progress, fraction = self.stage, self.progress, self.fraction
        torch.manual_seed(zlib.crc32(f"{stage.name} {progress.step}".encode()))
        figures = microbatches.backward(progress.step, fraction)
        scale = min(1.0, (progress.step + 1) / stage.warmup)
        if fraction > stage.decay_from:
            scale *= max(0.02, (1 - fraction) / (1 - stage.decay_from))
        figures["norm"] = self.optimiser.step(scale, run=microbatches.map)
        update = get_ema_multi_avg_fn(min(stage.ema, (progress.step + 1) / (progress.step + 10)))
        update([self.average[n] for n, _ in self.trainable], [p for _, p in self.trainable], None)
        self.figures = {k: 0.98 * self.figures.get(k, v) + 0.02 * v for k, v in figures.items()}
        progress.step += 1
        progress.pictures += stage.pictures_per_step

    def log(self) -> None:
        """Add a point to the curve and report it, every 50 steps."""
        progress = self.progress
        if progress.step % 50:
            return
        figures = {k: round(v, 4) for k, v in self.figures.items()}
        progress.curve.append({"pictures": progress.pictures, "minutes": round(progress.seconds / 60, 2), **figures})
        self.report(f"{self.stage.name} {json.dumps(progress.curve[-1])}")

    def save(self) -> None:
        """Write the training state; a run killed while writing leaves the previous state intact."""
        progress, folder = self.progress, self.folder
        tensors = {f"now.{n}": p.detach() for n, p in self.trainable}
        tensors |= {f"ema.{n}": t for n, t in self.average.items()}
        tensors |= {f"opt.{n}": t for n, t in self.optimiser.tensors().items()}
        file = folder / f"state-{progress.step}.safetensors"
        with replacing(file) as partial:
            save_file({n: t.contiguous().cpu() for n, t in tensors.items()}, partial)
        with replacing(folder / "state.json") as partial:
            partial.write_text(json.dumps({"tensors": file.name, "progress": vars(progress)}))
        for old in folder.glob("state-*.safetensors*"):
            if old != file:
                old.unlink()

    def _resume(self) -> None:
        self.progress, tensors = _read(self.folder, str(self.trainable[0][1].device))
        shapes = {name: tensors[f"now.{name}"].shape for name, _ in self.trainable if f"now.{name}" in tensors}
        if other := [name for name, p in self.trainable if shapes.get(name) != p.shape]:
            raise OutputError(
                f'The state in "{self.folder}" is of another network: its "{other[0]}" is missing or has another '
                "shape. Choose another folder, or continue with the version that wrote it."
            )
        _copy(self.trainable, {name: tensors[f"now.{name}"] for name, _ in self.trainable})
        for name, average in self.average.items():
            average.copy_(tensors[f"ema.{name}"])
        own = {key.removeprefix("opt."): value for key, value in tensors.items() if key.startswith("opt.")}
        self.optimiser.load(own)


@torch.no_grad()
def _copy(trainable: list[tuple[str, nn.Parameter]], values: Mapping[str, Tensor]) -> None:
    for name, p in trainable:
        p.copy_(values[name])


def _read(folder: Path, device: str) -> tuple[Progress, dict[str, Tensor]]:
    record = json.loads((folder / "state.json").read_text())
    return Progress(**record["progress"]), load_file(folder / record["tensors"], device=device)


def progress_of(folder: Path) -> Progress:
    """Progress at the last checkpoint in a state folder."""
    return Progress(**json.loads((folder / "state.json").read_text())["progress"])


def load_average(folder: Path, modules: Mapping[str, nn.Module], frozen: tuple[str, ...] = ()) -> Progress:
    """Load the EMA weights of the last checkpoint into the modules, whether or not the stage is finished.

    Args:
        folder: State folder of the stage.
        modules: Modules of the stage, by name.
        frozen: ``Stage.frozen``: prefixes of parameters that checkpoints do not hold; those parameters stay.

    Raises:
        KeyError: The checkpoint lacks a parameter that was trained.
    """
    progress, tensors = _read(folder, "cpu")
    for m, module in modules.items():
        own = {key.removeprefix(f"ema.{m}."): value for key, value in tensors.items() if key.startswith(f"ema.{m}.")}
        missing = [
            key
            for key in module.load_state_dict(own, strict=False).missing_keys
            if key in dict(module.named_parameters()) and not f"{m}.{key}".startswith(frozen)
        ]
        if missing and own:
            raise KeyError(f"The checkpoint in {folder} lacks the parameters {missing[:3]}.")
    return progress


@contextmanager
def replacing(path: Path):
    """Yield a temporary path next to ``path``; it replaces ``path`` if the block ends without an error."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    os.replace(partial, path)
