"""An exemplar as pseudo-words: input embeddings that a text encoder reads in place of a name (ours).

Textual inversion (arXiv 2208.01618) finds such embeddings by optimisation. Here a network predicts them from the
features of CLIP's image tower, as ELITE does (arXiv 2302.13848, section 3.1), so that an exemplar is conditioned in the
language that the denoiser was trained on.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from cloisonne.models.adapters.paint_by_example import MapperBlock, TokenEncoder
from cloisonne.models.text import replaced_embeddings

RESAMPLER_LAYERS, HEADS = 2, 4


class PseudoWords(nn.Module):
    """Pseudo-words of images: ``words`` from the tower's pooled output, then ``details`` from its patches.

    The pooled output is Paint by Example's bottleneck (arXiv 2211.13227, section 3.2): it keeps what is shown and loses
    its pose. The patches pass a small resampler, as in IP-Adapter Plus, and bring details.

    Args:
        vision: CLIP's image tower, which is frozen.
        width: Width of the text encoder's input embeddings, D.
        words: Number of pseudo-words from the pooled output.
        details: Number of pseudo-words from the patches.
        blocks: Residual blocks between the pooled output and its words.
    """

    def __init__(self, vision: CLIPVisionModel, width: int, *, words: int = 2, details: int = 4, blocks: int = 3):
        super().__init__()
        self.vision = vision.requires_grad_(False)
        self.words, self.details, self.width, self.blocks = words, details, width, blocks
        hidden = vision.config.hidden_size
        self.mapper = nn.Sequential(*(MapperBlock(hidden) for _ in range(blocks)), nn.LayerNorm(hidden))
        self.project = nn.Linear(hidden, words * width)
        layer = nn.TransformerDecoderLayer(
            hidden, HEADS, 4 * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.queries = nn.Parameter(torch.randn(details, hidden) * hidden**-0.5)
        self.resampler = nn.TransformerDecoder(layer, RESAMPLER_LAYERS, nn.LayerNorm(hidden))
        self.project_details = nn.Linear(hidden, width)
        for linear in (self.project, self.project_details):
            nn.init.normal_(linear.weight, std=0.02 * hidden**-0.5)
            nn.init.zeros_(linear.bias)

    @property
    def config(self) -> dict[str, int]:
        """The numbers that it is built with."""
        return {"words": self.words, "details": self.details, "blocks": self.blocks}

    @torch.no_grad()
    def image_features(self, pixels: Tensor) -> Tensor:
        """[B, 1 + P, W]: the tower's pooled output, then its patches, of images [B, 3, side, side]."""
        vision: Any = self.vision
        out = vision(pixels)
        return torch.cat([out.pooler_output[:, None], vision.post_layernorm(out.last_hidden_state[:, 1:])], 1)

    def forward(self, image_features: Tensor) -> Tensor:
        """[B, words + details, D]: input embeddings for :meth:`image_features`."""
        pooled = self.project(self.mapper(image_features[:, 0])).unflatten(-1, (self.words, self.width))
        queries = self.queries.expand(len(image_features), -1, -1).to(image_features.dtype)
        details = self.project_details(self.resampler(queries, image_features[:, 1:]))
        return torch.cat([pooled, details], 1)


def encoded(text: CLIPTextModel, ids: Tensor, pseudo: Tensor, places: Tensor) -> Tensor:
    """[R, L, D]: the last hidden state for token ids [R, L], some of which pseudo-words replace.

    pseudo: [n, D]. places: [R, L] int, k + 1 where row k of ``pseudo`` is, 0 where the token is.
    """
    model: Any = text
    replaced_embeddings.install(model.get_input_embeddings())
    with replaced_embeddings.replacing_embeddings(pseudo, places):
        return model(ids).last_hidden_state


def text_places(counts: Tensor, total: int, length: int) -> Tensor:
    """[R, L]: the places of texts that are pseudo-words alone, for :func:`encoded`.

    counts: [R], how many of its pseudo-words each text has, from the first. total: pseudo-words of an image.
    """
    at = torch.arange(length, device=counts.device)[None]
    rows = torch.arange(len(counts), device=counts.device)[:, None]
    return torch.where((at > 0) & (at <= counts[:, None]), at + total * rows, 0)


class ExemplarText(TokenEncoder):
    """An exemplar as the hidden states of a text of its pseudo-words alone: ``[BOS] words [EOS] padding``.

    Args:
        words: The pseudo-words.
        text: Text encoder of the base.
        start: Id of its start token.
        end: Id of its end token, also the padding.
        length: Tokens of a text.
    """

    ids: Tensor

    def __init__(self, words: PseudoWords, text: CLIPTextModel, *, start: int, end: int, length: int) -> None:
        super().__init__()
        self.words = words
        self._text: tuple[Any] = (text,)  # in a tuple, because the weights are those of the base, not of this module
        self.register_buffer("ids", torch.tensor([start] + [end] * (length - 1)), persistent=False)

    @property
    def vision(self) -> CLIPVisionModel:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The image tower."""
        return self.words.vision

    @property
    def project(self) -> nn.Linear:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The last layer."""
        return self.words.project

    def image_features(self, pixels: Tensor) -> Tensor:
        """See :meth:`PseudoWords.image_features`."""
        return self.words.image_features(pixels)

    @property
    def has_bottleneck(self) -> bool:
        """Always."""
        return True

    def tokens_of(self, image_features: Tensor, *, bottleneck: bool = False) -> Tensor:
        """[B, L, D]: hidden states of the texts of the images' pseudo-words."""
        rows, (text,) = len(image_features), self._text
        pseudo = self.words(image_features)
        count = self.words.words if bottleneck else pseudo.shape[1]
        places = text_places(torch.full((rows,), count), pseudo.shape[1], len(self.ids)).to(pseudo.device)
        ids = self.ids.expand(rows, -1)
        return encoded(text, ids, pseudo.flatten(0, 1), places)

    def null_tokens(self) -> Tensor:
        """[L, D]: hidden states of the empty text."""
        (text,) = self._text
        return text(self.ids[None]).last_hidden_state[0]
