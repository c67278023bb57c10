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

from cloisonne.train.optimiser import Mixed

CPU = torch.device("cpu")
Loss = Callable[[int, float], tuple[Tensor, dict[str, float]]]
"""(step, progress in [0, 1)) -> loss and figures to print."""


@dataclass(kw_only=True)
class Stage:
    """One member's training: its modules, its loss and how long."""

    name: str
    modules: Mapping[str, nn.Module]
    loss: Loss
    minutes: float
    pictures_per_step: int
    device: torch.device = CPU
    lr: float = 1e-3
    outer: tuple[str, ...] = ()
    """Parts of names that mark first and last layers (given to AdamW)."""
    frozen: tuple[str, ...] = ()
    ema: float = 0.999
    decay_from: float = 0.6
    """Fraction of the budget after which the learning rate falls linearly to zero."""
    warmup: int = 100


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
    trainable = [
        (f"{m}.{n}", p)
        for m, module in stage.modules.items()
        for n, p in module.named_parameters()
        if not any(f"{m}.{n}".startswith(x) for x in stage.frozen)
    ]
    for name, p in ((f"{m}.{n}", p) for m, module in stage.modules.items() for n, p in module.named_parameters()):
        p.requires_grad_(not any(name.startswith(x) for x in stage.frozen))
    optimiser = Mixed(trainable, lr=stage.lr, outer=stage.outer)
    average = {name: p.detach().clone() for name, p in trainable}
    progress = _resume(folder, trainable, average, optimiser)
    budget = stage.minutes * 60
    began, spent_before = time.monotonic(), progress.seconds
    saved, figures = began, dict[str, float]()
    while progress.seconds < budget and (slice_minutes is None or time.monotonic() - began < slice_minutes * 60):
        done = min(progress.seconds / budget, 1.0)
        torch.manual_seed(zlib.crc32(f"{stage.name} {progress.step}".encode()))
        loss, now = stage.loss(progress.step, done)
        loss.backward()
        scale = min(1.0, (progress.step + 1) / stage.warmup) * min(1.0, max(0.02, (1 - done) / (1 - stage.decay_from)))
        now |= {"loss": loss.item(), "norm": optimiser.step(scale)}
        _average(average, trainable, min(stage.ema, (progress.step + 1) / (progress.step + 10)))
        figures = {k: 0.98 * figures.get(k, v) + 0.02 * v for k, v in now.items()}
        progress.step += 1
        progress.pictures += stage.pictures_per_step
        progress.seconds = spent_before + time.monotonic() - began
        if progress.step % 50 == 0:
            progress.curve.append(
                {
                    "pictures": progress.pictures,
                    "minutes": round(progress.seconds / 60, 2),
                    **{k: round(v, 4) for k, v in figures.items()},
                }
            )
            report(f"{stage.name} {json.dumps(progress.curve[-1])}")
        if time.monotonic() - saved > checkpoint_seconds:
            _save(folder, trainable, average, optimiser, progress)
            saved = time.monotonic()
    _save(folder, trainable, average, optimiser, progress)
    finished = progress.seconds >= budget
    if finished:
        _copy(trainable, average)
    return finished


@torch.no_grad()
def _average(average: dict[str, Tensor], trainable: list[tuple[str, nn.Parameter]], decay: float) -> None:
    torch._foreach_lerp_([average[n] for n, _ in trainable], [p.detach() for _, p in trainable], 1 - decay)


@torch.no_grad()
def _copy(trainable: list[tuple[str, nn.Parameter]], values: Mapping[str, Tensor]) -> None:
    for name, p in trainable:
        p.copy_(values[name])


def _resume(
    folder: Path, trainable: list[tuple[str, nn.Parameter]], average: dict[str, Tensor], optimiser: Mixed
) -> Progress:
    if not (folder / "state.json").is_file():
        return Progress()
    progress, tensors = _read(folder, str(trainable[0][1].device))
    _copy(trainable, {name: tensors[f"now.{name}"] for name, _ in trainable})
    for name in average:
        average[name].copy_(tensors[f"ema.{name}"])
    optimiser.load({key.removeprefix("opt."): value for key, value in tensors.items() if key.startswith("opt.")})
    return progress


def _read(folder: Path, device: str) -> tuple[Progress, dict[str, Tensor]]:
    record = json.loads((folder / "state.json").read_text())
    return Progress(**record["progress"]), load_file(folder / record["tensors"], device=device)


def _save(
    folder: Path,
    trainable: list[tuple[str, nn.Parameter]],
    average: dict[str, Tensor],
    optimiser: Mixed,
    progress: Progress,
) -> None:
    tensors = {f"now.{n}": p.detach() for n, p in trainable} | {f"ema.{n}": t for n, t in average.items()}
    tensors |= {f"opt.{n}": t for n, t in optimiser.tensors().items()}
    file = folder / f"state-{progress.step}.safetensors"
    with replacing(file) as partial:
        save_file({n: t.contiguous().cpu() for n, t in tensors.items()}, partial)
    with replacing(folder / "state.json") as partial:
        partial.write_text(json.dumps({"tensors": file.name, "progress": vars(progress)}))
    for old in folder.glob("state-*.safetensors*"):
        if old != file:
            old.unlink()


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
