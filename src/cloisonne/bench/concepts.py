"""What the rows of the benchmark of translations learn of its references: once each, with what it cost."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cloisonne.eval.items import write_whole
from cloisonne.eval.translation_items import Asked, places
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.translation.concept_inputs import learned_from
from cloisonne.pipelines.translation.learn_concept import Learning, fit
from cloisonne.scene.conditions.translation_presets import Translating

LINE = 50
"""Rounds of learning from one line of progress to the next."""


@dataclass(frozen=True, eq=False)
class Learned:
    """A concept, and the rows of the network and the seconds that it took."""

    concept: Concept
    rows: int
    seconds: float


@dataclass(frozen=True)
class Concepts:
    """Concepts of one run, kept in a folder; one whose learning was interrupted is gone on with. seed: that of the run;
    each reference has its own behind it. report: is given a line every ``LINE`` rounds."""

    folder: Path
    model: Model
    seed: int
    report: Callable[[str], None] = lambda line: None

    def of(self, item: Asked, way: Translating) -> Learned:
        """The concept of an item's reference: what another item or row has learned in the same way, or learned now."""
        _, place = places(item.index)
        numbers = (way.vectors, way.rounds, way.batch, way.rate, way.l1, way.patience)
        digest = hashlib.sha256(repr(numbers).encode()).hexdigest()[:12]
        file = self.folder / f"{item.task}-{place:03d}-{digest}.safetensors"
        cost = file.with_suffix(".json")
        if cost.exists():
            return Learned(Concept.load(file), **json.loads(cost.read_text("utf-8")))
        height, width = item.source.shape[:2]
        known = learned_from(Image.fromarray(item.reference), (width, height), self.model)
        watch, folder = self._watch(f"{item.task} {place}"), self.folder / "learning"
        state = fit(known, self.model, way, seed=self.seed + place, cache=folder, watch=watch)
        made = Learned(Concept(state.vectors.detach()), state.rows, state.seconds)
        made.concept.save(file)
        write_whole(cost, json.dumps({"rows": made.rows, "seconds": made.seconds}))
        return made

    def _watch(self, name: str) -> Learning:
        def told(at: int, count: int, loss: float) -> None:
            if (at + 1) % LINE == 0:
                self.report(f"concept of {name}: {at + 1} of at most {count} rounds, loss {loss:.4g}")

        return told
