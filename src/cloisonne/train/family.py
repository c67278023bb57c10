"""Rebuilds the built-in family: every member in order, in slices if need be, with metrics and sample sheets.

cloisonne train family --minutes 120 --device auto --out family
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import T2IAdapter

from cloisonne.errors import OutputError
from cloisonne.eval.judge import Judge
from cloisonne.models.clipseg import CLIPSEG, write_decoder
from cloisonne.models.relatives import EXEMPLAR
from cloisonne.models.vae import Vae
from cloisonne.train import base, clip, clipseg, judge, latents, lessons, tokenizer, vae
from cloisonne.train.ahead import processes
from cloisonne.train.data import JUDGE_SEEDS, TRAINING_SEEDS
from cloisonne.train.descendants import (
    CONTROLS,
    Made,
    control_settings,
    exemplar_settings,
    pack_exemplar,
    trained,
)
from cloisonne.train.export import device_words, export_module, export_pretrained, write_index, write_provenance
from cloisonne.train.loop import Progress, Stage, load_average, run
from cloisonne.train.measure import measure_clip, measure_clipseg, measure_judge, measure_vae
from cloisonne.world.picture import Recipe

SHARES = {"vae": 0.16, "base": 0.34, "judge": 0.07, "clip": 0.1, "clipseg": 0.04, "exemplar": 0.21, "control": 0.08}
"""Shares of the minutes; drawing and encoding in between come on top."""
RECIPE = Recipe(counts=(1, 1, 2, 2, 3, 4))
"""The pictures that the base is trained on."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A family in the making: where, on what, how long."""

    out: Path
    device: torch.device
    minutes: float
    slice_minutes: float | None
    pictures: int
    """Pictures whose latents are kept for the base."""
    trips: int
    """Pictures whose VAE round trips are kept for the judge."""
    report: Callable[[str], None]
    made: Callable[[str, Path], None]
    """Called with a member's name and the family's folder once the family can be loaded with it."""

    @property
    def family(self) -> Path:
        return self.out / "family"

    def state(self, member: str) -> Path:
        return self.out / "state" / member

    def run(self, stage: Stage) -> bool:
        """Train a stage for its share of the budget; False when the slice ended before it did."""
        return run(stage, self.state(stage.name), slice_minutes=self.slice_minutes, report=self.report)

    def share(self, member: str) -> float:
        return self.minutes * SHARES[member]


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
    pictures: int = 40_000,
    trips: int = 6_000,
    report: Callable[[str], None] = print,
    made: Callable[[str, Path], None] = lambda member, family: None,
) -> bool:
    """Train all members from nothing, or go on where an earlier call stopped; returns whether the family is finished.

    The finished family lies in ``out/family`` and loads with ``cloisonne.load``. ``slice_minutes`` bounds the training
    done by one call (drawing, encoding and exporting come on top): call again to continue. ``made`` is called with a
    member's name and the family's folder once the family can be loaded with it.
    """
    if minutes <= 0:
        raise OutputError(f"A budget of {minutes} minutes trains nothing: give a positive number.")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    work = Work(
        out=out,
        device=torch.device(chosen),
        minutes=minutes,
        slice_minutes=slice_minutes,
        pictures=pictures,
        trips=trips,
        report=report,
        made=made,
    )
    order = (make_vae, make_base, make_judge, make_clip, make_clipseg, make_exemplar, make_controls)
    return all(step(work) for step in order)


def make_vae(work: Work) -> bool:
    """The autoencoder; its latents' mean and deviation go into its configuration."""
    torch.manual_seed(0)
    model = vae.build()
    if not _exported(work, "vae"):
        if not work.run(vae.stage(model, work.share("vae"), work.device)):
            return False
        progress = load_average(work.state("vae"), {"vae": model})
        figures = measure_vae(model)
        model.register_to_config(shift_factor=figures["shift"], scaling_factor=1 / figures["deviation"])
        _export(work, "vae", model, progress, [], figures)
    return True


def make_base(work: Work) -> bool:
    """Tokenizer, text encoder and UNet, trained together."""
    if _exported(work, "unet"):
        return True
    folder = work.family / "tokenizer"
    words = base.load_tokenizer(folder) if folder.is_dir() else tokenizer.save(folder)
    store, half = (
        latents.LatentStore(work.state(name), RECIPE, (8, side, side), work.pictures)
        for name, side in (("latents", 16), ("latents-half", 8))
    )
    for pictures in (store, half):
        latents.fill(pictures, _autoencoder(work), work.pictures, work.report)
    torch.manual_seed(0)
    text, unet = base.build_text(words), base.build_unet()
    stage = lessons.stage(text, unet, words, store, work.share("base"), work.device, half=half)
    if not work.run(stage):
        return False
    progress = load_average(work.state("base"), stage.modules)
    figures = {k: v for k, v in progress.curve[-1].items() if k in ("v", "ce", "named")} if progress.curve else {}
    _export(work, "text_encoder", text, progress, ["tokenizer"], {})
    _export(work, "unet", unet, progress, ["vae", "text_encoder"], figures)
    write_index(work.family)
    work.made("unet", work.family)
    work.made("vae", work.family)
    return True


