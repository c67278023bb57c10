"""Where translations fail: the benchmark's items with a part of the method replaced by what it should have found.

    python benchmarks/translation_oracles.py -o out --limit 21 --row words --row words-flow --row caption-flow

A row names its concept and how the source is kept: "truth-content" is the concept learned from the true result, by
FlowEdit from the embeddings of the source. Concepts:

- reference: learned from the reference, as the method does
- truth: learned from the true result, which also has the right layout
- words: the words of the wanted style or subject, as the whole text
- caption: the caption of the true result, as the whole text
- structure: learned from the true result, which is also the source: the structure is exact

The source is kept by "learned" (stored offsets and features), "flow" (FlowEdit from an empty text) or "content"
(FlowEdit from the embeddings that are learned of the source). "edit-flow" and "edit-p2p" edit the source's caption to
that of the true result, so that the model knows both. "interrogate" is the preset, which gets no words. See
docs/methods/vct.md.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.bench.settings import Settings, through_vae
from cloisonne.bench.translation_baselines import reworded
from cloisonne.eval.items import Items
from cloisonne.eval.judge import Judge
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, mean
from cloisonne.eval.report import Report, estimates
from cloisonne.eval.row_names import CEILINGS
from cloisonne.eval.translation_items import TranslationItem, places, translation_item
from cloisonne.eval.translations import MEASURES, Row, Translated, evaluate_translations
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.translation.concept_inputs import learned_from
from cloisonne.pipelines.translation.learn_concept import embedded, fit
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.pipelines.translation.translate import translate
from cloisonne.world.picture import HELD_OUT_STYLES

EDITS: dict[str, dict[str, Any]] = {
    "edit-flow": {"preset": "flow", "flow_start": 1.0, "paste_changed_only": False, "close_up": 0},
    "edit-p2p": {"preset": "p2p", "inversion": "direct"},
}
CONCEPTS = ("reference", "truth", "words", "caption", "structure")
PRESETS: dict[str, dict[str, Any]] = {
    "learned": {"preset": "learned"},
    "flow": {"preset": "flow", "learned": True, "content_vectors": 0},
    "content": {"preset": "flow", "learned": True},
}
INTERROGATE = "interrogate"
ROWS = ("words-learned", "words-flow", "words-content", "caption-flow", INTERROGATE, *EDITS)


def main() -> None:
    """Print the tables of the rows of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of measurements and images")
    parser.add_argument("--model", default="builtin", help="model: builtin or a family's folder")
    parser.add_argument("--limit", type=int, default=21, help="items of each task")
    parser.add_argument("--row", action="append", help=f"rows; default: {', '.join(ROWS)}")
    options = parser.parse_args()
    settings = Settings(out=options.output, model=options.model, limit=options.limit, save_pictures=True)
    model = settings.load()
    rows = {name: row(name, model, options.output / "concepts") for name in options.row or ROWS}
    judge = Judge.load(BUILTIN / "judge")
    print(evaluate_translations(rows, judge, through_vae(model), options.output, **settings.keywords(model)))
    (options.output / "seen").mkdir(exist_ok=True)
    print(seen(options.output, [*rows, *CEILINGS[:1]], options.limit).write(options.output / "seen", "tables"))


def seen(folder: Path, rows: Sequence[str], limit: int) -> Report:
    """The measurements of styles alone that ``train base`` shows a base, without those that it holds out."""
    indices = [2 * k for k in range(limit) if translation_item(2 * k).wanted not in HELD_OUT_STYLES]
    factors = tuple(np.array([places(k) for k in indices]).T)
    headings = {name: MEASURES[name] for name in ("closeness", "concept", "structure")}

    def estimate(items: Items, name: str) -> Estimate | None:
        values = np.array([items[k][name] for k in indices], float)
        return mean(Sample(values, np.ones(len(values), int), factors))

    found = {row: Items(folder / f"items-{row}.jsonl") for row in rows}
    own = {row: {name: estimate(items, name) for name in headings} for row, items in found.items()}
    return Report((estimates("seen", f"n = {len(indices)} pairs of styles that are not held out.", headings, own),))


def row(name: str, model: Model, folder: Path) -> Row:
    """The row of a name. folder: where learned concepts are kept. Raises SystemExit for an unknown name."""
    if name in EDITS:
        return lambda item, seed: _translated(reworded(item, seed, model, dict(EDITS[name])))
    concept, _, preset = name.partition("-")
    if name != INTERROGATE and (concept not in CONCEPTS or preset not in PRESETS):
        raise SystemExit(f"Unknown row {name}; a row is one of {', '.join([INTERROGATE, *EDITS])}, or CONCEPT-PRESET.")
    of = None if name == INTERROGATE else _concepts(model, folder)[concept]
    settings = {"preset": INTERROGATE} if name == INTERROGATE else PRESETS[preset]

    def made(item: TranslationItem, seed: int) -> Translated:
        source = item.truth if concept == "structure" else item.source
        pictures = Image.fromarray(source), Image.fromarray(item.reference)
        given = None if of is None else of(item)
        # Pairs of one source share its seed.
        own = places(item.index)[0]
        return _translated(translate(*pictures, model, seed=own, concept=given, cache=folder, **settings))

    return made


def _concepts(model: Model, folder: Path) -> dict[str, Callable[[TranslationItem], Concept]]:
    """How each concept is found."""

    def learned(image: np.ndarray, item: TranslationItem) -> Concept:
        height, width = item.source.shape[:2]
        known = learned_from(Image.fromarray(image), (width, height), model)
        settings = translating_of("flow", None, {})
        return fit(known, model, settings, seed=item.index, cache=folder).concept

    def written(text: str) -> Concept:
        return Concept(embedded(model.text, text))

    return {
        "reference": lambda item: learned(item.reference, replace(item, index=0)),
        "truth": lambda item: learned(item.truth, item),
        "structure": lambda item: learned(item.truth, item),
        "words": lambda item: written(item.after.removeprefix(item.before).strip(" ,")),
        "caption": lambda item: written(item.after if item.task == "style" else f"{item.after} {item.where}"),
    }


def _translated(result: Any) -> Translated:
    rgb = np.array(result.image.convert("RGB"), np.uint8)
    return Translated(image=rgb, rows=result.report["rows"], seconds=result.report["seconds"])


if __name__ == "__main__":
    main()
