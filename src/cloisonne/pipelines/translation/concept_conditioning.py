"""Conditioning on a concept: learned vectors in a text, or an encoded reference image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.core.attention.references import Reference
from cloisonne.core.plan import Conditioning, Net, Tokens
from cloisonne.errors import CapabilityError
from cloisonne.methods.references import reference_pixels
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.models.text.learned_concept import Concept, encode_concept


@dataclass(frozen=True, eq=False)
class ConceptConditioning:
    """Conditioning with and without the concept.

    nothing: without it (empty text or null image). concept: with it. ids: token ids of both, empty where the concept is
    no text.
    """

    net: Net
    nothing: Conditioning
    concept: Conditioning
    ids: tuple[list[int], list[int]] = ([], [])


def learned_concept(model: Model, concept: Concept, content: Concept | None = None) -> ConceptConditioning:
    """A learned concept as the whole text, or after the text of the content.

    Raises CheckpointError where either was learned for another text encoder.
    """
    text: Any = model.text
    vectors = concept.vectors.to(model.device)
    own = vectors[:0] if content is None else content.vectors.to(model.device)
    empty = text.padded_ids("")
    with torch.no_grad():
        nothing = text.encode_ids(empty).tokens if content is None else encode_concept(text, own)[0]
        encoded, _ = encode_concept(text, vectors, own)
    # Each of the content's tokens matches itself, and the concept's match no other token.
    ids = [-2 - k for k in range(len(own))]
    source = [*empty[:1], *ids, *empty[1 : len(empty) - len(own)]]
    target = [*source[: len(own) + 1], *(-1 for _ in vectors), *source[len(own) + 1 : len(source) - len(vectors)]]
    without, with_concept = (Conditioning(tokens=(Tokens(tokens),)) for tokens in (nothing, encoded))
    return ConceptConditioning(model.net, without, with_concept, (source, target))


def reference_concept(
    model: Model, reference: Image.Image, size: tuple[int, int], latents: Callable[[NDArray[np.uint8]], Tensor]
) -> ConceptConditioning:
    """A reference image on a canvas of size (width, height): further image tokens of a network that takes references,
    else encoded by the exemplar model or the IP-Adapter.

    Raises CapabilityError for an IP-Adapter on an inpainting network.
    """
    width, height = size
    if model.exemplar is not None:
        engine = model.exemplar
        grey = latents(np.full((height, width, 3), 128, np.uint8))
        channels = engine.channels(grey, torch.zeros(height, width))
        nothing = Conditioning(tokens=(Tokens(engine.null),), channels=channels)
        concept = Conditioning(tokens=(Tokens(engine.token(reference)),), channels=channels)
        return ConceptConditioning(engine.net, nothing, concept)
    if model.spec.takes_references:
        pixels = reference_pixels(reference, model.spec.factor)
        return _with_reference(model, model.text.encode(()), model.vae.encode(pixels.to(model.device))[0])
    _check_plain(model)
    adapter: Any = model.ip_adapter
    text: Any = model.text
    empty = Conditioning(tokens=(Tokens(text.encode(()).tokens),))
    images = [Conditioning(image_prompts=(Tokens(own),)) for own in (adapter.null, adapter.tokens(reference))]
    return ConceptConditioning(model.net, empty + images[0], empty + images[1])


def blank_concept(model: Model, *, learned: bool) -> ConceptConditioning:
    """Zeros in the shape of either; runs no network. Raises what the others raise."""
    if model.spec.takes_references and not learned:
        return _with_reference(model, model.text.blank(), torch.zeros(model.vae.channels, 1, 1, device=model.device))
    as_text = learned or model.exemplar is None
    tokens = torch.zeros(model.text.length if as_text else 1, model.spec.token_width)
    pictures: tuple[Tokens, ...] = ()
    if not learned and model.exemplar is None:
        _check_plain(model)
        assert model.ip_adapter is not None, "the model takes exemplars"
        pictures = (Tokens(torch.zeros(model.ip_adapter.num_tokens, model.spec.token_width)),)
    nothing = Conditioning(tokens=(Tokens(tokens),), image_prompts=pictures)
    net: Net = model.net if as_text else model.exemplar.net  # type: ignore[union-attr]
    return ConceptConditioning(net, nothing, nothing)


def _with_reference(model: Model, empty: EncodedText, latents: Tensor) -> ConceptConditioning:
    """The empty text without and with a reference image of latents [C, h, w]."""
    nothing = Conditioning(tokens=(Tokens(empty.tokens),), pooled=empty.pooled)
    concept = nothing + Conditioning(references=(Reference(latents),))
    return ConceptConditioning(model.net, nothing, concept)


def _check_plain(model: Model) -> None:
    if model.spec.extra_channels:
        title = FAMILIES[model.family].title
        raise CapabilityError(
            f'The model "{model.name}" ({title} for inpainting) cannot transfer a concept with an '
            "IP-Adapter; load a text-to-image model, or load Paint by Example with this one."
        )
