"""Adds position tokens and a longer text length to a tokenizer and text encoder (arXiv 2211.15518, section 3.1)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import TrainingError
from cloisonne.methods.reco import Vocabulary

BINS = 1000
LENGTH = 616
"""The text length of the published COCO model, 8 times CLIP's 77."""


@dataclass(frozen=True)
class Extension:
    """Indices of the first new rows of the token and position embeddings; the table length if there are none."""

    first_token: int
    first_position: int


def extend(tokenizer: Any, text: Any, *, bins: int | None = None, length: int | None = None) -> Extension:
    """Add ``bins`` position tokens and a text length of ``length`` tokens, in place; existing ones stay.

    New token embeddings start as sinusoids of the coordinate, with the standard deviation of the existing embeddings.
    New position embeddings start as copies of the last one, so texts of the old length keep their encoding. The padding
    token becomes the end token, as in ReCo.

    Raises:
        TrainingError: The base has another number of position tokens, or a longer text length.
    """
    known = "<bin000>" in tokenizer.get_vocab()
    num_bins = Vocabulary.of(tokenizer).bins if known else bins or BINS
    if bins not in (None, num_bins):
        raise TrainingError(f"--num_bins is {bins}, but the base has {num_bins} position tokens; omit it.")
    current_length = min(int(tokenizer.model_max_length), text.config.max_position_embeddings)
    wanted = length or (current_length if known else max(current_length, LENGTH))
    if wanted < current_length:
        raise TrainingError(
            f"--max_length is {wanted}, but the base reads {current_length} tokens; give at least as many."
        )
    first = Vocabulary.of(tokenizer).first_bin + num_bins if known else len(tokenizer)
    if not known:
        digits = max(3, len(str(num_bins - 1)))
        tokenizer.add_tokens([f"<bin{k:0{digits}d}>" for k in range(num_bins)])
        _add_tokens(text, first, num_bins)
    _add_positions(text, wanted)
    tokenizer.model_max_length = wanted
    tokenizer.pad_token = tokenizer.eos_token
    # The pooled output is taken at eos_token_id. The legacy value 2 means the largest id, here a position token.
    text.config.bos_token_id = tokenizer.bos_token_id
    text.config.eos_token_id = text.config.pad_token_id = tokenizer.eos_token_id
    return Extension(first, current_length)


def sinusoids(bins: int, width: int) -> Tensor:
    """Sines and cosines of the coordinate [bins, width], from half a period to 16 periods, of deviation 1.

    Nearby positions are similar and distant ones are not, which random embeddings would have to learn. (The
    published model uses trained embeddings of OFA.)
    """
    at = torch.arange(bins) / (bins - 1)
    frequency = torch.pi * 2 ** torch.linspace(0, 5, -(-width // 2))
    rows = torch.cat([torch.sin(at[:, None] * frequency), torch.cos(at[:, None] * frequency)], -1)[:, :width]
    return rows / rows.std()


@torch.no_grad()
def _add_tokens(text: Any, first: int, bins: int) -> None:
    old = text.embeddings.token_embedding.weight
    rows = old.new_zeros(max(len(old), first + bins), old.shape[1])
    rows[: len(old)] = old
    rows[first : first + bins] = sinusoids(bins, old.shape[1]) * old.std()
    text.embeddings.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    text.config.vocab_size = len(rows)


@torch.no_grad()
def _add_positions(text: Any, length: int) -> None:
    old = text.embeddings.position_embedding.weight
    if length <= len(old):
        return
    rows = torch.cat([old, old[-1:].expand(length - len(old), -1)])
    text.embeddings.position_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    text.embeddings.position_ids = torch.arange(length)[None]
    text.config.max_position_embeddings = length
