"""The benchmark of translations with our own translator in the chair of what is measured."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.app.generate import paint
from cloisonne.app.measure import facts, through_vae
from cloisonne.app.row_text import rows_asked
from cloisonne.app.translate import translate
from cloisonne.app.translating import translating_of
from cloisonne.eval.judge import Judge
from cloisonne.eval.translations import (
    COPY,
    COPY_REFERENCE,
    TRUTH_VAE,
    Asked,
    Row,
    Translated,
    evaluate_translations,
)
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model

PAINTED = "paint"
"""The row in which an exemplar is painted: over the object's box, or the whole picture where a style is asked for."""
ROWS = ("fast", PAINTED)
_ADVICE = 'give PRESET, or NAME=PRESET[,option=value...], such as "long=vct,rounds=1000"'


def translations(
    out: Path,
    source: str,
    *,
    rows: Sequence[str] | None,
    limit: int,
    seed: int,
    device: str,
    save_pictures: bool,
    report: Callable[[str], None] = print,
) -> str:
    """``evaluate translations``: the tables, in markdown. rows: presets by name; None means ``ROWS``."""
    taken = (COPY, COPY_REFERENCE, TRUTH_VAE)
    asked = rows_asked(rows or ROWS, _ADVICE, lambda name, own: translating_of(name, None, own), taken, PAINTED)
    model = load(source, device=device)
    return evaluate_translations(
        {name: _row(preset, options, model) for name, (preset, options) in asked.items()},
        Judge.load(BUILTIN / "judge"),
        through_vae(model),
        out,
        limit=limit,
        seed=seed,
        about=facts(model),
        save_pictures=save_pictures,
        report=report,
    )


def _row(preset: str, options: dict[str, Any], model: Model) -> Row:
    if preset == PAINTED:
        return lambda item, seed: _painted(item, seed, model)

    def made(item: Asked, seed: int) -> Translated:
        pictures = Image.fromarray(item.source), Image.fromarray(item.reference)
        result = translate(*pictures, model, preset=preset, seed=seed, **options)
        return _of(result.image, result.report)

    return made


def _painted(item: Asked, seed: int, model: Model) -> Translated:
    mask = np.full(item.source.shape[:2], 255, np.uint8)
    if item.task == "subject":
        x0, y0, x1, y1 = (round(v * len(mask)) for v in item.box)
        mask[:] = 0
        mask[y0:y1, x0:x1] = 255
    source, hole, reference = (Image.fromarray(rgb) for rgb in (item.source, mask, item.reference))
    made = paint(source, hole, reference, model, seed=seed)
    return _of(made.image, made.report)


def _of(image: Image.Image, report: dict[str, Any]) -> Translated:
    return Translated(image=np.asarray(image.convert("RGB"), np.uint8), rows=report["rows"], seconds=report["seconds"])
