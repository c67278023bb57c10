"""Learned concepts: a few vectors in place of token embeddings of the text encoder (VCT, arXiv 2307.14352)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_bytes
from safetensors.torch import save as written
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError, OutputError
from cloisonne.models.checkpoints.tensor_file import read_tensors
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.text.replaced_embeddings import replacing_embeddings

NAME = "<concept>"


@dataclass(frozen=True, eq=False)
class Concept:
    """A learned concept. vectors: [N, D] float32, in place of the embeddings of N tokens. name: of its tensor."""

    vectors: Tensor
    name: str = NAME

    def data(self) -> bytes:
        """Its ``.safetensors`` file as bytes."""
        return written({self.name: self.vectors.detach().cpu().contiguous()})

    def save(self, path: str | Path) -> None:
        """Write it as a textual inversion, which ``embeddings=`` and other tools also read."""
        try:
            Path(path).write_bytes(self.data())
        except OSError as error:
            raise OutputError(f'The concept cannot be written to "{path}" ({error}); choose another place.') from None

    @classmethod
    def load(cls, path: str | Path) -> "Concept":
        """Read a concept, or any textual inversion for one text encoder: diffusers', or A1111's once converted.

        Raises CheckpointError where the file holds none.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            raise CheckpointError(f'There is no concept "{path}"; check its path.')
        if file.suffix != ".safetensors":
            raise CheckpointError(
                f'The concept "{path}" is no .safetensors file; convert it once: cloisonne convert {path} '
                "OUT.safetensors."
            )
        return cls._of(read_tensors(file), f'"{path}"')

    @classmethod
    def read(cls, data: bytes) -> "Concept":
        """As :meth:`load`, from a file's bytes."""
        try:
            return cls._of(read_bytes(data), "The concept's file")
        except (SafetensorError, ValueError, KeyError):
            raise CheckpointError(
                "The concept's file is no safetensors file; give a concept learned by cloisonne or a textual "
                "inversion, and convert a pickled one: cloisonne convert IN OUT.safetensors."
            ) from None

    @classmethod
    def _of(cls, tensors: dict[str, Tensor], named: str) -> "Concept":
        found = [name for name, tensor in tensors.items() if tensor.ndim in (1, 2, 3)]
        if len(tensors) != 1 or len(found) != 1:
            raise CheckpointError(
                f"{named} holds {len(tensors)} tensors, not the one of a concept for one text encoder; give another."
            )
        vectors = tensors[found[0]].float()
        return cls(vectors.reshape(-1, vectors.shape[-1]), found[0])


def width_of(text: TextEncoder) -> int:
    """D of a model's token embeddings. Raises CapabilityError where it does not have exactly one text encoder."""
    if not isinstance(text, ClipTextEncoder) or len(text.modules) != 1:
        raise CapabilityError(
            "Concepts are learned for models of one text encoder, such as Stable Diffusion 1.x and 2.x or the built-in "
            'family; load one of these, or use the preset "fast".'
        )
    return table_of(text).weight.shape[1]


def table_of(text: ClipTextEncoder) -> Any:
    """The text encoder's layer of token embeddings."""
    return text.module.get_input_embeddings()


def encode_concept(
    text: ClipTextEncoder, vectors: Tensor, content: Tensor | None = None
) -> tuple[Tensor, tuple[int, ...]]:
    """Encode a text of the concept alone: [length, D], with a gradient to its vectors [N, D], and their positions.

    content: vectors [M, D] that stand before the concept's. Raises CheckpointError where the vectors have another
    width, or are too many for a text.
    """
    before = 0 if content is None else len(content)
    vectors = vectors if content is None else torch.cat([content.to(vectors), vectors])
    width, count = width_of(text), len(vectors)
    if vectors.shape[1] != width:
        raise CheckpointError(
            f"The concept's vectors have {vectors.shape[1]} numbers, but this model's token embeddings have {width}; "
            "learn the concept with this model."
        )
    if count > text.capacity:
        raise CheckpointError(f"The concept has {count} vectors, but the model reads at most {text.capacity}.")
    ids = text.padded_ids("")
    ids = [ids[0], *([ids[1]] * count), *ids[1 : len(ids) - count]]
    positions = tuple(range(before + 1, count + 1))

    with replacing_embeddings(vectors):
        encoded = text.module(torch.tensor([ids], device=vectors.device)).last_hidden_state[0].float()
    return encoded, positions
