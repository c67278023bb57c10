"""Stage "clip": a contrastive pair of text and picture towers over all training glyphs (Radford et al. 2021, arXiv
2103.00020, figure 3)."""

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from cloisonne.train.data import TRAINING_SEEDS, as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.world.draw import draw
from cloisonne.world.picture import EVERYTHING, Recipe, sample
from cloisonne.world.words import caption, phrase

SIZE = 64
BATCH = 96
LENGTH = 24
_CORE = Recipe(styled=0.1)


def build(tokenizer: Any) -> CLIPModel:
    """Vision transformer on 64 px pictures in patches of 8, and a causal text tower; 64 shared dimensions."""
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
        "patch_size": 8,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64, **special))


def example(index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A picture [64, 64, 3] and a sentence about it: mostly an object's crop with its phrase, else a whole scene with
    its caption."""
    drawn = draw(sample(TRAINING_SEEDS + index, _CORE if index % 3 == 0 else EVERYTHING))
    boxes, side = drawn.boxes(), drawn.rgb.shape[0]
    if rng.random() < 0.15:
        return cv2.resize(drawn.rgb, (SIZE, SIZE), interpolation=cv2.INTER_AREA), caption(
            drawn.picture, boxes, rng, objects=True
        )
    k = int(np.argmax(drawn.visible()))
    box = boxes[k]
    margin = rng.uniform(0, 0.3, 4) * max(box[2] - box[0], box[3] - box[1])
    x0, y0 = int(max(0, box[0] - margin[0]) * side), int(max(0, box[1] - margin[1]) * side)
    x1, y1 = int(np.ceil(min(1, box[2] + margin[2]) * side)), int(np.ceil(min(1, box[3] + margin[3]) * side))
    pixels = cv2.resize(drawn.rgb[y0:y1, x0:x1], (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return pixels, phrase(drawn.picture.items[k], 0.12, rng)


def stage(clip: CLIPModel, tokenizer: Any, minutes: float, device: torch.device = CPU) -> Stage:
    """Symmetric cross-entropy over the batch; sentences that say the same are each other's positives."""
    clip.train()

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([step, 13])
        pairs = [example(step * BATCH + k, rng) for k in range(BATCH)]
        told = tokenizer(
            [text for _, text in pairs], padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        with torch.autocast(device.type, torch.bfloat16):
            out = clip(
                input_ids=told.input_ids.to(device), pixel_values=as_tensor(np.stack([p for p, _ in pairs])).to(device)
            )
        logits = out.logits_per_image.float()
        same = torch.tensor([[a[1] == b[1] for b in pairs] for a in pairs], device=device)
        target = same.float() / same.sum(1, keepdim=True)
        total = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        with torch.no_grad():
            clip.logit_scale.clamp_(max=4.6)
        return total, {"top1": float(same.gather(1, logits.argmax(1, keepdim=True)).float().mean())}

    return Stage(
        name="clip",
        modules={"clip": clip},
        loss=loss,
        minutes=minutes,
        pictures_per_step=BATCH,
        device=device,
        lr=1e-3,
        outer=("patch_embedding", "projection", "logit_scale"),
        decay_from=0.5,
    )
