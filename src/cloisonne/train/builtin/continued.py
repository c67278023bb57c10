"""Open-ended training of the base at a constant learning rate, and its final learning rate decay.

The state is stored in ``out/state``, as for ``train family``, so it survives a killed process. Every slice encodes more
images until the store is full.
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
from cloisonne.train.base import stage as base_stage
from cloisonne.train.base.recipe import CONTINUED
from cloisonne.train.builtin.family_run import Work
from cloisonne.train.builtin.resume import base_of, copy_members
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, progress_of, run
from cloisonne.world.picture import HELD_OUT_STYLES, STYLES, Recipe

RECIPE = Recipe(
    counts=(1, 1, 2, 2, 3, 4),
    styled=0.25,
    styles=tuple(style for style in STYLES[1:] if style not in HELD_OUT_STYLES),
    beyond_core=0.1,
)
"""Training images: a quarter in a style, a tenth with a glyph from outside the core."""
ENCODED_A_SLICE = 24_000
"""Images that a slice encodes at most."""


def continue_base(work: Work, *, most_slices: float = math.inf) -> Progress:
    """Train the base of ``work.start`` in slices of ``work.slice_minutes``, until stopped.

    Raises OutputError if ``work`` has no start family or no slice length.
    """
    if work.start is None or work.slice_minutes is None:
        raise OutputError("Continued training needs a family to start from and the minutes of a slice; give both.")
    copy_members(work.start, work.family)
    store = _store(work)
    autoencoder = Vae(base.load_autoencoder(work.family / "vae").to(work.device))
    stage = _stage(work, store)
    slices = 0
    while slices < most_slices:
        latents.fill(store, autoencoder, min(work.pictures, len(store) + ENCODED_A_SLICE), work.report)
        run(stage, work.state("base"), slice_minutes=work.slice_minutes, report=work.report)
        slices += 1
    return progress_of(work.state("base"))


def finish_base(work: Work, source: Path, pictures: int) -> bool:
    """Decay the learning rate of the training in ``source`` to 0 over ``pictures`` images, in ``work.out``.

    ``source`` is not changed and can be trained further. Returns whether the decay is finished; the final weights are
    then the EMA weights in ``work.state("base")``.
    """
    assert work.start is not None, "continued training starts from a family"
    if not work.state("base").is_dir():
        shutil.copytree(source / "state" / "base", work.state("base"))
    copy_members(work.start, work.family)
    trained = progress_of(source / "state" / "base").pictures
    store = _store(replace(work, out=source))
    decay = replace(
        _stage(work, store), minutes=0.0, pictures=trained + pictures, decay_from=trained / (trained + pictures)
    )
    return run(decay, work.state("base"), slice_minutes=work.slice_minutes, report=work.report)


def _store(work: Work) -> latents.LatentStore:
    """Encoded images with seeds after those that the start family was trained on."""
    first = TRAINING_SEEDS + work.before("unet").pictures
    return latents.LatentStore(work.state("latents"), RECIPE, (8, 16, 16), work.pictures, first)


def _stage(work: Work, store: latents.LatentStore) -> Stage:
    """The training stage of the base at a constant learning rate."""
    assert work.start is not None, "continued training starts from a family"
    tokenizer = base.load_tokenizer(work.family / "tokenizer")
    text, unet = base_of(work.start)
    return base_stage.stage(text, unet, tokenizer, store, math.inf, work.device, recipe=CONTINUED)


def trained_until(out: Path, report: Callable[[str], None]) -> None:
    """Report the progress of a training: images, hours and the last metrics."""
    state = out / "state" / "base"
    if not (state / "state.json").is_file():
        report(f"No training has been saved in {out}.")
        return
    progress = progress_of(state)
    report(f"{progress.pictures:,} images in {progress.seconds / 3600:.1f} hours; last: {progress.curve[-1:]}")
