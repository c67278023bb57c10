"""Learned concepts of the translation benchmark: each reference is fitted once and stored with its cost."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cloisonne.eval.items import write_whole
from cloisonne.eval.translation_items import TranslationItem, places
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.translation.concept_inputs import learned_from
from cloisonne.pipelines.translation.learn_concept import Learning, fit
from cloisonne.scene.conditions.translation_presets import Translating

REPORT_EVERY = 50
"""Training steps between two progress lines."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A concept, with the network rows and the seconds spent on it."""

    concept: Concept
    rows: int
    seconds: float


@dataclass(frozen=True)
class Concepts:
    """Learned concepts of one run, stored in a folder; interrupted training resumes.

    seed: base seed of the run; the reference's number is added to it. report: receives a line every
    ``REPORT_EVERY`` training steps.
    """

    folder: Path
    model: Model
    seed: int
    report: Callable[[str], None] = lambda line: None

    def of(self, item: TranslationItem, settings: Translating) -> Learned:
        """The concept of an item's reference, loaded if the same settings were fitted before."""
        _, place = places(item.index)
        numbers = (settings.vectors, settings.rounds, settings.batch, settings.rate, settings.l1, settings.patience)
        digest = hashlib.sha256(repr(numbers).encode()).hexdigest()[:12]
        file = self.folder / f"{item.task}-{place:03d}-{digest}.safetensors"
        cost = file.with_suffix(".json")
        if cost.exists():
            return Learned(Concept.load(file), **json.loads(cost.read_text("utf-8")))
        height, width = item.source.shape[:2]
        known = learned_from(Image.fromarray(item.reference), (width, height), self.model)
        watch, folder = self._watch(f"{item.task} {place}"), self.folder / "learning"
        state = fit(known, self.model, settings, seed=self.seed + place, cache=folder, watch=watch)
        made = Learned(state.concept, state.rows, state.seconds)
        made.concept.save(file)
        write_whole(cost, json.dumps({"rows": made.rows, "seconds": made.seconds}))
        return made

    def _watch(self, name: str) -> Learning:
        def watch(step: int, total: int, loss: float) -> None:
            if step % REPORT_EVERY == 0:
                self.report(f"concept of {name}: {step} of at most {total} steps, loss {loss:.4g}")

        return watch
