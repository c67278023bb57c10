"""Runs the exemplar benchmark with this package's generator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.bench.arguments import EXEMPLAR_ROWS, WORDS, exemplar_row
from cloisonne.bench.settings import Settings, through_vae
from cloisonne.errors import SceneError
from cloisonne.eval.exemplars import Fill, evaluate_exemplars
from cloisonne.eval.holes import Hole
from cloisonne.eval.judge import Judge
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.inpainting import inpaint_scene


def exemplars(
    settings: Settings, *, rows: Sequence[str] | None = None, spread_items: int = 0, glyphs: str = "held-out"
) -> str:
    """``evaluate exemplars``: the tables in markdown.

    rows: see :func:`row_of`; None measures the model's own exemplars, and the phrase. glyphs: a key of ``GLYPHS``.
    """
    model = settings.load()
    if not model.takes_exemplars and not rows:
        raise SceneError(
            f'The model "{settings.model}" has no exemplar network; give one to measure, as in --row NAME=FOLDER.'
        )
    fills = dict(row_of(text, model, settings) for text in (rows or EXEMPLAR_ROWS))
    judge, keywords = Judge.load(BUILTIN / "judge"), settings.keywords(model)
    keywords |= {"spread_items": spread_items, "glyphs": glyphs}
    return evaluate_exemplars(fills, judge, through_vae(model), settings.out, **keywords)


def row_of(text: str, model: Model, settings: Settings) -> tuple[str, Fill]:
    """The name and fill function of a row "NAME[=FOLDER][@SIMILARITY]" or "words".

    FOLDER: a Paint by Example folder, as ``train exemplar`` writes it; default: the model's own exemplar network.
    """
    name, folder, options = exemplar_row(text)
    if name == WORDS:
        return name, lambda item, seed: _from_phrase(item, seed, model)
    own = settings.load(exemplar=folder) if folder else model
    return name, lambda item, seed: _from_exemplar(item, seed, own, options)


def _from_phrase(item: Hole, seed: int, model: Model) -> np.ndarray:
    scene = inpaint_scene(_image(item.source), _mask(item), phrase=item.phrase, seed=seed)
    return np.asarray(generate(scene, model).image)


def _from_exemplar(item: Hole, seed: int, model: Model, options: Mapping[str, Any]) -> np.ndarray:
    scene = inpaint_scene(_image(item.source), _mask(item), exemplar=_image(item.exemplar), seed=seed, **options)
    return np.asarray(generate(scene, model).image)


def _image(rgb: np.ndarray) -> Image.Image:
    return Image.fromarray(rgb)


def _mask(item: Hole) -> Image.Image:
    return Image.fromarray(item.mask.astype(np.uint8) * 255)
