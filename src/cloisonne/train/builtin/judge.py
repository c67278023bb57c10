"""Stage "judge": trained on its own seeds, on whole images and crops, half of them after a VAE round trip."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cloisonne.eval.judge import CLASS_OF, EMBEDDING, SIZE, Judge
from cloisonne.train.data import JUDGE_SEEDS, as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, TRAINING
from cloisonne.world.picture import EVERYTHING, STYLES, Recipe, sample

BATCH = 16
CELLS = 16
_CORE = Recipe(styled=0.1, held_out=None)


def recipe_of(index: int) -> Recipe:
    """Half of the images have core glyphs, half any training glyph."""
    return _CORE if index % 2 else EVERYTHING


class RoundTrips:
    """Cache of training images after a VAE round trip, uint8 [n, h, w, 3]; image k has seed ``JUDGE_SEEDS + k``."""

    def __init__(self, file: Path) -> None:
        self.file, self.rgb = file, np.load(file, mmap_mode="r")

    def __reduce__(self) -> tuple[type["RoundTrips"], tuple[Path]]:
        """Pickle the path only; a worker process reopens the file."""
        return RoundTrips, (self.file,)

    @staticmethod
    def make(file: Path, count: int, decode_encoded, batch: int = 32) -> None:
        """Fill the cache; ``decode_encoded`` maps float images [n, 3, h, w] to their round trip."""
        out = np.lib.format.open_memmap(file.with_suffix(".partial.npy"), "w+", np.uint8, (count, SIZE, SIZE, 3))
        for first in range(0, count, batch):
            n = min(batch, count - first)
            rgb = np.stack([draw(sample(JUDGE_SEEDS + first + k, recipe_of(first + k))).rgb for k in range(n)])
            back = decode_encoded(as_tensor(rgb))
            out[first : first + n] = ((back + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        out.flush()
        file.with_suffix(".partial.npy").rename(file)


Example = tuple[np.ndarray, np.ndarray, np.ndarray, int, int]


def example(index: int, rgb: np.ndarray | None, rng: np.random.Generator) -> Example:
    """One training example: pixels, cell classes, cell colours, class of the crop (0 for a whole image), style."""
    drawn = draw(sample(JUDGE_SEEDS + index, recipe_of(index)))
    pixels = drawn.rgb if rgb is None else np.array(rgb)
    labels, crop_class = drawn.labels, 0
    if rng.random() < 0.5:
        k = int(rng.integers(len(drawn.picture.items)))
        if drawn.visible()[k] > 0.8:
            pixels, labels = _crop(drawn, k, pixels, rng)
            crop_class = CLASS_OF[drawn.picture.items[k].char]
    pixels = _degraded(pixels, rng)
    class_of = np.array([0] + [CLASS_OF[i.char] for i in drawn.picture.items])
    colour_of = np.array([0] + [COLOURS.index(i.colour) + 1 if i.colour else 0 for i in drawn.picture.items])
    step = SIZE // CELLS
    centres = labels[step // 2 :: step, step // 2 :: step]
    return pixels, class_of[centres], colour_of[centres], crop_class, STYLES.index(drawn.picture.style)


def _crop(drawn: Drawn, k: int, pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    box, side = drawn.boxes()[k], drawn.rgb.shape[0]
    margin = rng.uniform(0, 0.2, 4) * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = int(max(0, box[0] - margin[0]) * side), int(max(0, box[1] - margin[1]) * side)
    x1, y1 = int(np.ceil(min(1, box[2] + margin[2]) * side)), int(np.ceil(min(1, box[3] + margin[3]) * side))
    return cv2.resize(pixels[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), cv2.resize(
        drawn.labels[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_NEAREST
    )


def _degraded(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Slight random blur, noise and brightness, so that soft generated images are judged by their content."""
    out = pixels.astype(np.float32)
    if rng.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.4, 1.6)))
    if rng.random() < 0.3:
        out += rng.standard_normal(out.shape).astype(np.float32) * rng.uniform(2, 10)
    return np.clip(out * rng.uniform(0.9, 1.1), 0, 255).astype(np.uint8)


def _examples(trips: RoundTrips, step: int) -> list[Example]:
    """The examples of a step; every other one after a VAE round trip."""
    rng = np.random.default_rng([step, 11])
    examples = []
    for k in range(BATCH):
        if k % 2 and len(trips.rgb):
            index = int(rng.integers(len(trips.rgb)))
            examples.append(example(index, trips.rgb[index], rng))
        else:
            examples.append(example(len(trips.rgb) + (step * BATCH + k) // 2, None, rng))
    return examples


def stage(judge: Judge, trips: RoundTrips, minutes: float, device: torch.device = CPU) -> Stage:
    """The training stage: cross-entropy of cells and style, and a cosine proxy loss on the embedding."""
    proxies = nn.Linear(EMBEDDING, len(TRAINING) + 1, bias=False)
    balance = torch.ones(len(TRAINING) + 1, device=device)
    balance[0] = 0.3

    ready = Prefetch(partial(_examples, trips), processes(device))

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        examples = ready(step)
        pixels, classes, colours = (np.stack([e[i] for e in examples]) for i in range(3))
        target, shade = torch.from_numpy(classes).long().to(device), torch.from_numpy(colours).long().to(device)
        whole, style = (
            torch.tensor([e[3] for e in examples]).to(device),
            torch.tensor([e[4] for e in examples]).to(device),
        )
        with autocast(device):
            verdict = judge(as_tensor(pixels).to(device))
        object_cells = target > 0
        ce = F.cross_entropy(verdict.classes, target, weight=balance)
        colour = F.cross_entropy(verdict.colours.permute(0, 2, 3, 1)[object_cells], shade[object_cells])
        total = ce + 0.5 * colour + 0.2 * F.cross_entropy(verdict.styles, style)
        crops = whole > 0
        figures = {
            "cells": float((verdict.classes.argmax(1) == target)[object_cells].float().mean()),
            "style": float((verdict.styles.argmax(1) == style).float().mean()),
        }
        if crops.any():
            cosine = F.normalize(verdict.embedding[crops], dim=1) @ F.normalize(proxies.weight, dim=1).T
            total = total + 0.3 * F.cross_entropy(16 * cosine, whole[crops])
            figures["crops"] = float((verdict.object_scores()[crops].argmax(1) + 1 == whole[crops]).float().mean())
        return total, figures

    return Stage(
        name="judge",
        modules={"judge": judge, "proxies": proxies},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        device=device,
        lr=1.5e-3,
        outer=("stem", "head", "proxies"),
        decay_from=0.5,
    )
