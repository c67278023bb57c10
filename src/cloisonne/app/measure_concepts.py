"""What the rows of the benchmark of translations learn of its references: once each, with what it cost."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cloisonne.app.concept import learn
from cloisonne.app.given_concept import learned_from
from cloisonne.core.predict import Run
from cloisonne.eval.items import write_whole
from cloisonne.eval.translation_items import Asked, places
from cloisonne.models.concept import Concept
from cloisonne.models.model import Model
from cloisonne.scene.translation_presets import Translating


@dataclass(frozen=True, eq=False)
class Learned:
    """A concept, and the rows of the network and the seconds that it took."""

    concept: Concept
    rows: int
    seconds: float


@dataclass(frozen=True)
class Concepts:
    """Concepts of one run, kept in a folder. seed: that of the run; each reference has its own behind it."""

    folder: Path
    model: Model
    seed: int

    def of(self, item: Asked, way: Translating) -> Learned:
        """The concept of an item's reference: what another item or row has learned in the same way, or learned now."""
        _, place = places(item.index)
        numbers = (way.vectors, way.rounds, way.batch, way.rate, way.l1, way.patience)
        digest = hashlib.sha256(repr(numbers).encode()).hexdigest()[:12]
        file = self.folder / f"{item.task}-{place:03d}-{digest}.safetensors"
        cost = file.with_suffix(".json")
        if cost.exists():
            return Learned(Concept.load(file), **json.loads(cost.read_text("utf-8")))
        run, started = Run(), time.perf_counter()
        height, width = item.source.shape[:2]
        known = learned_from(Image.fromarray(item.reference), (width, height), self.model)
        concept = learn(known, self.model, way, seed=self.seed + place, run=run)
        made = Learned(concept, run.rows, time.perf_counter() - started)
        self.folder.mkdir(parents=True, exist_ok=True)
        concept.save(file)
        write_whole(cost, json.dumps({"rows": made.rows, "seconds": made.seconds}))
        return made
