"""The further members of a family folder: the exemplar network, control adapters and the segmenter.

``exemplar/`` holds only what exemplar training changed: low-rank matrices for the family's UNet, its input layer of
2C + 1 channels, and the layers between the image tower of ``clip/`` and the exemplar's token. ``control-<kind>/`` are
diffusers folders of T2I-Adapters.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.paint_by_example import ExemplarEncoder, ExemplarEngine, TokenEncoder
from cloisonne.models.adapters.pseudo_words import ExemplarText, PseudoWords
from cloisonne.models.builtin import CLIPSEG
from cloisonne.models.checkpoints.assemble import Placement, put
from cloisonne.models.checkpoints.files import files_of, read, read_json
from cloisonne.models.checkpoints.tensor_file import listed
from cloisonne.models.mapped import without_random_values
from cloisonne.models.model import Model
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.models.unet.denoiser import UNetDenoiser, unet_of
from cloisonne.scene.conditions.control import ControlKind

if TYPE_CHECKING:
    # Imported where it is used, because most folders have none.
    from cloisonne.models.adapters.t2i_adapter import Adapter

EXEMPLAR, CLIP = "exemplar", "clip"
WORDS = "encoder.words."
"""Prefix of the tensors of pseudo-words in an exemplar member."""


@dataclass(frozen=True, eq=False)
class FamilyMembers:
    """What a family's folder holds apart from the model itself, and the files that it was read from."""

    adapters: "Mapping[str, Adapter]"
    exemplar: ExemplarEngine | None
    segmenter: Callable[[], Any] | None
    files: tuple[Path, ...]


def read_family_members(model: Model, family: Path, placement: Placement) -> FamilyMembers:
    """Read the control adapters, the exemplar network for the model's UNet, and the segmenter."""
    files: list[Path] = []
    adapters: dict[str, Adapter] = {}
    for kind in get_args(ControlKind):
        folder = family / f"control-{kind}"
        if (folder / "config.json").is_file():
            from cloisonne.models.adapters.t2i_adapter import check_adapter, read_adapter

            adapters[kind] = read_adapter(folder, placement.dtype, placement.device)
            unet = unet_of(model.net, f"The adapter for {kind}").unet
            check_adapter(adapters[kind], kind, unet.config, model.name)
            files += files_of([folder])
    engine = None
    if (family / EXEMPLAR / "config.json").is_file():
        engine = read(family, lambda path: _engine(model, path, placement))
        files += files_of([family / EXEMPLAR, family / CLIP])
    segmenter = None
    if (family / CLIPSEG / "config.json").is_file():
        files += files_of([family / CLIPSEG])
        segmenter = segmenter_of(family / CLIPSEG, family / "tokenizer", placement.device)
    return FamilyMembers(adapters, engine, segmenter, tuple(files))


def with_family_members(model: Model, found: FamilyMembers) -> Model:
    """Add the members to a model that has no add-ons yet."""
    files = (*model.files, *found.files)
    return replace(model, adapters=found.adapters, exemplar=found.exemplar, segmenter=found.segmenter, files=files)


def segmenter_of(folder: Path, tokenizer: Path | None, device: torch.device) -> Callable[[], Any]:
    """A function that returns the CLIPSeg in a folder and reads it at its first call, in whichever thread that is."""
    lock, found = threading.Lock(), list[Any]()

    def read_once() -> Any:
        from cloisonne.models.adapters.clipseg import load_segmenter

        with lock:
            if not found:
                found.append(load_segmenter(folder, tokenizer, device=device))
        return found[0]

    return read_once


def _engine(model: Model, family: Path, placement: Placement) -> ExemplarEngine:
    config = read_json(family / EXEMPLAR / "config.json")
    tensors = load_file(family / EXEMPLAR / "model.safetensors")
    if unknown := [name for name in tensors if not name.startswith(("encoder.", "unet."))]:
        raise CheckpointError(f'"{family / EXEMPLAR}" holds tensors that are not used: {listed(unknown)}; restore it.')
    heads = {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith("encoder.")}
    encoder = _encoder(config, family, heads, model)
    changes = {name.removeprefix("unet."): t for name, t in tensors.items() if name.startswith("unet.")}
    unet = adapted(unet_of(model.net, "An exemplar network of low-rank changes").unet, changes)
    put([encoder, unet], placement)
    spec = replace(model.spec, extra_channels=model.spec.latent_channels + 1)
    return ExemplarEngine(net=UNetDenoiser(unet, spec), encoder=encoder, device=placement.device)


