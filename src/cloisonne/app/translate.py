"""Carry the subject or style of one picture over to another that keeps its structure (VCT, arXiv 2307.14352)."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from cloisonne.app.concept import learn
from cloisonne.app.picture_edit import as_pixels
from cloisonne.app.presets import changed
from cloisonne.app.result import REPORT_VERSION
from cloisonne.app.translation import Progress, Translation
from cloisonne.errors import SceneError
from cloisonne.methods.vct import PRESETS, Translating
from cloisonne.models.concept import Concept
from cloisonne.models.model import Model
from cloisonne.scene.output import check_output, write_picture


@dataclass(kw_only=True, eq=False)
class Translated:
    """image: the result, as large as the source. raw: the same with nothing put back. concept: what was learned, to be
    saved and used again; None where nothing was. report: what ``--json`` prints."""

    image: Image.Image
    raw: Image.Image
    concept: Concept | None
    report: dict[str, Any]

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the picture. Raises OutputError where the file exists (unless ``overwrite``) or cannot be written."""
        place = Path(path)
        check_output(place, overwrite=overwrite)
        write_picture(self.image, place, overwrite=overwrite)
        self.report["output"] = {"path": str(place), "sha256": hashlib.sha256(place.read_bytes()).hexdigest()}
        return place


def translate(
    source: Any,
    reference: Any,
    model: Model,
    *,
    mask: Any = None,
    preset: str = "fast",
    keep_structure: float | None = None,
    concept_strength: float = 1.0,
    concept: Concept | None = None,
    word: str = "",
    steps: int | None = None,
    seed: int = 0,
    progress: Progress = lambda what, at, count: None,
    **changes: Any,
) -> Translated:
    """Translate a source by one reference picture.

    source, reference, mask: a path, a PIL image or an array; where the mask is black, the source keeps its bytes.
    preset: one of ``methods.vct.PRESETS``: "fast" (ours), "vct" (the paper), "vct-code" (its released code). changes:
    fields of it that shall be other. keep_structure: share of the walk in [0, 1] that looks as the source does.
    concept_strength: in [0, 1]; 0 is the source. concept: a learned one, in place of learning. word: where learning
    begins. Raises SceneError, ImageError, CapabilityError or CheckpointError where that is refused.
    """
    began = time.perf_counter()
    translating = translating_of(preset, keep_structure, changes)
    if not 0 <= concept_strength <= 1:
        raise SceneError(f"concept_strength is {concept_strength}; give a share from 0 to 1.")
    work = Translation.of(source, reference, mask, model, translating, steps=steps, seed=seed, progress=progress)
    if translating.learned and concept is None:
        concept = learn(
            work.encoded(work.reference),
            model,
            translating,
            word=word,
            seed=seed,
            run=work.run,
            watch=lambda at, count, loss: progress("concept", at + 1, count),
        )
    z = work.walk(concept, concept_strength)
    pixels = as_pixels(model.vae.decode(z[None])[0])
    image = work.edit.pasted(pixels, work.edit.covered())
    raw = work.edit.pasted(pixels, work.edit.whole_window())
    report = {
        "version": REPORT_VERSION,
        "output": {"path": None, "sha256": None},
        "model": dict(model.record()),
        "preset": preset,
        "changes": {k: v for k, v in vars(translating).items() if v != getattr(PRESETS[preset], k)},
        "seed": seed,
        "steps": len(work.steps),
        "seconds": round(time.perf_counter() - began, 3),
        "forwards": work.run.forwards,
        "rows": work.run.rows,
        "warnings": work.warnings(),
        **_outside(work, image, raw),
    }
    return Translated(image=image, raw=raw, concept=concept, report=report)


def _outside(work: Translation, image: Image.Image, raw: Image.Image) -> dict[str, Any]:
    """What a report says of the pixels outside of a mask; None without one."""
    if not work.edit.masks:
        return dict.fromkeys(("identical_outside", "max_difference_outside", "max_difference_outside_raw"))
    covered = work.edit.covered()
    difference = work.edit.difference_outside(image, covered)
    return {
        "identical_outside": difference == 0,
        "max_difference_outside": difference,
        "max_difference_outside_raw": work.edit.difference_outside(raw, covered),
    }


def translating_of(preset: str, keep_structure: float | None, changes: dict[str, Any]) -> Translating:
    """A preset with some of its fields changed. SceneError for what there is not."""
    found = changed(PRESETS, preset, changes, "translating")
    if max(found.looks, found.words) > 1:
        raise SceneError(f"looks is {found.looks} and words is {found.words}; give shares from 0 to 1.")
    if keep_structure is None:
        return found
    if not 0 <= keep_structure <= 1:
        raise SceneError(f"keep_structure is {keep_structure}; give a share from 0 to 1.")
    share = keep_structure / found.looks if found.looks else 0.0
    return replace(found, looks=keep_structure, words=min(1.0, found.words * share))
