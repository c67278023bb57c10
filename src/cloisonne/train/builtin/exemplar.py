"""The exemplar member: pseudo-words that the base reads, and the painter that fills holes with what they describe."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.adapters.pseudo_words import PseudoWords
from cloisonne.models.family_members import CLIP, EXEMPLAR, WORDS, adapted, pseudo_words, tower_of, write_exemplar
from cloisonne.models.vae import Vae
from cloisonne.train.base import exemplars
from cloisonne.train.base import networks as base
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.builtin import painter
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.resume import base_of
from cloisonne.train.exemplar.student import widen
from cloisonne.train.loop import Progress, progress_of, run


def build_words(family: Path) -> PseudoWords:
    """Untrained pseudo-words on the image tower of a family."""
    torch.manual_seed(0)
    return PseudoWords(tower_of(family / CLIP), base.WIDTH)


def has_words(family: Path) -> bool:
    """Whether a family's exemplars are pseudo-words."""
    file = family / EXEMPLAR / "model.safetensors"
    return file.is_file() and any(name.startswith(WORDS) for name in load_file(file))


def first_words(training: FamilyTraining, text: CLIPTextModel) -> PseudoWords:
    """Pseudo-words to train: those of the start family, or new ones that the text encoder reads as names."""
    if training.start is not None and has_words(training.start):
        return pseudo_words(training.start)
    words = build_words(training.family)
    tokenizer = base.load_tokenizer(training.family / "tokenizer")
    naming = exemplars.stage(words, text, tokenizer, exemplars.REGRESSED, training.device)
    run(naming, training.state("words"), report=training.report)
    return words


def write_member(words: PseudoWords, unet: Mapping[str, Tensor], folder: Path) -> None:
    """Write an exemplar member: pseudo-words, and the changes of the base's UNet."""
    own = {f"{WORDS}{name}": p for name, p in words.named_parameters() if not name.startswith("vision.")}
    write_exemplar(own | {f"unet.{name}": t for name, t in unet.items()}, words.config, folder)


def write_base_as_painter(words: PseudoWords, unet: Any, folder: Path) -> None:
    """Write an exemplar member that is the base itself, which does not see the image around the hole."""
    wide = copy.deepcopy(unet)
    widen(wide)
    write_member(words, {f"conv_in.{name}": p for name, p in wide.conv_in.named_parameters()}, folder)


def train_painter(
    training: FamilyTraining,
    family: Path,
    store: LatentStore,
    *,
    minutes: float = 0.0,
    pictures: int | None = None,
    rank: int = painter.RANK,
) -> Progress | None:
    """Train the painter of a family with pseudo-words; its member is written to ``training.out / "painter"``.

    Returns None if the slice ended first.
    """
    text, unet = base_of(family)
    words = pseudo_words(family)
    wide = _start(training.start, unet)
    stage = painter.stage(
        wide,
        words,
        text,
        Vae(base.load_autoencoder(family / "vae").to(training.device)),
        store,
        Vocabulary.of(base.load_tokenizer(family / "tokenizer")),
        minutes=minutes,
        pictures=pictures,
        device=training.device,
    )
    if not training.run(stage):
        return None
    write_member(words.cpu(), painter.changes(unet, wide.cpu(), rank), training.out / "painter")
    return progress_of(training.state(stage.name))


def _start(start: Path | None, unet: Any) -> Any:
    """The widened UNet that training starts with: the base, changed as the painter of the start family is."""
    wide = copy.deepcopy(unet)
    widen(wide)
    if start is None or not has_words(start):
        return wide
    old = base_of(start)[1]
    tensors = load_file(start / EXEMPLAR / "model.safetensors")
    found = {name.removeprefix("unet."): t.float() for name, t in tensors.items() if name.startswith("unet.")}
    then = adapted(old, found).state_dict()
    widen(old)
    before = old.state_dict()
    wide.load_state_dict({name: t + then[name] - before[name] for name, t in wide.state_dict().items()})
    return wide
