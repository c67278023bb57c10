"""State of a family training: folders, budget per member, and export with provenance."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cloisonne.models.builtin import PROVENANCE, digest
from cloisonne.train.builtin import resume
from cloisonne.train.builtin.export import device_words, export_pretrained, write_provenance
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, run

SHARES = {"vae": 0.16, "base": 0.55, "judge": 0.07, "clip": 0.1, "clipseg": 0.04, "control": 0.08}
"""Fraction of the budget per member; rendering and encoding are not included."""
FINETUNED_MEMBERS = ("base", "control")
"""Members that are fine-tuned if the training starts from a family."""


@dataclass(frozen=True, kw_only=True)
class FamilyTraining:
    """One training of a family: output folder, device, budget."""

    out: Path
    device: torch.device
    minutes: float
    slice_minutes: float | None
    start: Path | None
    """A finished family to fine-tune; None trains from scratch."""
    pictures: int
    """Number of encoded images for the base."""
    trips: int
    """Number of VAE round trips for the judge."""
    report: Callable[[str], None]
    made: Callable[[str, Path], None]
    """Called with a member and the family folder once the family can be loaded with the member."""

    @property
    def family(self) -> Path:
        return self.out / "family"

    def state(self, member: str) -> Path:
        return self.out / "state" / member

    def run(self, stage: Stage) -> bool:
        """Train a stage for its share of the budget; False if the slice ended first."""
        return run(stage, self.state(stage.name), slice_minutes=self.slice_minutes, report=self.report)

    def share(self, member: str) -> float:
        trained = SHARES if self.start is None else FINETUNED_MEMBERS
        return self.minutes * SHARES[member] / sum(SHARES[name] for name in trained)

    def before(self, member: str) -> Progress:
        """Progress of the member in the start family."""
        return Progress() if self.start is None else resume.progress_of_member(self.start, member)

    def exported(self, member: str) -> bool:
        """Whether the member is finished."""
        return (self.family / member / PROVENANCE).is_file()

    def export(
        self, member: str, model: Any, progress: Progress, parents: list[str], figures: dict[str, float]
    ) -> None:
        """Write a diffusers or transformers model as a member."""
        export_pretrained(model, self.family / member)
        self.note(member, progress, parents, figures, TRAINING_SEEDS)

    def note(
        self,
        member: str,
        progress: Progress,
        parents: list[str],
        figures: dict[str, float],
        seed: int,
        *,
        begun: bool = True,
    ) -> None:
        """Write the provenance of a member and report its metrics. begun: with the start family's, if there is one."""
        before = self.before(member) if begun else Progress()
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
            begun_with=digest(self.start / member) if begun and self.start is not None else None,
        )
        self.report(f"{member}: {json.dumps({k: round(v, 4) for k, v in figures.items()})}")