def make_judge(work: Work) -> bool:
    """The judge, frozen once made."""
    if _exported(work, "judge"):
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
    _note(work, "judge", progress, ["vae"], figures, JUDGE_SEEDS)
    return True


def make_clip(work: Work) -> bool:
    """The contrastive pair."""
    if _exported(work, "clip"):
        return True
    words = base.load_tokenizer(work.family / "tokenizer")
    torch.manual_seed(0)
    model = clip.build(words)
    if not work.run(clip.stage(model, words, work.share("clip"), work.device)):
        return False
    progress = load_average(work.state("clip"), {"clip": model})
    _export(work, "clip", model, progress, ["tokenizer"], measure_clip(model.cpu(), words))
    return True


def make_clipseg(work: Work) -> bool:
    """What finds words in pictures: a decoder on the towers of clip."""
    if _exported(work, CLIPSEG):
        return True
    segmenter = clipseg.build(work.family / "clip", base.load_tokenizer(work.family / "tokenizer"))
    stage = clipseg.stage(segmenter, work.share(CLIPSEG), work.device)
    if not work.run(stage):
        return False
    progress = load_average(work.state(CLIPSEG), stage.modules, stage.frozen)
    write_decoder(segmenter.module, work.family / CLIPSEG)
    _note(work, CLIPSEG, progress, ["tokenizer", "clip"], measure_clipseg(segmenter), TRAINING_SEEDS)
    return True


def make_exemplar(work: Work) -> bool:
    """What paints exemplars: changes of the UNet, and the way from clip's image tower to its token."""
    if _exported(work, EXEMPLAR):
        return True
    settings = replace(exemplar_settings(work.family, work.state(EXEMPLAR)), **_where(work))
    made = trained(settings, work.share(EXEMPLAR), slice_minutes=work.slice_minutes, report=work.report)
    if made is None:
        return False
    pack_exemplar(made, settings, work.family)
    _note(work, EXEMPLAR, _progress(made), ["vae", "unet", "clip"], {"loss": made.loss}, TRAINING_SEEDS)
    work.made(EXEMPLAR, work.family)
    return True


def make_controls(work: Work) -> bool:
    """Adapters of lines and of colours."""
    for kind in CONTROLS:
        member = f"control-{kind}"
        if _exported(work, member):
            continue
        settings = replace(control_settings(work.family, work.state(member), kind), **_where(work))
        share = work.share("control") / len(CONTROLS)
        made = trained(settings, share, slice_minutes=work.slice_minutes, report=work.report)
        if made is None:
            return False
        export_pretrained(T2IAdapter.from_pretrained(made.folder), work.family / member)
        _note(work, member, _progress(made), ["vae", "unet"], {"loss": made.loss}, TRAINING_SEEDS)
        work.made(member, work.family)
    return True


def _where(work: Work) -> dict[str, Any]:
    """Settings that say on what is trained."""
    return {"device": work.device.type, "dataloader_num_workers": processes(work.device)}


def _progress(made: Made) -> Progress:
    return Progress(step=made.steps, seconds=made.seconds, pictures=made.pictures)


def _autoencoder(work: Work) -> Vae:
    """The exported autoencoder on the family's device."""
    return Vae(base.load_autoencoder(work.family / "vae").to(work.device))


def _round_trip(autoencoder: Vae, pixels: torch.Tensor) -> torch.Tensor:
    """Pictures [n, 3, h, w] in -1..1 through the autoencoder and back, on the CPU."""
    with torch.autocast(autoencoder.module.device.type, torch.bfloat16):
        return autoencoder.decode(autoencoder.encode(pixels)).cpu()


def _exported(work: Work, member: str) -> bool:
    return (work.family / member / "provenance.json").is_file()


def _export(
    work: Work, member: str, model: Any, progress: Progress, parents: list[str], figures: dict[str, float]
) -> None:
    export_pretrained(model, work.family / member)
    _note(work, member, progress, parents, figures, TRAINING_SEEDS)


def _note(
    work: Work, member: str, progress: Progress, parents: list[str], figures: dict[str, float], seed: int
) -> None:
    write_provenance(
        work.family / member,
        progress=progress,
        parents=[work.family / parent for parent in parents],
        metrics={k: float(np.asarray(v)) for k, v in figures.items()},
        first_seed=seed,
        device=device_words(work.device),
    )
    work.report(f"{member}: {json.dumps({k: round(v, 4) for k, v in figures.items()})}")
