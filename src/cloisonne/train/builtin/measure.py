"""Metrics of trained members, on seeds that no training uses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from cloisonne.eval.judge import CLASS_OF, Judge
from cloisonne.eval.metrics.layouts import crop
from cloisonne.models.adapters.clipseg import Segmenter
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.models.vae import Vae
from cloisonne.train.builtin.clip import LENGTH
from cloisonne.train.builtin.clip import SIZE as CLIP_SIZE
from cloisonne.train.data import as_tensor
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import TRAINING, words_of
from cloisonne.world.picture import EVERYTHING, Item, Picture, Recipe, sample
from cloisonne.world.words import phrase

FIRST_SEED = 3_000_000


def _images(count: int, recipe: Recipe) -> list[Drawn]:
    return [draw(sample(FIRST_SEED + k, recipe)) for k in range(count)]


def measure_vae(module: AutoencoderKL, count: int = 192) -> dict[str, float]:
    """PSNR in dB (of the overall mean squared error, and the mean over images); mean and deviation of the unscaled
    latents."""
    vae = Vae(module.float().cpu().eval())
    pixels = as_tensor(np.stack([d.rgb for d in _images(count // 2, Recipe()) + _images(count // 2, EVERYTHING)]))
    parts = pixels.split(16)
    latents = [vae.encode(x) for x in parts]
    errors = [(vae.decode(z).clamp(-1, 1) - x).square().mean((1, 2, 3)) for z, x in zip(latents, parts, strict=True)]
    z, mse = torch.cat(latents), torch.cat(errors)
    return {
        "psnr": float(10 * torch.log10(4 / mse.mean())),
        "psnr_mean": float((10 * torch.log10(4 / mse)).mean()),
        "shift": float(z.mean()),
        "deviation": float(z.std()),
        "pictures": float(count),
    }


@torch.no_grad()
def measure_judge(judge: Judge, round_trip: Callable[[Tensor], Tensor], count: int = 250) -> dict[str, float]:
    """Accuracy on the crops of unoccluded core objects: original pixels, and after a VAE round trip."""
    drawn = _images(count, Recipe(held_out=None))
    true = as_tensor(np.stack([d.rgb for d in drawn]))
    back = torch.cat([round_trip(x) for x in true.split(25)])
    figures: dict[str, float] = {}
    for name, pixels in (("crops", true), ("crops_through_vae", back)):
        right, total = 0, 0
        rgb = ((pixels + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        for d, image in zip(drawn, rgb, strict=True):
            visible_items = [k for k, visible in enumerate(d.visible()) if visible > 0.98]
            crops = [crop(image, d.boxes()[k]) for k in visible_items]
            if crops:
                scores = judge(as_tensor(np.stack(crops))).object_scores()
                wanted = torch.tensor([CLASS_OF[d.picture.items[k].char] for k in visible_items])
                right += int((scores.argmax(1) + 1 == wanted).sum())
                total += len(visible_items)
        figures[name] = right / total
        figures["objects"] = float(total)
    return figures


@torch.no_grad()
def measure_clip(clip: Any, tokenizer: Any, count: int = 500) -> dict[str, float]:
    """Top-1 and top-5 accuracy of images of single objects against the names of all training glyphs."""
    clip.eval()
    names = [f"a {words_of(char)[0]}" for char in TRAINING]
    tokens = tokenizer(names, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    rng = np.random.default_rng(5)
    chosen = rng.choice(len(TRAINING), count, replace=False)
    images = []
    for k in chosen:
        item = Item(char=TRAINING[k], colour=None, box=(0.1, 0.1, 0.9, 0.9), flip=False, angle=0.0)
        images.append(
            draw(Picture(seed=int(k), background="studio", style="natural", items=(item,)), CLIP_SIZE, CLIP_SIZE).rgb
        )
    out = clip(input_ids=tokens.input_ids, pixel_values=normalised(np.stack(images)))
    best = out.logits_per_image.topk(5, 1).indices
    own = torch.from_numpy(chosen)[:, None]
    return {"top1": float((best[:, :1] == own).float().mean()), "top5": float((best == own).any(1).float().mean())}


@torch.no_grad()
def measure_clipseg(segmenter: Segmenter, count: int = 150) -> dict[str, float]:
    """On whole images: mean IoU of the mask (probability above one half) of a present object, given its phrase, and the
    mean area fraction of the mask of an absent object."""
    segmenter.module.cpu().eval()
    rng = np.random.default_rng(6)
    overlaps, false = [], []
    drawn = _images(count, Recipe(held_out=None))
    for d, other in zip(drawn, [*drawn[1:], drawn[0]], strict=True):
        k = int(np.argmax(d.visible()))
        features = segmenter.image_features(as_tensor(d.rgb[None]))
        absent = [item for item in other.picture.items if item.char not in {i.char for i in d.picture.items}]
        phrases = [phrase(item, 0.12, rng) for item in (d.picture.items[k], *absent[:1])]
        found = segmenter.logits(features, segmenter.encode_texts(phrases)) > 0
        same = [i + 1 for i, item in enumerate(d.picture.items) if item.char == d.picture.items[k].char]
        true = torch.from_numpy(np.isin(d.labels, same))
        overlaps.append(float((found[0] & true).sum() / (found[0] | true).sum()))
        false += [float(found[1].float().mean())] if absent else []
    return {"iou": float(np.mean(overlaps)), "false": float(np.mean(false)), "pictures": float(count)}
