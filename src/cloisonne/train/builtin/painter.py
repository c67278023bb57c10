"""Stage "painter": the whole UNet of the base learns to fill holes with the object of an exemplar.

Paint by Example (arXiv 2211.13227, equation 2) on a base that already reads pseudo-words: the UNet gets C + 1 more
input channels, the masked image's latents and the mask, and is trained with the pseudo-words. What ships is the change
of each weight, as a product of two narrow matrices.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.models.adapters.pseudo_words import PseudoWords, encoded, text_places, with_pseudo_words
from cloisonne.models.vae import Vae
from cloisonne.train.base.exemplars import DETAILED, FROZEN, OUTER, SAME_STYLE, SIDE, view
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.networks import alphas
from cloisonne.train.data import as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.microbatches import Loss
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import draw
from cloisonne.world.hole_masks import blob, rectangle, stretched

BATCH = 32
RANK = 48
"""Singular values of the change of a weight that are preserved."""
BEYOND_CORE = 0.5
"""Fraction of the images with a glyph from outside the core."""
NULL = 0.15
"""Fraction of the images without exemplar, for classifier-free guidance."""
BLOBS, WHOLE = 0.4, 0.08
"""Fractions of the holes that are blobs, and that cover the image; the others are rectangles."""
TIGHT = 0.5
"""Fraction of the holes that reach a few pixels beyond the object, as users draw them; the others reach far."""
OUTSIDE = 0.25
"""Weight of the error outside the hole, where the known image replaces the prediction at inference."""
NOISY = 0.5
"""Fraction of the images whose t is uniform in 400..999; otherwise t is uniform in 0..999."""


@dataclass(frozen=True, kw_only=True)
class HoleBatch:
    """Rows of a batch. pixels: uint8 [r, h, w, 3]. holes: bool [r, h, w]. exemplars: uint8 [r, side, side, 3].
    words: [r], number of pseudo-words, 0 without exemplar. indices: [r], of the stored images."""

    pixels: np.ndarray
    holes: np.ndarray
    exemplars: np.ndarray
    words: np.ndarray
    indices: np.ndarray


def hole_batch(store: LatentStore, words: int, details: int, rows: slice, step: int) -> HoleBatch:
    """Rows of the batch of a step; a row does not depend on which other rows are requested."""
    rng = np.random.default_rng([step, 47])
    any_of, beyond = store.choose(rng, BATCH), store.choose_beyond_core(rng, BATCH)
    chosen = np.where(rng.random(BATCH) < BEYOND_CORE, beyond, any_of)
    made = [_hole(store, int(chosen[k]), np.random.default_rng([step, 47, k])) for k in range(BATCH)[rows]]
    coins = rng.random((2, BATCH))
    counts = np.where(coins[0] < NULL, 0, np.where(coins[1] < DETAILED, words + details, words))
    pixels, holes, exemplars = (np.stack(each) for each in zip(*made, strict=True))
    return HoleBatch(pixels=pixels, holes=holes, exemplars=exemplars, words=counts[rows], indices=chosen[rows])


def _hole(store: LatentStore, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, hole and exemplar of a stored image: one of its objects is to be filled in."""
    picture, boxes = store.picture(index), store.boxes(index)
    k = int(rng.integers(len(boxes)))
    size = 8 * store.shape[-1]
    box = boxes[k]
    if rng.random() < TIGHT:
        x0, y0, x1, y1 = box
        a, b, c, d = rng.uniform(0.02, 0.14, 4) * max(x1 - x0, y1 - y0)
        reach = (max(0.0, x0 - a), max(0.0, y0 - b), min(1.0, x1 + c), min(1.0, y1 + d))
    else:
        reach = stretched(box, rng)
    coins = rng.random(3)
    if coins[0] < WHOLE:
        hole = np.ones((size, size), bool)
    elif coins[1] < BLOBS:
        hole = blob(box, reach, size, rng)
    else:
        hole = rectangle(reach, size)
    style = picture.style if coins[2] < SAME_STYLE else "natural"
    return draw(picture, size, size).rgb, hole, view(picture.items[k], style, rng, SIDE)


