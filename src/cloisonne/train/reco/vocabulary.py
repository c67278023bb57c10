"""Position tokens for a tokenizer and text encoder that have none, and longer texts (arXiv 2211.15518, section 3.1)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.errors import TrainingError
from cloisonne.methods.reco import Vocabulary

BINS = 1000
LENGTH = 616
"""The published COCO model's, 8 times CLIP's 77."""


@dataclass(frozen=True)
class Grown:
    """What was added. first_token, first_place: the tables' first new rows; as many as rows if there are none."""

    first_token: int
    first_place: int


def extend(tokenizer: Any, text: Any, *, bins: int | None = None, length: int | None = None) -> Grown:
    """Give both, in place, ``bins`` position tokens and texts of ``length`` tokens; what is there already stays.

    The tokens' rows begin as sines of the coordinate, with the deviation of the rows there are. The places behind the
    last one begin as the last one, so a text of the old length means what it meant. Padding becomes the end token, as
    ReCo pads. Raises TrainingError where the base has other position tokens, or longer texts, than asked for.
    """
    known = "<bin000>" in tokenizer.get_vocab()
    have = Vocabulary.of(tokenizer).bins if known else bins or BINS
    if bins not in (None, have):
        raise TrainingError(f"--num_bins is {bins}, but the base has {have} position tokens; leave it out.")
    places = min(int(tokenizer.model_max_length), text.config.max_position_embeddings)
    wanted = length or (places if known else max(places, LENGTH))
    if wanted < places:
        raise TrainingError(f"--max_length is {wanted}, but the base reads {places} tokens; give as many at least.")
    first = Vocabulary.of(tokenizer).first_bin + have if known else len(tokenizer)
    if not known:
        digits = max(3, len(str(have - 1)))
        tokenizer.add_tokens([f"<bin{k:0{digits}d}>" for k in range(have)])
        _add_tokens(text, first, have)
    _add_places(text, wanted)
    tokenizer.model_max_length = wanted
    tokenizer.pad_token = tokenizer.eos_token
    # The pooled output is taken at eos_token_id; the legacy value 2 means the largest id, which would be a position.
    text.config.bos_token_id = tokenizer.bos_token_id
    text.config.eos_token_id = text.config.pad_token_id = tokenizer.eos_token_id
    return Grown(first, places)


def sines(bins: int, width: int) -> Tensor:
    """[bins, width] of unit deviation: sines and cosines of the coordinate, from half a wave to 16 across the canvas.

    Near positions are alike and far ones are not, which random rows would have to learn. (The published model takes
    trained rows of OFA here.)
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
    rows[first : first + bins] = sines(bins, old.shape[1]) * old.std()
    text.embeddings.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    text.config.vocab_size = len(rows)


@torch.no_grad()
def _add_places(text: Any, length: int) -> None:
    old = text.embeddings.position_embedding.weight
    if length <= len(old):
        return
    rows = torch.cat([old, old[-1:].expand(length - len(old), -1)])
    text.embeddings.position_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
    text.embeddings.position_ids = torch.arange(length)[None]
    text.config.max_position_embeddings = length
