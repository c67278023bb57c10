"""Runs the benchmark of region edits with this package's editor."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cloisonne.bench.arguments import EDIT_ROWS, WORDS, check_edits, edit_rows
from cloisonne.bench.settings import Settings, through_vae
from cloisonne.eval.edits import Made, Row, evaluate_edits
from cloisonne.eval.judge import Judge
from cloisonne.eval.metrics.edits import ClipSimilarity
from cloisonne.eval.pairs import Pair
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Region, Scene
from cloisonne.scene.before_after import halves


def edits(
    settings: Settings,
    *,
    rows: Sequence[str] | None = None,
    tasks: Sequence[str] | None = None,
    pairs: str = "edits-v1",
    mode: str = "real",
) -> str:
    """``evaluate edits``: the tables in markdown. rows: see ``arguments.edit_rows``; None means ``EDIT_ROWS``."""
    check_edits(rows, tasks, pairs, mode)
    presets = edit_rows(rows or EDIT_ROWS)
    model = settings.load()
    return evaluate_edits(
        {name: row_of(preset, options, model, mode) for name, (preset, options) in presets.items()},
        Judge.load(BUILTIN / "judge"),
        ClipSimilarity(BUILTIN),
        through_vae(model),
        settings.out,
        tasks=tasks,
        pairs=pairs,
        mode=cast(Any, mode),
        **settings.keywords(model),
    )


def row_of(preset: str, options: dict[str, Any], model: Model, mode: str) -> Row:
    """The row of a preset and its options. mode: "real" edits the given image, "generated" generates it first."""
    given = mode == "real"
    if preset == WORDS:
        return Row(make=lambda item, seed: _filled(item, seed, model, given=given), about=preset)
    about = ",".join([preset, *(f"{name}={value}" for name, value in sorted(options.items()))])
    changes = {"preset": preset, **options}
    return Row(make=lambda item, seed: _edited(item, seed, model, changes, given=given), about=about)


def _edited(item: Pair, seed: int, model: Model, changes: dict[str, Any], *, given: bool) -> Made:
    made = edit(item.scene(_image(item.before) if given else None, seed), model, seed=seed, **changes)
    return Made(
        before=_pixels(made.named["before"]),
        after=_pixels(made.image),
        raw=_pixels(made.named["raw"]),
        rows=made.report["rows"],
        seconds=made.report["seconds"],
    )


def _filled(item: Pair, seed: int, model: Model, *, given: bool) -> Made:
    """Inpaint each edit's box from its phrase, or from the caption if the object is removed.

    All boxes are inpainted in one run. If the image is not given, it is generated first from the scene before.
    """
    results = [] if given else [generate(halves(item.scene(None, seed)).before, model)]
    before = _pixels(results[0].image) if results else item.before
    regions = [
        Region(name=one.name, box=one.box, phrase=one.after.phrase if one.after else item.caption) for one in item.edits
    ]
    scene = Scene(background=_image(before), caption=item.caption, regions=tuple(regions), seed=seed, composite=False)
    results.append(generate(scene, model))
    raw = _pixels(results[-1].image)
    return Made(
        before=before,
        after=np.where(item.mask[..., None], raw, before),
        raw=raw,
        rows=sum(one.report["rows"] for one in results),
        seconds=sum(one.report["seconds"] for one in results),
    )


def _image(rgb: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(rgb)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"), np.uint8)