def _encoder(config: Mapping[str, Any], family: Path, heads: Mapping[str, Tensor], model: Model) -> TokenEncoder:
    """The encoder of an exemplar member: pseudo-words for the model's text encoder, or one token."""
    if "words" in config:
        if not isinstance(model.text, ClipTextEncoder):
            raise CheckpointError("The exemplar network has pseudo-words, which only a CLIP text encoder reads.")
        return exemplar_text(pseudo_words(family), model.text.module, model.text.tokenizer)
    with without_random_values():
        encoder = ExemplarEncoder(tower_of(family / CLIP), config["token_width"], config["mapper_blocks"])
    encoder.load_state_dict(dict(heads) | {f"vision.{name}": t for name, t in encoder.vision.state_dict().items()})
    return encoder


def pseudo_words(family: Path) -> PseudoWords:
    """The pseudo-words of a family's exemplar member, in float32. Raises CheckpointError if it has none."""
    config = read_json(family / EXEMPLAR / "config.json")
    tensors = load_file(family / EXEMPLAR / "model.safetensors")
    if "words" not in config:
        raise CheckpointError(f'The exemplar network of "{family}" has no pseudo-words; train its base first.')
    heads = {name.removeprefix(WORDS): t.float() for name, t in tensors.items() if name.startswith(WORDS)}
    sizes = {name: config[name] for name in ("words", "details", "blocks")}
    words = PseudoWords(tower_of(family / CLIP), heads["project_details.weight"].shape[0], **sizes)
    words.load_state_dict(heads | {f"vision.{name}": t for name, t in words.vision.state_dict().items()})
    return words


def adapted(base: Any, changes: Mapping[str, Tensor]) -> UNet2DConditionModel:
    """A UNet of 2C + 1 input channels: the base's weights, each replaced or increased by ``up @ down``."""
    config = dict(base.config) | {"in_channels": 2 * base.config["out_channels"] + 1}
    with torch.device("meta"), without_random_values():
        unet: Any = UNet2DConditionModel.from_config(config)
    weights: dict[str, Tensor] = dict(base.state_dict())
    for name, change in changes.items():
        if name.endswith(".down"):
            layer = name.removesuffix(".down")
            weights[f"{layer}.weight"] = _sum(weights[f"{layer}.weight"], change, changes[f"{layer}.up"])
        elif not name.endswith(".up"):
            weights[name] = change
    unet.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return unet


def _sum(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """[out, in, ...] plus ``up [out, r, ...] @ down [r, in, ...]``."""
    change = up.flatten(1).float() @ down.flatten(1).float()
    return (weight.float() + change.to(weight.device).reshape(weight.shape)).to(weight.dtype)


def tower_of(folder: Path) -> CLIPVisionModel:
    """The image tower in a folder of CLIP, both towers or one, in float32. Raises CheckpointError where it has none."""
    config = read_json(folder / "config.json")
    shape = config.get("vision_config", config)
    with without_random_values():
        tower = CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in shape.items() if k != "model_type"}))
    files = sorted(folder.glob("*.safetensors"))
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    plain = {name.removeprefix("vision_model."): t.float() for name, t in found.items()}
    own = {name: plain.get(name.removeprefix("vision_model.")) for name in tower.state_dict()}
    if missing := [name for name, tensor in own.items() if tensor is None and not name.endswith("position_ids")]:
        raise CheckpointError(f'"{folder}" lacks the tensor "{missing[0]}"; give a folder of CLIP with its weights.')
    tower.load_state_dict({name: tensor for name, tensor in own.items() if tensor is not None}, assign=True)
    return tower


def exemplar_text(words: PseudoWords, text: Any, tokenizer: Any) -> ExemplarText:
    """Exemplars as texts of pseudo-words, for a text encoder and its tokenizer."""
    length = min(int(tokenizer.model_max_length), text.config.max_position_embeddings)
    return ExemplarText(words, text, start=tokenizer.bos_token_id, end=tokenizer.eos_token_id, length=length)


def write_exemplar(trained: Mapping[str, Tensor], config: Mapping[str, int], folder: Path) -> None:
    """Write the exemplar member in half precision.

    trained: tensors named ``encoder.<name>`` of the encoder, without its tower, and ``unet.<name>`` of the changes.
    config: the sizes of the encoder: ``token_width`` and ``mapper_blocks`` of the one with one token; ``words``,
    ``details`` and ``blocks`` of pseudo-words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.half().contiguous() for name, tensor in trained.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(dict(config), indent=1) + "\n", encoding="utf-8")
