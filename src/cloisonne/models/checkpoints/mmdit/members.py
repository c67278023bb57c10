"""Read the members of a pipeline folder of a diffusion transformer: networks, text encoders, tokenizers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import check_weights, files_of, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.mmdit.flow_scheduler import flow_scheduler_of
from cloisonne.models.checkpoints.mmdit.quantised_folder import method_of, read_quantised, without_method
from cloisonne.models.checkpoints.mmdit.transformer_file import read_transformer
from cloisonne.models.checkpoints.network_config import check_network, check_qwen3, check_t5, check_text
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.families import FAMILIES


@dataclass(frozen=True, kw_only=True, eq=False)
class PipelineFolder:
    """A pipeline folder of a diffusion transformer, and how it is read.

    index: its ``model_index.json``. dtype: of the networks. variant: of the weights; None means the plain ones, or
    those there are. transformer: a file whose transformer replaces the folder's own.
    """

    path: Path
    index: Mapping[str, Any]
    dtype: torch.dtype
    variant: str | None = None
    transformer: Path | None = None

    def members(self, family: str, without: Collection[str] = ()) -> "Members":
        """The members of a family's folder, after a check of their classes. without: those that it leaves out."""
        members = {name: kinds for name, kinds in FAMILIES[family].members.items() if name not in without}
        for member, allowed in members.items():
            listed = self.index.get(member)
            found = listed[1] if isinstance(listed, list) and len(listed) == 2 else None
            if found not in allowed:
                raise CheckpointError(f'"{self.path}" has {found} as its {member}; {allowed[0]} is needed.')
        networks = [member for member in members if "tokenizer" not in member]
        if self.transformer is not None:
            networks.remove("transformer")
        taken = {member: check_weights(self.path / member, variant=self.variant) for member in networks}
        notes, warnings = variant_notes(self.path.name, {} if self.variant else taken)
        return Members(self, family, tuple(members), taken, list(notes), list(warnings))


@dataclass(frozen=True, eq=False)
class Members:
    """The members of a folder that is being read.

    names: in the order of the index. variants: of the weights of each network. notes, warnings: as of the parts; what
    is read adds to them.
    """

    folder: PipelineFolder
    family: str
    names: tuple[str, ...]
    variants: Mapping[str, str | None]
    notes: list[str]
    warnings: list[str]

    def network(self, kind: Any, name: str) -> Any:
        """Read a network of diffusers and check its configuration."""
        member = self.folder.path / name
        check_network(member / "config.json", read_json(member / "config.json"), kind)
        return read(member, lambda path: self._read_network(kind, path))

    def transformer(self, kind: Any, own: Any = None) -> Any:
        """Read the transformer, of the folder or of the file that replaces it.

        own: a subclass of ``kind`` of the same configuration and weights, of which the network is made.
        """
        member, file = self.folder.path / "transformer", self.folder.transformer
        config = read_json(member / "config.json")
        method = method_of(member / "config.json", config)
        plain = without_method(config)
        check_network(member / "config.json", plain, kind)
        if file is not None:
            return read_transformer(own or kind, plain, file, self.family, self.folder.dtype)
        if method is not None:
            variant, dtype = self.variants["transformer"], self.folder.dtype
            return read(member, lambda path: read_quantised(own or kind, path, config, variant, dtype))
        return read(member, lambda path: self._read_network(own or kind, path))

    def _read_network(self, kind: Any, member: Path) -> Any:
        theirs = {"torch_dtype": self.folder.dtype, "variant": self.variants[member.name]}
        return pretrained(kind, member, warn=self.warnings, **theirs)

    def text_encoder(self, kind: Any, name: str = "text_encoder") -> Any:
        """Read a text encoder of transformers, CLIP's, T5's or Qwen3's, and check its configuration."""
        member = self.folder.path / name
        check, config = _CHECKS[kind]
        found = read_json(member / "config.json")
        method = method_of(member / "config.json", found)
        check(member / "config.json", without_method(found), config)
        variant, dtype = self.variants[name], text_dtype(kind, self.folder.dtype)
        if method is not None:
            return read(member, lambda path: read_quantised(kind, path, found, variant, self.folder.dtype))
        theirs = {"dtype": dtype, "variant": variant}
        return read(member, lambda path: pretrained(kind, path, warn=self.warnings, **theirs))

    def qwen(self, layers: Sequence[int]) -> TextPart:
        """Qwen3 as a text encoder, without its last layers where no hidden state of ``layers`` needs them.

        layers: indices of hidden states, as in transformers; -1 is after the last layer.
        """
        listed: Any = self.folder.index["text_encoder"]
        kind = Qwen3ForCausalLM if listed[1] == "Qwen3ForCausalLM" else Qwen3Model
        member = self.folder.path / "text_encoder"
        module = truncated(self.text_encoder(kind).base_model, layers, member)
        return TextPart(module, read_qwen_tokenizer(self.folder.path / "tokenizer"))

    def scheduler(self) -> dict[str, Any]:
        """The scheduler's configuration."""
        listed = self.folder.index.get("scheduler")
        return flow_scheduler_of(self.folder.path, listed[1] if isinstance(listed, list) else None)

    def parts(self, **own: Any) -> Parts:
        """The parts of what was read. own: network, vae, texts and scheduler, and what else the family sets."""
        path, replaced = self.folder.path, self.folder.transformer
        files = files_of([path / member for member in (*self.names, "scheduler")])
        if replaced is not None:
            weights = (file for file in files if file.parent.name == "transformer" and file.suffix == ".safetensors")
            files = (*sorted({*files} - {*weights}), replaced)
        return Parts(family=self.family, files=files, notes=tuple(self.notes), warnings=tuple(self.warnings), **own)


