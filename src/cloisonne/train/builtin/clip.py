"""Stage "clip": contrastive training of a text and an image encoder over all training glyphs (Radford et al. 2021,
arXiv 2103.00020, figure 3).

A batch holds far fewer sentences than there are glyphs, so each glyph has a proxy embedding for its images and
sentences (Movshovitz-Attias et al. 2017, arXiv 1703.07464). A dense head classifies the glyph under each patch, which
speeds up the training of the image encoder many times. Neither is exported.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import TRAINING
from cloisonne.world.picture import EVERYTHING, Recipe, sample
from cloisonne.world.words import caption, phrase

SIZE, PATCH = 64, 8
"""Sides of an image and of a patch, in pixels."""
BATCH = 96
LENGTH = 24
CORE_FIRST = 0.12
"""Initial fraction of the budget with core glyphs only."""
SHARPNESS = 16.0
"""Scale of the cosine similarities to the proxies."""
_CORE = Recipe(styled=0.1)
_NUMBER = {char: k for k, char in enumerate(TRAINING)}


@dataclass(frozen=True)
class ImageTextPair:
    """An image, uint8 [64, 64, 3], and a sentence that describes it."""

    pixels: np.ndarray
    text: str
    cells: np.ndarray
    """Index in ``TRAINING`` of the glyph at the centre of each patch, [8, 8]; -1 for none."""
    subject: tuple[str, str | None] | int
    """Glyph and colour of the object that both depict, or a unique number for a whole scene."""

    @property
    def number(self) -> int:
        """Index of the glyph in ``TRAINING``; -1 for a whole scene."""
        return -1 if isinstance(self.subject, int) else _NUMBER[self.subject[0]]


def build(tokenizer: Any) -> CLIPModel:
    """CLIP: a vision transformer (64 px images, 8 px patches), a causal text encoder and 64 shared dimensions."""
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": LENGTH,
        "vocab_size": len(tokenizer),
        **special,
    }
    vision = {
        "hidden_size": 176,
        "intermediate_size": 704,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64, **special))


def example(index: int, rng: np.random.Generator, core: float = 1 / 3) -> ImageTextPair:
    """The crop of an object with its phrase (85 %), or a scene with its caption. core: fraction of core glyphs."""
    drawn = draw(sample(TRAINING_SEEDS + index, _CORE if rng.random() < core else EVERYTHING))
    boxes, side = drawn.boxes(), drawn.rgb.shape[0]
    numbers = np.array([-1] + [_NUMBER[item.char] for item in drawn.picture.items])[drawn.labels]
    if rng.random() < 0.15:
        pixels = cv2.resize(drawn.rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        return ImageTextPair(pixels, caption(drawn.picture, boxes, rng, objects=True), _patch_centres(numbers), index)
    k = int(np.argmax(drawn.visible()))
    box, item = boxes[k], drawn.picture.items[k]
    margin = rng.uniform(0, 0.3, 4) * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = int(max(0, box[0] - margin[0]) * side), int(max(0, box[1] - margin[1]) * side)
    x1, y1 = int(np.ceil(min(1, box[2] + margin[2]) * side)), int(np.ceil(min(1, box[3] + margin[3]) * side))
    pixels = cv2.resize(drawn.rgb[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    cells = _patch_centres(numbers[y0:y1, x0:x1])
    return ImageTextPair(pixels, phrase(item, 0.12, rng), cells, (item.char, item.colour))


def _pairs(core: float, step: int) -> list[ImageTextPair]:
    """The pairs of a step."""
    rng = np.random.default_rng([step, 13])
    return [example(step * BATCH + k, rng, core) for k in range(BATCH)]


def _patch_centres(numbers: np.ndarray) -> np.ndarray:
    """Sample [h, w] at the centre of each patch, [8, 8]."""
    rows, columns = (((np.arange(SIZE // PATCH) + 0.5) * n / (SIZE // PATCH)).astype(int) for n in numbers.shape)
    return numbers[rows][:, columns]


def stage(clip: CLIPModel, tokenizer: Any, minutes: float, device: torch.device = CPU) -> Stage:
    """The training stage: symmetric contrastive loss (all pairs of the same object are positives), proxy loss of both
    encoders, and cross-entropy of the patches over the glyphs."""
    shared: Any = clip.config.projection_dim
    proxies = nn.Embedding(len(TRAINING), shared)
    dense = nn.Linear(clip.vision_embed_dim, len(TRAINING) + 1)
    clip.train()
    workers = processes(device)
    ready = Prefetch(_pairs, workers)

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        # Training on the 64 core glyphs first speeds up learning the others.
        pairs = ready(step, 1.0 if progress < CORE_FIRST else 1 / 3)
        tokens = tokenizer(
            [p.text for p in pairs], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        pixels = normalised(np.stack([p.pixels for p in pairs])).to(device)
        with autocast(device):
            out = clip(input_ids=tokens.input_ids.to(device), pixel_values=pixels)
            cells = dense(out.vision_model_output.last_hidden_state[:, 1:])
        logits = out.logits_per_image.float()
        same = torch.tensor([[a.subject == b.subject for b in pairs] for a in pairs], device=device)
        target = same.float() / same.sum(1, keepdim=True)
        total = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        number = torch.tensor([p.number for p in pairs], device=device)
        places = F.normalize(proxies.weight, dim=1).T
        named = SHARPNESS * out.image_embeds.float() @ places
        for cosines in (named, SHARPNESS * out.text_embeds.float() @ places):
            total = total + 0.5 * F.cross_entropy(cosines, number, ignore_index=-1)
        under = torch.from_numpy(np.stack([p.cells for p in pairs])).to(device)
        total = total + F.cross_entropy(cells.float().flatten(0, 1), under.flatten() + 1)
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6)
        return total, {
            "pairs": float(same.gather(1, logits.argmax(1, keepdim=True)).float().mean()),
            "named": float((named.argmax(1) == number)[number >= 0].float().mean()),
        }

    return Stage(
        name="clip",
        modules={"clip": clip, "proxies": proxies, "dense": dense},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        device=device,
        lr=1e-2,
        outer=("patch_embedding", "projection", "logit_scale", "embedding", "proxies", "dense"),
        decay_from=0.5,
    )
