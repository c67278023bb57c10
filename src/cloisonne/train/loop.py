"""The one training loop: a budget in minutes, checkpoints, moving averages, and slices that continue where the last one
stopped.

Everything random in a step follows from (stage, step), so a resumed run needs no generator state.
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

from cloisonne.train.microbatches import Loss, Parts
from cloisonne.train.optimiser import Mixed

CPU = torch.device("cpu")


@dataclass(kw_only=True)
class Stage:
    """One member's training: its modules, its loss and how long."""

    name: str
    modules: Mapping[str, nn.Module]
    loss: Loss | tuple[Loss, ...]
    """Several: equal parts of the batch, each worked on by a thread of its own; a step follows their mean."""
    minutes: float
    pictures_per_step: int
    pictures: int | None = None
    """A budget in pictures, in place of the minutes."""
    device: torch.device = CPU
    lr: float = 1e-3
    muon: bool = True
    """Muon for the matrices inside; otherwise AdamW for all."""
    outer: tuple[str, ...] = ()
    """Parts of names that mark first and last layers (given to AdamW)."""
    frozen: tuple[str, ...] = ()
    ema: float = 0.999
    decay_from: float = 0.6
    """Fraction of the budget after which the learning rate falls linearly to zero."""
    warmup: int = 100

    @property
    def losses(self) -> tuple[Loss, ...]:
        """The losses of the batch's parts."""
        return self.loss if isinstance(self.loss, tuple) else (self.loss,)


@dataclass(kw_only=True)
class Progress:
    """Where a stage stands; written beside the tensors as JSON."""

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
    """Train until the stage's budget, or this slice of it, is used up; returns whether the stage is finished.

    The folder holds ``state.json`` and the safetensors file that it names, so that a run stopped while writing finds
    the state before. After the call the modules carry the averaged weights if the stage is finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for module in stage.modules.values():
        module.to(stage.device)
    training = _Training(stage, folder, report)
    before, began = training.progress.seconds, time.monotonic()
    saved = began
    with Parts(stage.losses, [p for _, p in training.trainable]) as parts:
        while training.done < 1 and (slice_minutes is None or time.monotonic() - began < slice_minutes * 60):
            training.step(parts)
            training.progress.seconds = before + time.monotonic() - began
            training.note()
            if time.monotonic() - saved > checkpoint_seconds:
                training.save()
                saved = time.monotonic()
    training.save()
    if training.done < 1:
        return False
    _copy(training.trainable, training.average)
    return True


class _Training:
    """A stage on its way: what is trained, the optimiser, the moving averages and where it stands."""

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
    def done(self) -> float:
        """Share of the budget that is used up, at most 1."""
        if self.stage.pictures is not None:
            return min(self.progress.pictures / self.stage.pictures, 1.0)
        return min(self.progress.seconds / (self.stage.minutes * 60), 1.0)

    def step(self, parts: Parts) -> None:
        """One update of the weights and of their averages."""
        stage, progress, done = self.stage, self.progress, self.done
        torch.manual_seed(zlib.crc32(f"{stage.name} {progress.step}".encode()))
        now = parts.backward(progress.step, done)
        scale = min(1.0, (progress.step + 1) / stage.warmup)
        if done > stage.decay_from:
            scale *= max(0.02, (1 - done) / (1 - stage.decay_from))
        now["norm"] = self.optimiser.step(scale, run=parts.map)
        decay = min(stage.ema, (progress.step + 1) / (progress.step + 10))
        with torch.no_grad():
            averages = [self.average[n] for n, _ in self.trainable]
            torch._foreach_lerp_(averages, [p.detach() for _, p in self.trainable], 1 - decay)
        self.figures = {k: 0.98 * self.figures.get(k, v) + 0.02 * v for k, v in now.items()}
        progress.step += 1
        progress.pictures += stage.pictures_per_step

    def note(self) -> None:
        """Add a point to the curve every fifty steps, and tell it."""
        progress = self.progress
        if progress.step % 50:
            return
        figures = {k: round(v, 4) for k, v in self.figures.items()}
        progress.curve.append({"pictures": progress.pictures, "minutes": round(progress.seconds / 60, 2), **figures})
        self.report(f"{self.stage.name} {json.dumps(progress.curve[-1])}")

    def save(self) -> None:
        """Write the whole state; a run stopped meanwhile finds the one before."""
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
    """How far the stage whose state lies in a folder was at its last checkpoint."""
    return Progress(**json.loads((folder / "state.json").read_text())["progress"])


def load_average(folder: Path, modules: Mapping[str, nn.Module], frozen: tuple[str, ...] = ()) -> Progress:
    """Put the averaged weights of a stage's last checkpoint into its modules, finished or not.

    frozen: as the stage has it; such parameters are not in a checkpoint, and stay.
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
            raise KeyError(f"{folder} lacks {missing[:3]}")
    return progress


@contextmanager
def replacing(path: Path):
    """A temporary path beside ``path`` that takes its place when the block ends without an error."""
    partial = path.with_name(path.name + ".partial")
    yield partial
    os.replace(partial, path)
