"""A family in the making: where it lies, how long each member is trained, and what is written about each."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloisonne.models.builtin import digest
from cloisonne.train.builtin import resume as start
from cloisonne.train.builtin.export import device_words, export_pretrained, write_provenance
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, run

SHARES = {"vae": 0.16, "base": 0.34, "judge": 0.07, "clip": 0.1, "clipseg": 0.04, "exemplar": 0.21, "control": 0.08}
"""Shares of the minutes; drawing and encoding in between come on top."""
AFTER_THE_START = ("base", "exemplar", "control")
"""What is trained of a family that is trained on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A family in the making: where, on what, how long."""

    out: Path
    device: torch.device
    minutes: float
    slice_minutes: float | None
    start: Path | None
    """A finished family that is trained on; None means from nothing."""
    pictures: int
    """Pictures whose latents are kept for the base."""
    trips: int
    """Pictures whose VAE round trips are kept for the judge."""
    report: Callable[[str], None]
    made: Callable[[str, Path], None]
    """Called with a member's name and the family's folder once the family can be loaded with it."""

    @property
    def family(self) -> Path:
        return self.out / "family"

    def state(self, member: str) -> Path:
        return self.out / "state" / member

    def run(self, stage: Stage) -> bool:
        """Train a stage for its share of the budget; False when the slice ended before it did."""
        return run(stage, self.state(stage.name), slice_minutes=self.slice_minutes, report=self.report)

    def share(self, member: str) -> float:
        trained = SHARES if self.start is None else AFTER_THE_START
        return self.minutes * SHARES[member] / sum(SHARES[name] for name in trained)

    def before(self, member: str) -> Progress:
        """How far the member was when this work began."""
        return Progress() if self.start is None else start.before(self.start, member)

    def exported(self, member: str) -> bool:
        """Whether the member is finished."""
        return (self.family / member / "provenance.json").is_file()

    def export(
        self, member: str, model: Any, progress: Progress, parents: list[str], figures: dict[str, float]
    ) -> None:
        """Write a diffusers or transformers model as a member."""
        export_pretrained(model, self.family / member)
        self.note(member, progress, parents, figures, TRAINING_SEEDS)

    def note(self, member: str, progress: Progress, parents: list[str], figures: dict[str, float], seed: int) -> None:
        """Write beside a member what it was made of, and report its figures."""
        before = self.before(member)
        write_provenance(
            self.family / member,
            progress=Progress(
                step=before.step + progress.step,
                seconds=before.seconds + progress.seconds,
                pictures=before.pictures + progress.pictures,
            ),
            parents=[self.family / parent for parent in parents],
            metrics={k: float(np.asarray(v)) for k, v in figures.items()},
            first_seed=seed,
            device=device_words(self.device),
            begun_with=None if self.start is None else digest(self.start / member),
        )
        self.report(f"{member}: {json.dumps({k: round(v, 4) for k, v in figures.items()})}")
