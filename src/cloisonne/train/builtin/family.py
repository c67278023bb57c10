"""Rebuilds the built-in family: every member in order, in slices if need be, with metrics and sample sheets.

cloisonne train family --minutes 120 --device auto --out family
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import T2IAdapter

from cloisonne.errors import OutputError
from cloisonne.eval.judge import Judge
from cloisonne.models.adapters.clipseg import CLIPSEG, write_decoder
from cloisonne.models.family_members import EXEMPLAR
from cloisonne.models.vae import Vae
from cloisonne.train.base import latents
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as lessons
from cloisonne.train.base.recipe import ON
from cloisonne.train.builtin import clip, clipseg, judge, tokenizer, vae
from cloisonne.train.builtin import resume as start
from cloisonne.train.builtin.descendants import (
    CONTROLS,
    Made,
    control_settings,
    exemplar_settings,
    pack_exemplar,
    trained,
)
from cloisonne.train.builtin.export import export_module, export_pretrained, write_index
from cloisonne.train.builtin.family_run import Work
from cloisonne.train.builtin.measure import measure_clip, measure_clipseg, measure_judge, measure_vae
from cloisonne.train.data import JUDGE_SEEDS, TRAINING_SEEDS
from cloisonne.train.loop import Progress, Stage, load_average
from cloisonne.train.precision import autocast, precision
from cloisonne.train.prefetch import processes
from cloisonne.world.picture import Recipe

RECIPE = Recipe(counts=(1, 1, 2, 2, 3, 4))
"""The pictures that the base is trained on."""


def finished(family: Path) -> bool:
    """Whether every member is there, its training at its end."""
    controls = (f"control-{kind}" for kind in CONTROLS)
    members = ("vae", "text_encoder", "unet", "judge", "clip", CLIPSEG, EXEMPLAR, *controls)
    return all((family / name / "provenance.json").is_file() for name in members)


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
    """Train all members from nothing, or go on where an earlier call stopped; returns whether the family is finished.

    With ``begin``, a finished family, the base and what depends on it are trained on from its weights, on pictures
    that it has not seen, and the other members are kept.

    The finished family lies in ``out/family`` and loads with ``cloisonne.load``. ``slice_minutes`` bounds the training
    done by one call (drawing, encoding and exporting come on top): call again to continue. ``made`` is called with a
    member's name and the family's folder once the family can be loaded with it.
    """
    work = work_of(
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
    if work.start is not None:
        start.keep(work.start, work.family)
    order = (make_vae, make_base, make_judge, make_clip, make_clipseg, make_exemplar, make_controls)
    return all(step(work) for step in order)


def work_of(
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
) -> Work:
    """The training in ``out``; OutputError where its budget is not positive."""
    if minutes <= 0:
        raise OutputError(f"A budget of {minutes} minutes trains nothing: give a positive number.")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    report(str(precision(torch.device(chosen).type)))
    return Work(
        out=out,
        device=torch.device(chosen),
        minutes=minutes,
        slice_minutes=slice_minutes,
        start=start.taken(begin, out / "state"),
        pictures=pictures,
        trips=trips,
        report=report,
        made=made,
    )


def make_vae(work: Work) -> bool:
    """The autoencoder; its latents' mean and deviation go into its configuration."""
    torch.manual_seed(0)
    model = vae.build()
    if not work.exported("vae"):
        if not work.run(vae.stage(model, work.share("vae"), work.device)):
            return False
        progress = load_average(work.state("vae"), {"vae": model})
        figures = measure_vae(model)
        model.register_to_config(shift_factor=figures["shift"], scaling_factor=1 / figures["deviation"])
        work.export("vae", model, progress, [], figures)
    return True


def make_base(work: Work) -> bool:
    """Tokenizer, text encoder and UNet, trained together."""
    if work.exported("unet"):
        return True
    folder = work.family / "tokenizer"
    words = base.load_tokenizer(folder) if folder.is_dir() else tokenizer.save(folder)
    stage = _first_base(work, words) if work.start is None else _base_trained_on(work, work.start, words)
    if not work.run(stage):
        return False
    progress = load_average(work.state("base"), stage.modules)
    figures = {k: v for k, v in progress.curve[-1].items() if k in ("v", "ce", "named")} if progress.curve else {}
    work.export("text_encoder", stage.modules["text"], progress, ["tokenizer"], {})
    work.export("unet", stage.modules["unet"], progress, ["vae", "text_encoder"], figures)
    write_index(work.family)
    work.made("unet", work.family)
    work.made("vae", work.family)
    return True


def _first_base(work: Work, words: Any) -> Stage:
    """From random weights, the first part of the time on half the canvas."""
    store, half = (_stored(work, name, side, TRAINING_SEEDS) for name, side in (("latents", 16), ("latents-half", 8)))
    torch.manual_seed(0)
    text, unet = base.build_text(words), base.build_unet()
    return lessons.stage(text, unet, words, store, work.share("base"), work.device, half=half)


