"""Stage "clipseg": a segmentation decoder on the finished ``clip`` (arXiv 2112.10003, section 3).

The CLIP encoders are frozen. Images are whole scenes, half of them blurred, noisy or dimmed like x0 estimates during
denoising. Half of the phrases describe objects in the image, half describe similar objects that are absent.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from cloisonne.models.adapters.clipseg import CLIPSEG, Segmenter, put_towers
from cloisonne.models.checkpoints.files import read_json
from cloisonne.train.builtin.clipseg_start import initialise
from cloisonne.train.data import TRAINING_SEEDS, as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS
from cloisonne.world.picture import EVERYTHING, Item, Recipe, sample
from cloisonne.world.words import phrase

BATCH, PHRASES = 12, 4
"""Images per step, and phrases per image; half of the phrases describe objects in the image."""
FIRST_SEED = TRAINING_SEEDS + (1 << 26)
SIDE = 128
_CORE = Recipe(styled=0.1)


@dataclass(frozen=True)
class Example:
    """An image, uint8 [128, 128, 3], phrases, and a mask per phrase, [phrases, 128, 128] of 0 and 1."""

    pixels: np.ndarray
    phrases: tuple[str, ...]
    masks: np.ndarray


def build(clip: Path, tokenizer: Any) -> Segmenter:
    """A decoder of three layers of width 64 on the encoders of a ``clip`` folder, initialised to match them."""
    shape = read_json(clip / "config.json")
    shared = {k: shape[k] for k in ("text_config", "vision_config", "projection_dim")}
    config = CLIPSegConfig(
        **shared,
        extract_layers=[1, 3, 4],
        reduce_dim=64,
        decoder_num_attention_heads=4,
        decoder_intermediate_size=256,
    )
    torch.manual_seed(0)
    module: Any = CLIPSegForImageSegmentation(config)
    put_towers(module, clip)
    segmenter = Segmenter(module.float(), tokenizer, module.config.text_config.max_position_embeddings)
    initialise(segmenter)
    return segmenter


def example(index: int, rng: np.random.Generator) -> Example:
    """The image of a seed, with phrases of present and of absent objects."""
    drawn = draw(sample(FIRST_SEED + index, _CORE if rng.random() < 0.75 else EVERYTHING), SIDE, SIDE)
    phrases, masks = [], []
    for k in range(PHRASES):
        item = drawn.picture.items[int(rng.integers(len(drawn.picture.items)))]
        if k >= PHRASES // 2:
            item = _similar_item(item, index * PHRASES + k, rng)
        phrases.append(phrase(item, 0.12, rng))
        masks.append(_mask(drawn, item))
    return Example(_degraded(drawn.rgb, rng), tuple(phrases), np.stack(masks))


def _examples(step: int) -> list[Example]:
    """The examples of a step."""
    rng = np.random.default_rng([step, 17])
    return [example(step * BATCH + k, rng) for k in range(BATCH)]


def _similar_item(item: Item, index: int, rng: np.random.Generator) -> Item:
    """The same object in another colour, or another object."""
    if item.colour and rng.random() < 0.5:
        colours = [c for c in COLOURS if c != item.colour]
        return replace(item, colour=colours[int(rng.integers(len(colours)))])
    return sample(FIRST_SEED + (1 << 25) + index, _CORE).items[0]


def _mask(drawn: Drawn, wanted: Item) -> np.ndarray:
    """Mask [h, w] of the visible objects of a glyph, and of its colour if one is given."""
    fits = [
        k + 1
        for k, item in enumerate(drawn.picture.items)
        if item.char == wanted.char and wanted.colour in (None, item.colour)
    ]
    return np.isin(drawn.labels, fits).astype(np.float32)


def _degraded(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return pixels
    out = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), float(rng.uniform(0.5, 4)))
    out += rng.standard_normal(out.shape).astype(np.float32) * rng.uniform(0, 8)
    out = (out - out.mean()) * rng.uniform(0.6, 1.05) + out.mean()
    return np.clip(out, 0, 255).astype(np.uint8)


def stage(segmenter: Segmenter, minutes: float, device: torch.device = CPU) -> Stage:
    """The training stage: pixel cross-entropy (paper, section 4.1). Layers aligned by :func:`initialise` are frozen."""
    module = segmenter.module
    module.train()

    ready = Prefetch(_examples, processes(device))

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        examples = ready(step)
        pixels = as_tensor(np.stack([e.pixels for e in examples])).to(device)
        with autocast(device):
            with torch.no_grad():
                text = segmenter.encode_texts([phrase for e in examples for phrase in e.phrases])
                features = segmenter.image_features(pixels)
            logits = segmenter.logits(tuple(layer.repeat_interleave(PHRASES, 0) for layer in features), text)
        masks = torch.from_numpy(np.concatenate([e.masks for e in examples])).to(device)
        coarse = F.avg_pool2d(logits.float()[:, None], 2)[:, 0]
        target = F.avg_pool2d(masks[:, None], 2)[:, 0]
        present = target.amax((1, 2)) > 0
        guess, true = coarse > 0, target > 0.5
        overlap = (guess & true)[present].float().sum() / (guess | true)[present].float().sum().clamp(min=1)
        false = guess[~present].float().mean() if bool((~present).any()) else coarse.new_zeros(())
        return F.binary_cross_entropy_with_logits(coarse, target), {"iou": float(overlap), "false": float(false)}

    return Stage(
        name=CLIPSEG,
        modules={CLIPSEG: module},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        device=device,
        lr=1e-3,
        frozen=("clipseg.clip", "clipseg.decoder.film_mul", "clipseg.decoder.reduces.0"),
        outer=("reduces", "film", "transposed_convolution"),
        decay_from=0.4,
    )
