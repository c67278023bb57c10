"""What a network is told of a concept: learned vectors, or a picture that an encoder of exemplars has seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.core.plan import Conditioning, Net, Tokens
from cloisonne.errors import CapabilityError
from cloisonne.models.capabilities import TITLES
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept, said


@dataclass(frozen=True, eq=False)
class ConceptConditioning:
    """What a network is told of nothing, and of the concept; and the tokens of both, where these are words."""

    net: Net
    nothing: Conditioning
    concept: Conditioning
    ids: tuple[list[int], list[int]] = ([], [])


def told_learned(model: Model, concept: Concept) -> ConceptConditioning:
    """A learned concept, alone in a text. CheckpointError where it is none of this model's."""
    text: Any = model.text
    with torch.no_grad():
        heard, places = said(text, concept.vectors.to(model.device))
    source = text.ids("")
    # The concept's own tokens are like no others.
    target = [*source[:1], *(-1 for _ in places), *source[1 : len(source) - len(places)]]
    nothing = Conditioning(tokens=(Tokens(text.encode(source)),))
    return ConceptConditioning(model.net, nothing, Conditioning(tokens=(Tokens(heard),)), (source, target))


def told_picture(
    model: Model, reference: Image.Image, size: tuple[int, int], latents: Callable[[NDArray[np.uint8]], Tensor]
) -> ConceptConditioning:
    """A picture, by what the model sees exemplars with, on a canvas of size (width, height).

    CapabilityError for an IP-Adapter on a network for inpainting.
    """
    width, height = size
    if model.exemplar is not None:
        engine = model.exemplar
        grey = latents(np.full((height, width, 3), 128, np.uint8))
        channels = engine.channels(grey, torch.zeros(height, width))
        nothing = Conditioning(tokens=(Tokens(engine.null),), channels=channels)
        shown = Conditioning(tokens=(Tokens(engine.token(reference)),), channels=channels)
        return ConceptConditioning(engine.net, nothing, shown)
    _check_plain(model)
    adapter: Any = model.ip_adapter
    text: Any = model.text
    silent = Conditioning(tokens=(Tokens(text.encode(text.ids(""))),))
    looking = [Conditioning(image_prompts=(Tokens(own),)) for own in (adapter.null, adapter.tokens(reference))]
    return ConceptConditioning(model.net, silent + looking[0], silent + looking[1])


def told_blank(model: Model, *, learned: bool) -> ConceptConditioning:
    """As much as either, in zeros: no network is asked. Raises what these raise."""
    by_words = learned or model.exemplar is None
    tokens = torch.zeros(model.text.length if by_words else 1, model.spec.token_width)
    pictures: tuple[Tokens, ...] = ()
    if not learned and model.exemplar is None:
        _check_plain(model)
        assert model.ip_adapter is not None, "the model sees exemplars"
        pictures = (Tokens(torch.zeros(model.ip_adapter.num_tokens, model.spec.token_width)),)
    nothing = Conditioning(tokens=(Tokens(tokens),), image_prompts=pictures)
    net: Net = model.net if by_words else model.exemplar.net  # type: ignore[union-attr]
    return ConceptConditioning(net, nothing, nothing)


def _check_plain(model: Model) -> None:
    if model.spec.extra_channels:
        raise CapabilityError(
            f'On the model "{model.name}" ({TITLES[model.family]} for inpainting) an IP-Adapter carries no concept '
            "over; load a plain one, or Paint by Example with it."
        )