def stage(
    unet: UNet2DConditionModel,
    words: PseudoWords,
    text: CLIPTextModel,
    vae: Vae,
    store: LatentStore,
    vocabulary: Vocabulary,
    *,
    minutes: float = 0.0,
    pictures: int | None = None,
    device: torch.device = CPU,
    parts: int | None = None,
) -> Stage:
    """The training stage.

    Args:
        unet: The base's UNet, widened.
        words: Pseudo-words of the base, which are trained on.
        text: Text encoder of the base, which is frozen.
        vae: Autoencoder, which encodes the masked images.
        store: Encoded images.
        vocabulary: Start and end tokens.
        minutes: Budget in minutes.
        pictures: Budget in images; replaces ``minutes``.
        device: Training device.
        parts: Number of microbatches, each in a thread. Default: torch's thread count on a CPU, 1 on a GPU.
    """
    if device.type == "cpu":
        text.set_attn_implementation("eager")
        unet.set_attn_processor(AttnProcessor())
    torch.nn.Module.to(text, device).eval().requires_grad_(False)
    objective = _PainterLoss(
        unet=unet.train(),
        words=words.train(),
        text=text,
        vae=vae,
        store=store,
        vocabulary=vocabulary,
        device=device,
        abar=alphas().to(device),
    )
    count = parts or (torch.get_num_threads() if device.type == "cpu" else 1)
    count = next(n for n in range(min(BATCH, count), 0, -1) if BATCH % n == 0)
    return Stage(
        name="painter",
        device=device,
        modules={"unet": unet, "exemplar": words},
        loss=tuple(objective.part(slice(k, None, count)) for k in range(count)),
        minutes=minutes,
        pictures=pictures,
        pictures_per_step=BATCH,
        lr=5e-4,
        outer=("conv_in", "conv_out", "time_emb", "time_proj", *OUTER),
        frozen=FROZEN,
        decay_from=0.4,
    )


@dataclass(frozen=True, kw_only=True)
class _PainterLoss:
    """The squared error on v, of which the outside of the hole counts less."""

    unet: Any
    words: PseudoWords
    text: CLIPTextModel
    vae: Vae
    store: LatentStore
    vocabulary: Vocabulary
    device: torch.device
    abar: Tensor

    def part(self, rows: slice) -> Loss:
        """The loss of these rows of the batch."""
        make = partial(hole_batch, self.store, self.words.words, self.words.details, rows)
        ready = Prefetch(make, processes(self.device))
        return lambda step, progress: self.loss(ready(step), rows, step)

    def loss(self, batch: HoleBatch, rows: slice, step: int) -> tuple[Tensor, dict[str, float]]:
        device = self.device
        z0 = self.store.batch(batch.indices)[0].to(device)
        generator = torch.Generator().manual_seed(step)
        noise = torch.randn((BATCH, *z0.shape[1:]), generator=generator)[rows].to(device)
        anywhere, above = (torch.randint(low, 1000, (BATCH,), generator=generator) for low in (0, 400))
        t = torch.where(torch.rand(BATCH, generator=generator) < NOISY, above, anywhere)[rows].to(device)
        a, s = self.abar[t].sqrt()[:, None, None, None], (1 - self.abar[t]).sqrt()[:, None, None, None]
        keep = torch.from_numpy(~batch.holes)[:, None].float().to(device)
        preserved = F.interpolate(keep, z0.shape[-2:], mode="bilinear", align_corners=False)
        with autocast(device, cache_enabled=False):
            with torch.no_grad():
                known = self.vae.encode(as_tensor(batch.pixels).to(device) * keep).float()
            z = torch.cat([a * z0 + s * noise, known, preserved], 1).contiguous(memory_format=torch.channels_last)
            out = self.unet(z, t, encoder_hidden_states=self._hidden_states(batch)).sample
        weight = OUTSIDE + (1 - OUTSIDE) * (1 - preserved)
        error = (out.float() - (a * noise - s * z0)).square().mean(1, keepdim=True)
        inside = (error * (1 - preserved)).sum() / (1 - preserved).sum().clamp(min=1)
        return (weight * error).sum() / weight.sum(), {"inside": float(inside.detach())}

    def _hidden_states(self, batch: HoleBatch) -> Tensor:
        """[r, L, D] of the texts of the pseudo-words alone."""
        v, words, rows = self.vocabulary, self.words, len(batch.words)
        features = words.image_features(normalised(batch.exemplars).to(self.device))
        pseudo = words(features)
        places = text_places(torch.from_numpy(batch.words), pseudo.shape[1], v.length).to(self.device)
        ids = torch.full((rows, v.length), v.end)
        ids[:, 0] = v.start
        return encoded(self.text, with_pseudo_words(self.text, ids.to(self.device), pseudo.flatten(0, 1), places))


@torch.no_grad()
def changes(base: UNet2DConditionModel, trained: UNet2DConditionModel, rank: int) -> dict[str, Tensor]:
    """What turns the base's UNet into the trained one, as :func:`~cloisonne.models.family_members.adapted` reads it.

    The change of a weight of two or more dimensions is truncated to ``rank`` singular values; the first layer and
    weights of one dimension are whole.
    """
    own: Mapping[str, Tensor] = base.state_dict()
    found: dict[str, Tensor] = {}
    for name, weight in trained.state_dict().items():
        if weight.ndim < 2 or name.startswith("conv_in."):
            found[name] = weight.clone()
            continue
        u, s, vh = torch.linalg.svd((weight - own[name]).flatten(1).double(), full_matrices=False)
        k = min(rank, len(s))
        layer, root = name.removesuffix(".weight"), s[:k].sqrt()
        found[f"{layer}.up"] = (u[:, :k] * root).float().reshape(len(weight), k, *(1,) * (weight.ndim - 2))
        found[f"{layer}.down"] = (root[:, None] * vh[:k]).float().reshape(k, *weight.shape[1:])
    return found