def _base_trained_on(work: Work, begin: Path, words: Any) -> Stage:
    """From a family's weights, on pictures behind those that it was trained on."""
    store = _stored(work, "latents", 16, TRAINING_SEEDS + work.before("unet").pictures)
    text, unet = start.base_of(begin)
    return lessons.stage(text, unet, words, store, work.share("base"), work.device, recipe=ON)


def _stored(work: Work, name: str, side: int, first_seed: int) -> latents.LatentStore:
    """The base's pictures, encoded."""
    store = latents.LatentStore(work.state(name), RECIPE, (8, side, side), work.pictures, first_seed)
    latents.fill(store, _autoencoder(work), work.pictures, work.report)
    return store


def make_judge(work: Work) -> bool:
    """The judge, frozen once made."""
    if work.exported("judge"):
        return True
    autoencoder = _autoencoder(work)
    file = work.state("judge") / "trips.npy"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        judge.RoundTrips.make(file, work.trips, lambda x: _round_trip(autoencoder, x))
    torch.manual_seed(0)
    model = Judge()
    if not work.run(judge.stage(model, judge.RoundTrips(file), work.share("judge"), work.device)):
        return False
    progress = load_average(work.state("judge"), {"judge": model})
    figures = measure_judge(model.cpu().eval(), lambda x: _round_trip(autoencoder, x))
    export_module(model, model.config, work.family / "judge")
    work.note("judge", progress, ["vae"], figures, JUDGE_SEEDS)
    return True


def make_clip(work: Work) -> bool:
    """The contrastive pair."""
    if work.exported("clip"):
        return True
    words = base.load_tokenizer(work.family / "tokenizer")
    torch.manual_seed(0)
    model = clip.build(words)
    if not work.run(clip.stage(model, words, work.share("clip"), work.device)):
        return False
    progress = load_average(work.state("clip"), {"clip": model})
    work.export("clip", model, progress, ["tokenizer"], measure_clip(model.cpu(), words))
    return True


def make_clipseg(work: Work) -> bool:
    """What finds words in pictures: a decoder on the towers of clip."""
    if work.exported(CLIPSEG):
        return True
    segmenter = clipseg.build(work.family / "clip", base.load_tokenizer(work.family / "tokenizer"))
    stage = clipseg.stage(segmenter, work.share(CLIPSEG), work.device)
    if not work.run(stage):
        return False
    progress = load_average(work.state(CLIPSEG), stage.modules, stage.frozen)
    write_decoder(segmenter.module, work.family / CLIPSEG)
    work.note(CLIPSEG, progress, ["tokenizer", "clip"], measure_clipseg(segmenter), TRAINING_SEEDS)
    return True


def make_exemplar(work: Work) -> bool:
    """What paints exemplars: changes of the UNet, and the way from clip's image tower to its token."""
    if work.exported(EXEMPLAR):
        return True
    settings = replace(exemplar_settings(work.family, work.state(EXEMPLAR)), **_where(work))
    if work.start is not None:
        adapter = start.exemplar_adapter(work.start, work.family, work.out / "state" / f"{EXEMPLAR}-begun")
        settings = replace(settings, adapter=str(adapter), seed=1)
    made = trained(settings, work.share(EXEMPLAR), slice_minutes=work.slice_minutes, report=work.report)
    if made is None:
        return False
    pack_exemplar(made, settings, work.family)
    work.note(EXEMPLAR, _progress(made), ["vae", "unet", "clip"], {"loss": made.loss}, TRAINING_SEEDS)
    work.made(EXEMPLAR, work.family)
    return True


def make_controls(work: Work) -> bool:
    """Adapters of lines and of colours."""
    for kind in CONTROLS:
        member = f"control-{kind}"
        if work.exported(member):
            continue
        settings = replace(control_settings(work.family, work.state(member), kind), **_where(work))
        if work.start is not None:
            settings = replace(settings, adapter=str(work.start / member), seed=1)
        share = work.share("control") / len(CONTROLS)
        made = trained(settings, share, slice_minutes=work.slice_minutes, report=work.report)
        if made is None:
            return False
        export_pretrained(T2IAdapter.from_pretrained(made.folder), work.family / member)
        work.note(member, _progress(made), ["vae", "unet"], {"loss": made.loss}, TRAINING_SEEDS)
        work.made(member, work.family)
    return True


def _where(work: Work) -> dict[str, Any]:
    """Settings that say on what is trained, and in which number format."""
    fast = precision(work.device.type).dtype == torch.bfloat16
    return {
        "device": work.device.type,
        "dataloader_num_workers": processes(work.device),
        "mixed_precision": "bf16" if fast else "no",
    }


def _progress(made: Made) -> Progress:
    return Progress(step=made.steps, seconds=made.seconds, pictures=made.pictures)


def _autoencoder(work: Work) -> Vae:
    """The exported autoencoder on the family's device."""
    return Vae(base.load_autoencoder(work.family / "vae").to(work.device))


def _round_trip(autoencoder: Vae, pixels: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, h, w] in -1..1 through the autoencoder and back, on the CPU."""
    with autocast(autoencoder.module.device):
        return autoencoder.decode(autoencoder.encode(pixels)).cpu()
