"""Exemplars as reference images in joint attention (FLUX.2 klein, FLUX.1 Kontext), by region.

The network was trained with reference images as further image tokens, which all tokens attend to. An exemplar that
alone takes the whole canvas is that. By region (ours), its tokens are masked like the region's phrase: they attend to
themselves and to the image tokens of the region, which attend to them; the caption attends to everything. A share w of
an image token, times the exemplar's strength, adds its log to the logits. All exemplars have the positions of the first
reference image: they are alternatives. They are in both branches of guidance, as in the network's own pipeline.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from math import sqrt

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cloisonne.core.attention.references import Reference
from cloisonne.core.plan import Conditioning
from cloisonne.errors import SceneError
from cloisonne.methods.answers import EMBEDDED
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import Contribution, both
from cloisonne.methods.layout import Part, Placed
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LARGEST = 1024 * 1024
"""Pixels of a reference image where it may have any size; a larger one is reduced, as in the network's own pipeline."""
SMALLEST, LONGEST = 64, 8
"""Pixels of a side, and ratio of the sides."""


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    """The regions' exemplars as references of every text-conditioned view; nothing where the network takes none."""
    if not ctx.model.spec.takes_references:
        return Contribution()
    references = tuple(
        Reference(_latents(part.region, ctx), _mask(part.share * strength), part.name)
        for part in parts
        if (strength := _strength(part.region)) > 0
    )
    return both(Conditioning(references=references))


def canvas_options(region: Region, model: Model) -> tuple[str, ...]:
    """The options that a region with a reference sets for the text that conditions the canvas there."""
    if not model.spec.takes_references or _strength(region) == 0:
        return ()
    return ("negative", "guidance") if region.negative else ("guidance",)


def idle_similarity(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    """Warnings about the similarity of reference images, on models whose guidance is an input of the network."""
    if model.spec.takes_references and model.spec.embeds_guidance:
        for p in placed:
            if p.region.similarity is not None:
                yield f'Region "{p.name}": its similarity changes nothing here: {EMBEDDED.advice}.'


def reference_pixels(
    image: Image.Image, multiple: int, region: str | None = None, sizes: Sequence[tuple[int, int]] = ()
) -> Float[Tensor, "1 3 h w"]:
    """An image as the network's pipeline prepares it.

    sizes: (width, height) of those that the network was trained with; the image is resized to the nearest in ratio.
    Without them it is reduced to ``LARGEST`` pixels, and cropped to multiples of ``multiple`` pixels.

    Raises SceneError, which names the region, for an image that is too small or too long.
    """
    if min(image.size) < SMALLEST or max(image.size) > LONGEST * min(image.size):
        raise SceneError(
            f"the exemplar has {image.width} x {image.height} pixels; give an image of at least {SMALLEST} pixels a "
            f"side, and at most {LONGEST} times as long as wide.",
            region=region,
        )
    if sizes:
        # The ratio of whole tokens, and the narrower of two sizes as near, as in diffusers.
        ratio = (image.width // multiple * multiple) / (image.height // multiple * multiple)
        nearest = min((abs(ratio - width / height), width, height) for width, height in sizes)
        image = image.resize(nearest[1:], Image.Resampling.LANCZOS)
    elif image.width * image.height > LARGEST:
        scale = sqrt(LARGEST / (image.width * image.height))
        image = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.LANCZOS)
    width, height = (side // multiple * multiple for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    values = np.asarray(image.crop((left, top, left + width, top + height)).convert("RGB"), np.float32)
    return torch.from_numpy(values / 127.5 - 1).permute(2, 0, 1)[None]


def _strength(region: Region) -> float:
    return 0.0 if region.exemplar is None else region.exemplar.strength


def _mask(weights: Float[Tensor, "H W"]) -> Float[Tensor, "H W"] | None:
    return None if bool((weights == 1).all()) else weights


def _latents(region: Region, ctx: Context) -> Float[Tensor, "C h w"]:
    vae, spec, exemplar = ctx.model.vae, ctx.model.spec, region.exemplar
    assert exemplar is not None, "the region has an exemplar"
    image = partial(exemplar.rgb, region.name)

    def pixels() -> Tensor:
        return reference_pixels(image(), spec.factor, region.name, spec.reference_sizes)

    def encoded() -> Tensor:
        return vae.encode(pixels())[0]

    def blank() -> Tensor:
        height, width = (side // spec.vae_factor for side in pixels().shape[-2:])
        return torch.zeros(vae.channels, height, width, device=ctx.model.device)

    return ctx.encoder.once(("reference", region.name), encoded, blank)
