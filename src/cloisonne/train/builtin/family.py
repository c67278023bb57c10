"""Trains all members of the built-in model family in order, optionally in slices, with metrics and sample sheets.

cloisonne train family --minutes 120 --device auto --out family
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cloisonne.errors import OutputError
from cloisonne.eval.judge import Judge
from cloisonne.models.adapters.clipseg import CLIPSEG, write_decoder
from cloisonne.models.builtin import PROVENANCE
from cloisonne.models.family_members import EXEMPLAR
from cloisonne.models.vae import Vae
from cloisonne.train.base import latents
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as base_stage
from cloisonne.train.base.recipe import FINETUNED, FROM_SCRATCH
from cloisonne.train.builtin import clip, clipseg, judge, resume, tokenizer, vae
from cloisonne.train.builtin.descendants import CONTROLS, make_controls
from cloisonne.train.builtin.exemplar import build_words, export_exemplar, first_words, narrow_unet, wide_unet
from cloisonne.train.builtin.export import export_module, write_index
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.measure import measure_clip, measure_clipseg, measure_judge, measure_vae
from cloisonne.train.data import JUDGE_SEEDS, TRAINING_SEEDS
from cloisonne.train.exemplar.student import widen
from cloisonne.train.loop import Stage, load_average
from cloisonne.train.precision import autocast, precision
from cloisonne.world.picture import HELD_OUT_STYLES, STYLES, Recipe

RECIPE = Recipe(
    counts=(1, 1, 2, 2, 3, 4),
    styled=0.25,
    styles=tuple(style for style in STYLES[1:] if style not in HELD_OUT_STYLES),
    beyond_core=0.1,
)
"""Training images of the base: a quarter in a style, a tenth with a glyph from outside the core."""


def finished(family: Path) -> bool:
    """Whether every member of the family is finished."""
    controls = (f"control-{kind}" for kind in CONTROLS)
    members = ("vae", "text_encoder", "unet", "judge", "clip", CLIPSEG, EXEMPLAR, *controls)
    return all((family / name / PROVENANCE).is_file() for name in members)


def train_family(
    out: Path,
    minutes: float,
    *,
    device: str = "auto",
    slice_minutes: float | None = None,
    begin: Path | None = None,
    pictures: int = 40_000,
    trips: int = 6_000,
    report: Callable[[str], None] = print,
    made: Callable[[str, Path], None] = lambda member, family: None,
) -> bool:
    """Train all members from scratch, or resume an earlier call.

    The finished family is in ``out/family`` and loads with ``cloisonne.load``.

    Args:
        out: Folder for the family and the training state.
        minutes: Training budget of all members together.
        device: "auto", "cpu" or "cuda".
        slice_minutes: Training limit of this call, without rendering, encoding and export; call again to resume.
        begin: A finished family. Its base and the members that depend on it are fine-tuned on new images; the other
            members are copied.
        pictures: Number of encoded images for the base.
        trips: Number of VAE round trips for the judge.
        report: Receives log lines.
        made: Called with a member and the family folder once the family can be loaded with the member.

    Returns:
        Whether the family is finished.

    Raises:
        OutputError: The budget is not positive, or ``out`` holds a training with another start family.
        CheckpointError: ``begin`` is no complete family.
    """
    training = family_training(
        out,
        minutes,
        device=device,
        slice_minutes=slice_minutes,
        begin=begin,
        pictures=pictures,
        trips=trips,
        report=report,
        made=made,
    )
    if training.start is not None:
        resume.copy_members(training.start, training.family)
    order = (make_vae, make_clip, make_base, make_judge, make_clipseg, make_controls)
    return all(step(training) for step in order)


def family_training(
    out: Path,
    minutes: float,
    *,
    device: str,
    slice_minutes: float | None,
    begin: Path | None,
    pictures: int,
    trips: int = 0,
    report: Callable[[str], None] = print,
    made: Callable[[str, Path], None] = lambda member, family: None,
) -> FamilyTraining:
    """The family training in ``out``. Raises OutputError if the budget is not positive."""
    if minutes <= 0:
        raise OutputError(f"The training budget is {minutes} minutes; give a positive number.")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    report(str(precision(torch.device(chosen).type)))
    return FamilyTraining(
        out=out,
        device=torch.device(chosen),
        minutes=minutes,
        slice_minutes=slice_minutes,
        start=resume.start_family(begin, out / "state"),
        pictures=pictures,
        trips=trips,
        report=report,
        made=made,
    )


def make_vae(training: FamilyTraining) -> bool:
    """Train the VAE; its configuration gets the mean and deviation of its latents."""
    torch.manual_seed(0)
    model = vae.build()
    if not training.exported("vae"):
        if not training.run(vae.stage(model, training.share("vae"), training.device)):
            return False
        progress = load_average(training.state("vae"), {"vae": model})
        figures = measure_vae(model)
        model.register_to_config(shift_factor=figures["shift"], scaling_factor=1 / figures["deviation"])
        training.export("vae", model, progress, [], figures)
    return True


def make_base(training: FamilyTraining) -> bool:
    """Train text encoder and UNet jointly, with the exemplar member."""
    if training.exported(EXEMPLAR):
        return True
    stage = _new_base(training) if training.start is None else _finetuned_base(training, training.start)
    if not training.run(stage):
        return False
    progress = load_average(training.state("base"), stage.modules, stage.frozen)
    figures = {k: v for k, v in progress.curve[-1].items() if k in ("v", "ce", "named")} if progress.curve else {}
    wide: Any = stage.modules["unet"]
    words: Any = stage.modules["exemplar"]
    training.export("text_encoder", stage.modules["text"], progress, ["tokenizer"], {})
    training.export("unet", narrow_unet(wide), progress, ["vae", "text_encoder"], figures)
    export_exemplar(training, words, wide, progress)
    write_index(training.family, RECIPE.styles)
    for member in ("unet", "vae", EXEMPLAR):
        training.made(member, training.family)
    return True


def _new_base(training: FamilyTraining) -> Stage:
    """Stage of the base from random weights, at first at half resolution."""
    store, half = (
        _stored(training, name, side, TRAINING_SEEDS) for name, side in (("latents", 16), ("latents-half", 8))
    )
    words, own_tokenizer = build_words(training.family), _tokenizer(training)
    torch.manual_seed(0)
    text, unet = base.build_text(own_tokenizer), base.build_unet()
    widen(unet)
    return base_stage.stage(
        text,
        unet,
        own_tokenizer,
        store,
        training.share("base"),
        training.device,
        recipe=FROM_SCRATCH,
        half=half,
        exemplar=words,
        vae=_autoencoder(training),
    )


def _finetuned_base(training: FamilyTraining, begin: Path) -> Stage:
    """Stage of the base from the weights of a family, on images with later seeds than its training images."""
    return base_stage.stage(
        resume.base_of(begin)[0],
        wide_unet(begin),
        _tokenizer(training),
        _stored(training, "latents", 16, TRAINING_SEEDS + training.before("unet").pictures),
        training.share("base"),
        training.device,
        recipe=FINETUNED,
        exemplar=first_words(training, resume.base_of(begin)[0]),
        vae=_autoencoder(training),
    )


def _tokenizer(training: FamilyTraining) -> Any:
    """The tokenizer of the family, trained at the first use."""
    folder = training.family / "tokenizer"
    return base.load_tokenizer(folder) if folder.is_dir() else tokenizer.save(folder)


def _stored(training: FamilyTraining, name: str, side: int, first_seed: int) -> latents.LatentStore:
    """The encoded training images of the base."""
    store = latents.LatentStore(training.state(name), RECIPE, (8, side, side), training.pictures, first_seed)
    latents.fill(store, _autoencoder(training), training.pictures, training.report)
    return store


def make_judge(training: FamilyTraining) -> bool:
    """Train the judge; it is never retrained."""
    if training.exported("judge"):
        return True
    autoencoder = _autoencoder(training)
    file = training.state("judge") / "trips.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        judge.RoundTrips.make(file, training.trips, lambda x: _round_trip(autoencoder, x))
    torch.manual_seed(0)
    model = Judge()
    if not training.run(judge.stage(model, judge.RoundTrips(file), training.share("judge"), training.device)):
        return False
    progress = load_average(training.state("judge"), {"judge": model})
    figures = measure_judge(model.cpu().eval(), lambda x: _round_trip(autoencoder, x))
    export_module(model, model.config, training.family / "judge")
    training.note("judge", progress, ["vae"], figures, JUDGE_SEEDS)
    return True


def make_clip(training: FamilyTraining) -> bool:
    """Train CLIP."""
    if training.exported("clip"):
        return True
    own_tokenizer = _tokenizer(training)
    torch.manual_seed(0)
    model = clip.build(own_tokenizer)
    if not training.run(clip.stage(model, own_tokenizer, training.share("clip"), training.device)):
        return False
    progress = load_average(training.state("clip"), {"clip": model})
    training.export("clip", model, progress, ["tokenizer"], measure_clip(model.cpu(), own_tokenizer))
    return True


def make_clipseg(training: FamilyTraining) -> bool:
    """Train CLIPSeg: a segmentation decoder on the CLIP encoders."""
    if training.exported(CLIPSEG):
        return True
    segmenter = clipseg.build(training.family / "clip", base.load_tokenizer(training.family / "tokenizer"))
    stage = clipseg.stage(segmenter, training.share(CLIPSEG), training.device)
    if not training.run(stage):
        return False
    progress = load_average(training.state(CLIPSEG), stage.modules, stage.frozen)
    write_decoder(segmenter.module, training.family / CLIPSEG)
    training.note(CLIPSEG, progress, ["tokenizer", "clip"], measure_clipseg(segmenter), TRAINING_SEEDS)
    return True


def _autoencoder(training: FamilyTraining) -> Vae:
    """The exported VAE on the training device."""
    return Vae(base.load_autoencoder(training.family / "vae").to(training.device))


def _round_trip(autoencoder: Vae, pixels: torch.Tensor) -> torch.Tensor:
    """Encode and decode images [n, 3, h, w] in -1..1; returns them on the CPU."""
    with autocast(autoencoder.module.device):
        return autoencoder.decode(autoencoder.encode(pixels)).cpu()
