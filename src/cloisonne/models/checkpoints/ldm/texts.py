"""Text encoders of a checkpoint in LDM layout, and their tokenizer, which such a file does not hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.files import read
from cloisonne.models.checkpoints.ldm.fill import filled, within
from cloisonne.models.checkpoints.ldm.names import CLIP_L, OPEN_CLIP, XL_FIRST, XL_SECOND
from cloisonne.models.checkpoints.ldm.open_clip import renamed
from cloisonne.models.checkpoints.ldm.shapes import Tensors, clip_text_config
from cloisonne.models.checkpoints.parts import TextPart
from cloisonne.models.checkpoints.tensor_file import TensorFile

TEXTS: dict[str, tuple[str, ...]] = {
    "sd1": (CLIP_L,),
    "sd2": (OPEN_CLIP,),
    "sdxl": (XL_FIRST, XL_SECOND),
}
"""Prefixes of the text encoders, by model family."""

VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Either of these files holds a tokenizer's vocabulary."""
TOKENIZER = "openai/clip-vit-large-patch14"
"""The tokenizer of all these families; searched for in the hub's local cache."""


def texts_of(family: str, file: TensorFile, words: Callable[[], CLIPTokenizer]) -> tuple[TextPart, ...]:
    """The text encoders of a checkpoint of the family."""
    tensors, source = file.tensors, Path(file.source)
    if family == "sd1":
        return (_clip(within(tensors, CLIP_L), words(), source, CLIP_L),)
    if family == "sd2":
        return (_open_clip(within(tensors, OPEN_CLIP), words(), source, OPEN_CLIP, unused=1),)
    first = _clip(within(tensors, XL_FIRST), words(), source, XL_FIRST)
    return first, _open_clip(within(tensors, XL_SECOND), words(), source, XL_SECOND, unused=0)


def _clip(tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str) -> TextPart:
    """CLIP's text encoder; embeddings beyond the tokenizer's vocabulary are ReCo's position tokens."""
    own = {name: tensor for name, tensor in tensors.items() if not name.endswith("position_ids")}
    config = clip_text_config(own)
    bins = config["vocab_size"] - len(tokenizer)
    if bins < 0:
        raise CheckpointError(
            f'"{source}" has {config["vocab_size"]} token embeddings and its tokenizer {len(tokenizer)} tokens; give '
            "its own tokenizer."
        )
    tokenizer.add_tokens([f"<bin{k:03d}>" for k in range(bins)])
    tokenizer.model_max_length = config["max_position_embeddings"]
    return _text_part(CLIPTextModel, config | {"hidden_act": "quick_gelu"}, own, tokenizer, source, prefix)


def _open_clip(tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str, *, unused: int) -> TextPart:
    """OpenCLIP's text encoder without its last ``unused`` layers; its projection gives pooled text."""
    layers = len({name.split(".")[2] for name in tensors if name.startswith("transformer.resblocks.")}) - unused
    own = renamed(tensors, layers=layers)
    projection = own.get("text_projection.weight")
    if unused:
        own.pop("text_projection.weight", None)
    config = clip_text_config(own) | {"hidden_act": "gelu"}
    # These tokenizers pad with their first token.
    tokenizer.pad_token = "!"
    if unused or projection is None:
        return _text_part(CLIPTextModel, config, own, tokenizer, source, prefix)
    config["projection_dim"] = len(projection)
    return _text_part(CLIPTextModelWithProjection, config, own, tokenizer, source, prefix)


def _text_part(
    kind: Any, config: dict[str, Any], tensors: Tensors, tokenizer: CLIPTokenizer, source: Path, prefix: str
) -> TextPart:
    ids: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"pad_token_id": tokenizer.pad_token_id}
    # Not on the meta device: position ids are computed, not read.
    module: nn.Module = kind(CLIPTextConfig(**config, **ids))
    prefixed = any(name.startswith("text_model.") for name in module.state_dict())
    own = {
        f"text_model.{name}" if prefixed and not name.startswith("text_projection") else name: tensor
        for name, tensor in tensors.items()
    }
    return TextPart(filled(module, own, len(own), source, prefix), tokenizer)


def read_tokenizer(folder: Path | None) -> CLIPTokenizer:
    """A new CLIP tokenizer, of a folder or of the hub's local cache."""
    folders = [_cached()] if folder is None else [folder / "tokenizer", folder]
    for one in folders:
        # An empty folder would be read as a tokenizer of an empty vocabulary.
        if one and any((one / name).is_file() for name in VOCABULARIES):
            return read(one, CLIPTokenizer.from_pretrained)
    wanted = f'"{TOKENIZER}" in the local cache of the hub' if folder is None else f'a CLIP tokenizer in "{folder}"'
    raise CheckpointError(
        f"A single file holds no tokenizer, and {wanted} was not found; give the folder of one: "
        f"{spelled('load(..., tokenizer=FOLDER)', '--tokenizer FOLDER')}."
    )


def _cached() -> Path | None:
    """The tokenizer's folder in the hub's local cache."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(TOKENIZER, name) for name in VOCABULARIES)
    return next((Path(file).parent for file in found if isinstance(file, str)), None)
