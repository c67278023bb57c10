"""diffusers' transformers as oracles of joint attention: their own forward pass and processors, with given masks."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    ZImageTransformer2DModel,
)
from diffusers.models.attention_processor import JointAttnProcessor2_0
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from flux import write_flux
from flux2 import write_flux2
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.scene.prompt import Piece

SIDE, GRID = 128, (8, 8)
"""Pixels of the image, and its image tokens."""
PIXELS = 64


class Given(NamedTuple):
    """One forward pass. z: [1, C, H, W]. texts: [n, D] each, the first with padding. biases: [S, S] of each block.

    changed: what is done to the network that was read.
    """

    z: Tensor
    level: float
    texts: Sequence[Tensor]
    pooled: Tensor | None
    biases: Sequence[Tensor]
    changed: Callable[[Any], None] = lambda network: None


class Network(NamedTuple):
    """A family: write makes a checkpoint of four blocks or less, shallow one of one block; x0 is its oracle."""

    write: Callable[[Path], Path]
    shallow: Callable[[Path], Path]
    x0: Callable[[Path, Given], Tensor]
    blocks: int
    text_first: bool = True
    multiple: int = 1


class _Masked(FluxAttnProcessor):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


class _Masked2(Flux2AttnProcessor):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


class _MaskedSingle2(Flux2ParallelSelfAttnProcessor):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:2], self.mask[None, None], *args[3:], **given)


class _MaskedSd3(JointAttnProcessor2_0):
    """Takes no mask itself; a layer without text gets the image's part."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, *_: Any, **__: Any) -> Any:
        mask = self.mask if encoder_hidden_states is not None else self.mask[:PIXELS, :PIXELS]
        attention = F.scaled_dot_product_attention
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: attention(q, k, v, attn_mask=mask))
            return super().__call__(attn, hidden_states, encoder_hidden_states)


class _MaskedZ(ZSingleStreamAttnProcessor):
    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, None, self.mask[None, None], freqs_cis)


def _flux(folder: Path, given: Given) -> Tensor:
    network: Any = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    given.changed(network)
    masks = zip(network.attn_processors, given.biases, strict=True)
    network.set_attn_processor({name: _Masked(mask) for name, mask in masks})
    tokens = torch.cat(list(given.texts))
    assert given.pooled is not None
    flow = network(
        hidden_states=packed(given.z, 2),
        encoder_hidden_states=tokens[None],
        pooled_projections=given.pooled[None],
        timestep=torch.tensor([given.level]),
        txt_ids=torch.zeros(len(tokens), 3),
        img_ids=image_positions(GRID, 3),
        return_dict=False,
    )[0]
    return given.z - given.level * unpacked(flow, GRID, 2)


def _flux2(folder: Path, given: Given) -> Tensor:
    network: Any = Flux2Transformer2DModel.from_pretrained(folder / "transformer")
    given.changed(network)
    masks = zip(network.attn_processors, given.biases, strict=True)
    network.set_attn_processor({n: _MaskedSingle2(m) if "single" in n else _Masked2(m) for n, m in masks})
    places = [torch.cartesian_prod(*map(torch.arange, (1, 1, 1, len(text)))) for text in given.texts]
    flow = network(
        hidden_states=packed(given.z, 1),
        encoder_hidden_states=torch.cat(list(given.texts))[None],
        timestep=torch.tensor([given.level]),
        txt_ids=torch.cat(places),
        img_ids=torch.cartesian_prod(*map(torch.arange, (1, *GRID, 1))),
        return_dict=False,
    )[0]
    return given.z - given.level * unpacked(flow, GRID, 1)


def _sd3(folder: Path, given: Given) -> Tensor:
    network: Any = SD3Transformer2DModel.from_pretrained(folder / "transformer")
    given.changed(network)
    names = network.attn_processors
    network.set_attn_processor({name: _MaskedSd3(given.biases[int(name.split(".")[1])]) for name in names})
    assert given.pooled is not None
    flow = network(
        hidden_states=given.z,
        encoder_hidden_states=torch.cat(list(given.texts))[None],
        pooled_projections=given.pooled[None],
        timestep=torch.tensor([given.level * 1000]),
        return_dict=False,
    )[0]
    return given.z - given.level * flow


def _zimage(folder: Path, given: Given) -> Tensor:
    """diffusers' sequence gets the refined texts of regions at its end."""
    network: Any = ZImageTransformer2DModel.from_pretrained(folder / "transformer")
    given.changed(network)
    caption, *phrases = given.texts
    places = [torch.cartesian_prod(*map(torch.arange, (len(p) + 1, 1, 1)))[1:] for p in phrases]
    turns = [network.rope_embedder(own)[None] for own in places]
    refined = [network.cap_embedder(phrase[None]) for phrase in phrases]
    for layer in network.context_refiner:
        refined = [layer(text, None, own) for text, own in zip(refined, turns, strict=True)]
    for layer in network.noise_refiner:
        layer.attention.set_processor(_MaskedZ(given.biases[0][:PIXELS, :PIXELS]))
    for layer, bias in zip(network.layers, given.biases, strict=True):
        layer.attention.set_processor(_MaskedZ(bias))
    build = network._build_unified_sequence

    def with_phrases(*args: Any) -> Any:
        sequence, rotations, *_ = build(*args)
        return torch.cat([sequence, *refined], 1), torch.cat([rotations, *turns], 1), None, None

    network._build_unified_sequence = with_phrases
    output = network([given.z[0, :, None]], torch.tensor([1 - given.level]), [caption], return_dict=False)[0][0]
    return given.z + given.level * output[None, :, 0]


NETWORKS: dict[str, Network] = {
    "flux": Network(
        lambda folder: write_flux(folder, embedded=False),
        lambda folder: write_flux(folder, embedded=False, double=1, single=0),
        _flux,
        blocks=4,
    ),
    "flux2": Network(write_flux2, lambda folder: write_flux2(folder, double=1, single=0), _flux2, blocks=4),
    "sd3": Network(
        lambda folder: write_sd3(folder, "3.5 medium"),
        lambda folder: write_sd3(folder, "3.5 medium", layers=1),
        _sd3,
        blocks=3,
        text_first=False,
    ),
    "zimage": Network(
        write_zimage,
        lambda folder: write_zimage(folder, layers=1, refiners=0),
        _zimage,
        blocks=2,
        text_first=False,
        multiple=32,
    ),
}
"""By family; of Stable Diffusion 3 one with dual attention."""


def loaded(folder: Path) -> Model:
    """The model of a folder, whose texts are encoded once by all tests together."""
    model = load(folder)
    text: Any = model.text
    encode = text.encode

    @cache
    def encoded(pieces: tuple[Piece, ...], blank: bool) -> EncodedText:
        return encode(pieces, blank=blank)

    text.encode = lambda pieces, *, region=None, blank=False: encoded(tuple(pieces), blank)
    return model
