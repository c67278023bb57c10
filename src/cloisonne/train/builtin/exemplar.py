"""The exemplar member: pseudo-words that the base reads, and the first layer with which it sees the masked image.

Base and exemplar network are one network: in training it has 2C + 1 input channels, and the base is the same without
the last C + 1, which are 0 where there is no hole.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

from cloisonne.models.adapters.pseudo_words import PseudoWords
from cloisonne.models.checkpoints.files import read_json
from cloisonne.models.family_members import CLIP, EXEMPLAR, WORDS, pseudo_words, tower_of, write_exemplar
from cloisonne.train.base import exemplars
from cloisonne.train.base import networks as base
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.resume import base_of
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.exemplar.student import widen
from cloisonne.train.loop import Progress, run

FIRST_LAYER = "conv_in"


def build_words(family: Path) -> PseudoWords:
    """Untrained pseudo-words on the image tower of a family."""
    torch.manual_seed(0)
    return PseudoWords(tower_of(family / CLIP), base.WIDTH)


def has_words(family: Path) -> bool:
    """Whether a family's exemplars are pseudo-words."""
    file = family / EXEMPLAR / "config.json"
    return file.is_file() and "words" in read_json(file)


def first_words(training: FamilyTraining, text: CLIPTextModel) -> PseudoWords:
    """Pseudo-words to train: those of the start family, or new ones that the text encoder reads as names."""
    if training.start is not None and has_words(training.start):
        return pseudo_words(training.start)
    words = build_words(training.family)
    tokenizer = base.load_tokenizer(training.family / "tokenizer")
    naming = exemplars.stage(words, text, tokenizer, exemplars.REGRESSED, training.device)
    run(naming, training.state("words"), report=training.report)
    return words


def wide_unet(start: Path) -> Any:
    """The UNet of a family with 2C + 1 input channels: the last are its exemplar network's, or 0."""
    unet: Any = base_of(start)[1]
    widen(unet)
    if has_words(start):
        found = load_file(start / EXEMPLAR / "model.safetensors")
        layer = {name: found[f"unet.{FIRST_LAYER}.{name}"].float() for name in ("weight", "bias")}
        unet.conv_in.load_state_dict(layer)
    return unet


def narrow_unet(wide: Any) -> Any:
    """The base of a widened UNet: the same without the channels of the masked image and the mask."""
    channels = wide.config["out_channels"]
    unet: Any = UNet2DConditionModel.from_config({**wide.config, "in_channels": channels})
    weights = wide.state_dict()
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :channels]
    unet.load_state_dict(weights)
    return unet.to(wide.device)


def export_exemplar(training: FamilyTraining, words: PseudoWords, wide: Any, progress: Progress) -> None:
    """Write the exemplar member of a finished base. progress: of the base and the pseudo-words together."""
    own = {f"{WORDS}{name}": p for name, p in words.named_parameters() if not name.startswith("vision.")}
    layer = {f"unet.{FIRST_LAYER}.{name}": p for name, p in wide.conv_in.named_parameters()}
    write_exemplar(own | layer, words.config, training.family / EXEMPLAR)
    begun = training.start is not None and has_words(training.start)
    parents = ["vae", "text_encoder", "unet", "clip"]
    training.note(EXEMPLAR, progress, parents, {}, TRAINING_SEEDS, begun=begun)
