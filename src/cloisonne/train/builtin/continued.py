"""Continued training of the base: constant learning rate for as long as there is time, then one fall.

The state lies in ``out/state``, as that of ``train family`` does, so it survives a killed process. Every slice encodes
further pictures until the store is full.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.models.vae import Vae
from cloisonne.train.base import latents
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as lessons
from cloisonne.train.base.recipe import CONTINUED
from cloisonne.train.builtin.family_run import Work
from cloisonne.train.builtin.resume import base_of, keep
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, progress_of, run
from cloisonne.world.picture import HELD_OUT_STYLES, STYLES, Recipe

RECIPE = Recipe(
    counts=(1, 1, 2, 2, 3, 4),
    styled=0.25,
    styles=tuple(style for style in STYLES[1:] if style not in HELD_OUT_STYLES),
    beyond_core=0.1,
)
"""The pictures: a quarter in a style, a tenth a glyph from outside the core."""
ENCODED_A_SLICE = 24_000


def continue_base(work: Work, *, most_slices: float = math.inf) -> Progress:
    """Train the base of ``work.start`` on, slice after slice of ``work.slice_minutes``, until stopped.

    Raises OutputError where ``work`` has no family to begin with or no length of a slice.
    """
    if work.start is None or work.slice_minutes is None:
        raise OutputError("Continued training needs a family to begin with and the minutes of a slice.")
    keep(work.start, work.family)
    store = _store(work)
    autoencoder = Vae(base.load_autoencoder(work.family / "vae").to(work.device))
    stage = _stage(work, store)
    done = 0
    while done < most_slices:
        latents.fill(store, autoencoder, min(work.pictures, len(store) + ENCODED_A_SLICE), work.report)
        run(stage, work.state("base"), slice_minutes=work.slice_minutes, report=work.report)
        done += 1
    return progress_of(work.state("base"))


def finish_base(work: Work, source: Path, pictures: int) -> bool:
    """Let the learning rate of the training in ``source`` fall to 0 over so many pictures, in ``work.out``.

    ``source`` stays as it is and can be trained on. Returns whether the fall is finished; its weights are then the
    averages in ``work.state("base")``.
    """
    assert work.start is not None, "a base that is finished began with a family"
    if not work.state("base").is_dir():
        shutil.copytree(source / "state" / "base", work.state("base"))
    keep(work.start, work.family)
    begun = progress_of(source / "state" / "base").pictures
    store = _store(replace(work, out=source))
    falling = replace(
        _stage(work, store), minutes=0.0, pictures=begun + pictures, decay_from=begun / (begun + pictures)
    )
    return run(falling, work.state("base"), slice_minutes=work.slice_minutes, report=work.report)


def _store(work: Work) -> latents.LatentStore:
    """Encoded pictures behind those that the family was trained on."""
    first = TRAINING_SEEDS + work.before("unet").pictures
    return latents.LatentStore(work.state("latents"), RECIPE, (8, 16, 16), work.pictures, first)


def _stage(work: Work, store: latents.LatentStore) -> Stage:
    """The base's training at a constant learning rate."""
    assert work.start is not None, "continued training begins with a family"
    words = base.load_tokenizer(work.family / "tokenizer")
    text, unet = base_of(work.start)
    return lessons.stage(text, unet, words, store, math.inf, work.device, recipe=CONTINUED)


def trained_until(out: Path, report: Callable[[str], None]) -> None:
    """Report where a training stands: pictures, minutes and the last figures."""
    state = out / "state" / "base"
    if not (state / "state.json").is_file():
        report(f"No training has been saved in {out}.")
        return
    progress = progress_of(state)
    report(f"{progress.pictures:,} pictures in {progress.seconds / 3600:.1f} hours; last: {progress.curve[-1:]}")