def text_dtype(kind: Any, dtype: torch.dtype) -> torch.dtype:
    """The dtype of a text encoder's class: in place of float16, which T5 overflows, bfloat16."""
    return torch.bfloat16 if kind is T5EncoderModel and dtype == torch.float16 else dtype


def truncated(module: Any, layers: Sequence[int], member: Path | str) -> Any:
    """Qwen3 without the last layers that no hidden state of ``layers`` needs. member: its name for messages."""
    count = len(module.layers)
    if max(layers) >= count:
        raise CheckpointError(
            f'"{member}" has {count} layers, and hidden states after layer {max(layers)}, before the last, are read; '
            "take the text encoder from the model's own folder."
        )
    if min(layers) >= 0:
        # Hidden states before the last are not normalised.
        module.layers = module.layers[: max(layers) + 1]
        module.config.num_hidden_layers = len(module.layers)
        module.config.layer_types = module.config.layer_types[: len(module.layers)]
    return module


_CHECKS: Mapping[Any, tuple[Any, Any]] = {
    CLIPTextModel: (check_text, CLIPTextConfig),
    CLIPTextModelWithProjection: (check_text, CLIPTextConfig),
    T5EncoderModel: (check_t5, T5Config),
    Qwen3ForCausalLM: (check_qwen3, Qwen3Config),
    Qwen3Model: (check_qwen3, Qwen3Config),
}
"""How the configuration of a text encoder is checked, by its class."""


def read_t5_tokenizer(member: Path, most: int | None = None) -> Any:
    """T5's tokenizer. most: of its length in tokens; None leaves it as it is."""
    tokenizer = _with_json(member, T5Tokenizer)
    if most is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return tokenizer


def read_qwen_tokenizer(member: Path) -> Any:
    """Qwen's tokenizer."""
    return _with_json(member, Qwen2Tokenizer)


def _with_json(member: Path, kind: Any) -> Any:
    """A tokenizer of a class, which is read from its tokenizer.json."""
    if not (member / "tokenizer.json").is_file():
        raise CheckpointError(f'"{member}" has no tokenizer.json; download it again.')
    return read(member, kind.from_pretrained)
