"""Trains the controls of a finished base with the general training command."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import T2IAdapter

from cloisonne.train.builtin.export import export_pretrained
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.control import task as control
from cloisonne.train.control.settings import Settings as ControlSettings
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.engine.settings import LATEST, WORLD
from cloisonne.train.loop import Progress
from cloisonne.train.precision import precision
from cloisonne.train.prefetch import processes

CONTROLS = ("canny", "color")
COMMON: Mapping[str, Any] = {
    "data": WORLD,
    "train_batch_size": 16,
    "lr_scheduler": "linear",
    "lr_warmup_steps": 50,
    "use_ema": True,
    "checkpointing_steps": 400,
    "checkpoints_total_limit": 1,
    "resume_from_checkpoint": LATEST,
}
"""Settings of control training."""


def control_settings(family: Path, output: Path, kind: str) -> ControlSettings:
    """Settings of a built-in ``control-<kind>``."""
    own = {"kind": kind, "learning_rate": 1e-3, "ema_decay": 0.995, "num_res_blocks": 1}
    return ControlSettings(base=str(family), output=output, **COMMON, **own)


def device_settings(device: torch.device) -> dict[str, Any]:
    """Settings of the device, worker processes and precision."""
    fast = precision(device.type).dtype == torch.bfloat16
    return {
        "device": device.type,
        "dataloader_num_workers": processes(device),
        "mixed_precision": "bf16" if fast else "no",
    }


def make_controls(training: FamilyTraining, minutes: float | None = None) -> bool:
    """Train the T2I-Adapters for edges and colours. minutes: of both; default: their share of the budget."""
    minutes = training.share("control") if minutes is None else minutes
    for kind in CONTROLS:
        member = f"control-{kind}"
        if training.exported(member):
            continue
        settings = replace(
            control_settings(training.family, training.state(member), kind), **device_settings(training.device)
        )
        if training.start is not None:
            settings = replace(settings, adapter=str(training.start / member), seed=1)
        made = trained(settings, minutes / len(CONTROLS), slice_minutes=training.slice_minutes, report=training.report)
        if made is None:
            return False
        export_pretrained(T2IAdapter.from_pretrained(made.folder), training.family / member)
        training.note(member, made.progress, ["vae", "unet"], {"loss": made.loss}, TRAINING_SEEDS)
        training.made(member, training.family)
    return True


@dataclass(frozen=True, kw_only=True)
class Made:
    """A finished training: its output folder, the values of its record, and its training time in seconds."""

    folder: Path
    steps: int
    pictures: int
    loss: float
    seconds: float

    @property
    def progress(self) -> Progress:
        """Its steps, time and images."""
        return Progress(step=self.steps, seconds=self.seconds, pictures=self.pictures)


def trained(
    settings: ControlSettings,
    minutes: float,
    *,
    slice_minutes: float | None = None,
    report: Callable[[str], None] = print,
) -> Made | None:
    """Train for about ``minutes``, or resume. Returns None if the slice ended before the training.

    The number of steps is estimated once, from a short trial run.
    """
    budget_file = settings.output.with_name(f"{settings.output.name}.json")
    budget: dict[str, Any] = json.loads(budget_file.read_text()) if budget_file.is_file() else {}
    if not budget:
        budget = {"steps": _steps(settings, minutes), "spent": 0.0}
    settings = replace(settings, max_train_steps=budget["steps"])
    started = time.monotonic()
    control.train(settings, report, seconds=None if slice_minutes is None else slice_minutes * 60)
    budget["spent"] += time.monotonic() - started
    budget_file.write_text(json.dumps(budget) + "\n")
    if not (settings.output / "training.json").is_file():
        return None
    record = json.loads((settings.output / "training.json").read_text())
    return Made(
        folder=settings.output,
        steps=record["steps"],
        pictures=record["pictures"],
        loss=record["loss"] or 0.0,
        seconds=budget["spent"],
    )


def _steps(settings: ControlSettings, minutes: float) -> int:
    """Number of steps that fit into ``minutes``, timed on steps 11 to 20 of a trial run."""
    marks: list[float] = []
    folder = Path(tempfile.mkdtemp(prefix="cloisonne-trial-"))
    try:
        trial = replace(settings, output=folder, max_train_steps=20, resume_from_checkpoint=None)
        control.train(trial, lambda line: marks.append(time.monotonic()))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return max(20, int(minutes * 60 / (marks[1] - marks[0]) * 10))
