"""Runs the translation benchmark with this package's translator."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.bench.arguments import CONTROLLED, EXEMPLAR, P2P, TRANSLATION_ROWS, p2p_of, translation_rows
from cloisonne.bench.concepts import Concepts
from cloisonne.bench.settings import Settings, through_vae
from cloisonne.bench.translation_baselines import controlled, reworded
from cloisonne.eval.judge import Judge
from cloisonne.eval.translation_items import TranslationItem
from cloisonne.eval.translations import (
    Row,
    Translated,
    evaluate_translations,
)
from cloisonne.methods.kinds import check
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.pipelines.translation.translate import translate
from cloisonne.scene.inpainting import inpaint_scene


def translations(settings: Settings, *, rows: Sequence[str] | None = None) -> str:
    """``evaluate translations``: the tables in markdown. rows: presets by name; None means ``TRANSLATION_ROWS``.

    Raises SceneError for an unknown row, CapabilityError if the model does not support one.
    """
    presets = translation_rows(rows or TRANSLATION_ROWS)
    model = settings.load()
    if any(preset == CONTROLLED for preset, _ in presets.values()):
        check("control", model, kind="canny")
    concepts = Concepts(settings.out / "concepts", model, settings.seed, settings.report)
    return evaluate_translations(
        {name: _row(preset, options, model, concepts) for name, (preset, options) in presets.items()},
        Judge.load(BUILTIN / "judge"),
        through_vae(model),
        settings.out,
        **settings.keywords(model),
    )


def _row(preset: str, options: dict[str, Any], model: Model, concepts: Concepts) -> Row:
    if preset == EXEMPLAR:
        return lambda item, seed: _from_exemplar(item, seed, model)
    if preset in (P2P, CONTROLLED):
        return lambda item, seed: _from_prompt(item, seed, model, preset, options)
    settings = translating_of(preset, None, options)

    def made(item: TranslationItem, seed: int) -> Translated:
        pictures = Image.fromarray(item.source), Image.fromarray(item.reference)
        learned = concepts.of(item, settings) if settings.learned and not settings.interrogate else None
        known = None if learned is None else learned.concept
        result = translate(*pictures, model, preset=preset, seed=seed, concept=known, **options)
        translated = _of(result.image, result.report)
        if learned is None:
            return translated
        rows, seconds = result.report["rows"] + learned.rows, result.report["seconds"] + learned.seconds
        return replace(translated, rows=rows, seconds=seconds)

    return made


def _from_exemplar(item: TranslationItem, seed: int, model: Model) -> Translated:
    mask = np.full(item.source.shape[:2], 255, np.uint8)
    if item.task == "subject":
        x0, y0, x1, y1 = (round(v * len(mask)) for v in item.box)
        mask[:] = 0
        mask[y0:y1, x0:x1] = 255
    source, hole, reference = (Image.fromarray(rgb) for rgb in (item.source, mask, item.reference))
    made = generate(inpaint_scene(source, hole, exemplar=reference, seed=seed), model)
    return _of(made.image, made.report)


def _from_prompt(item: TranslationItem, seed: int, model: Model, preset: str, options: dict[str, Any]) -> Translated:
    if preset == CONTROLLED:
        result = controlled(item, seed, model)
        return _of(result.image, result.report)
    edited = reworded(item, seed, model, p2p_of(options))
    return _of(edited.image, edited.report)


def _of(image: Image.Image, report: dict[str, Any]) -> Translated:
    return Translated(image=np.array(image.convert("RGB"), np.uint8), rows=report["rows"], seconds=report["seconds"])
