"""Open-ended training of the base at a constant learning rate, its final learning rate decay, and a sharper decoder.

The state is stored in ``out/state``, as for ``train family``, so it survives a killed process. Every slice encodes more
images until the store is full.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cloisonne.errors import OutputError
from cloisonne.models.adapters.pseudo_words import PseudoWords
from cloisonne.models.vae import Vae
from cloisonne.train.base import exemplars, latents
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as base_stage
from cloisonne.train.base.recipe import CONTINUED
from cloisonne.train.builtin import decoder
from cloisonne.train.builtin.exemplar import build_words, export_exemplar, first_words, narrow_unet, wide_unet
from cloisonne.train.builtin.export import export_pretrained, write_index
from cloisonne.train.builtin.family import RECIPE
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.measure import measure_vae
from cloisonne.train.builtin.resume import base_of, copy_members
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, load_average, progress_of, run

STORED_FIRST = 24_000
"""Images that are stored at least; more are encoded until half as many are stored as were trained on."""
FINAL_EMA = 0.995
"""Decay of the moving average while the learning rate falls: it spans the last 200 steps, not the high rates before."""


def continue_base(training: FamilyTraining, *, most_slices: float = math.inf) -> Progress:
    """Train the base of ``training.start`` in slices of ``training.slice_minutes``, until stopped.

    Raises OutputError if ``work`` has no start family or no slice length.
    """
    if training.start is None or training.slice_minutes is None:
        raise OutputError("Continued training needs a family to start from and the minutes of a slice; give both.")
    copy_members(training.start, training.family)
    store = _store(training)
    autoencoder = Vae(base.load_autoencoder(training.family / "vae").to(training.device))
    stage = _stage(training, store, _words(training))
    slices = 0
    while slices < most_slices:
        wanted = min(training.pictures, max(STORED_FIRST, _trained(training) // 2))
        latents.fill(store, autoencoder, wanted, training.report)
        run(stage, training.state("base"), slice_minutes=training.slice_minutes, report=training.report)
        slices += 1
    return progress_of(training.state("base"))


def _trained(training: FamilyTraining) -> int:
    """Images that the base was trained on."""
    state = training.state("base")
    return progress_of(state).pictures if (state / "state.json").is_file() else 0


def finish_base(training: FamilyTraining, source: Path, pictures: int) -> bool:
    """Decay the learning rate of the training in ``source`` to 0 over ``pictures`` images, in ``training.out``.

    ``source`` is not changed and can be trained further. Returns whether the decay is finished; the final weights are
    then the EMA weights in ``training.state("base")``.
    """
    assert training.start is not None, "continued training starts from a family"
    before = training.state("before")
    if not before.is_dir():
        shutil.copytree(source / "state" / "base", before)
    if not training.state("base").is_dir():
        shutil.copytree(before, training.state("base"))
    copy_members(training.start, training.family)
    trained = progress_of(before).pictures
    store = stored_images(training, source)
    decay = replace(
        _stage(training, store, build_words(training.family)),
        minutes=0.0,
        pictures=trained + pictures,
        decay_from=trained / (trained + pictures),
        ema=FINAL_EMA,
    )
    return run(decay, training.state("base"), slice_minutes=training.slice_minutes, report=training.report)


def stored_images(training: FamilyTraining, source: Path) -> latents.LatentStore:
    """The encoded images of the training in ``source``."""
    return _store(replace(training, out=source))


def _store(training: FamilyTraining) -> latents.LatentStore:
    """Encoded images with seeds after those that the start family was trained on."""
    first = TRAINING_SEEDS + training.before("unet").pictures
    return latents.LatentStore(training.state("latents"), RECIPE, (8, 16, 16), training.pictures, first)


def _stage(training: FamilyTraining, store: latents.LatentStore, words: PseudoWords) -> Stage:
    """The training stage of base, pseudo-words and first layer for holes, at a constant learning rate."""
    assert training.start is not None, "continued training starts from a family"
    return base_stage.stage(
        base_of(training.start)[0],
        wide_unet(training.start),
        base.load_tokenizer(training.family / "tokenizer"),
        store,
        math.inf,
        training.device,
        recipe=CONTINUED,
        exemplar=words,
        vae=Vae(base.load_autoencoder(training.family / "vae").to(training.device)),
    )


def _words(training: FamilyTraining) -> PseudoWords:
    """Pseudo-words to train with the base; a checkpoint holds those that it has."""
    assert training.start is not None, "continued training starts from a family"
    if training.state("base").is_dir():
        return build_words(training.family)
    return first_words(training, base_of(training.start)[0])


def trained_until(out: Path, report: Callable[[str], None]) -> None:
    """Report the progress of a training: images, hours and the last metrics."""
    state = out / "state" / "base"
    if not (state / "state.json").is_file():
        report(f"No training has been saved in {out}.")
        return
    progress = progress_of(state)
    report(f"{progress.pictures:,} images in {progress.seconds / 3600:.1f} hours; last: {progress.curve[-1:]}")


def export_average(training: FamilyTraining, source: Path) -> Progress:
    """Write ``training.family`` with the EMA weights of the base at the last checkpoint of the training in ``source``.

    It has no controls: those were trained on the base that the training started from. Returns the progress since then.
    Raises OutputError if ``source`` has no training.
    """
    if training.start is None or not (source / "state" / "base" / "state.json").is_file():
        raise OutputError(f'No training has been saved in "{source}"; "cloisonne train base -o {source}" starts one.')
    copy_members(training.start, training.family)
    text, wide, words = base_of(training.start)[0], wide_unet(training.start), build_words(training.family)
    modules = {"text": text, "unet": wide, "exemplar": words}
    progress = load_average(source / "state" / "base", modules, frozen=exemplars.FROZEN)
    training.export("text_encoder", text, progress, ["tokenizer"], {})
    training.export("unet", narrow_unet(wide), progress, ["vae", "text_encoder"], {})
    export_exemplar(training, words, wide, progress)
    write_index(training.family, RECIPE.styles)
    return progress


def train_decoder(training: FamilyTraining, pictures: int) -> bool:
    """Train the decoder of ``training.start``'s autoencoder on, enlarged; its images are those of the base's training.

    The finished autoencoder is written to ``training.out / "decoder"``. Returns whether it is finished. Raises
    OutputError if ``training`` has no start family.
    """
    if training.start is None:
        raise OutputError("A decoder is trained on from a family's; give a family to start from.")
    copy_members(training.start, training.family)
    autoencoder = base.load_autoencoder(training.family / "vae")
    store = _store(training)
    if len(store) < STORED_FIRST:
        latents.fill(store, Vae(autoencoder), min(training.pictures, STORED_FIRST), training.report)
    text, unet = base_of(training.start)
    tokenizer = base.load_tokenizer(training.family / "tokenizer")
    larger = decoder.enlarged(autoencoder)
    drawing = decoder.Base(text=text, unet=unet, tokenizer=tokenizer, store=store)
    stage = decoder.stage(larger, drawing, pictures, training.device)
    finished = run(stage, training.state("decoder"), slice_minutes=training.slice_minutes, report=training.report)
    if finished:
        export_pretrained(larger, training.out / "decoder")
        training.report(f"decoder: {measure_vae(larger)}")
    return finished
