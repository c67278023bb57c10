"""Ablation of the base's training recipe, on the same number of images per row.

    python benchmarks/learning.py -o out
    python benchmarks/learning.py -o out --pictures 25600 --row adamw

`plain` is the recipe without its start on half the canvas; each other row
changes one choice. All start from the same weights and use the same images in
the same order, as far as their batch and canvas allow; `again` is plain with
other initial weights, to measure the variance. Then the averaged weights
predict v on held-out images, conditioned on ReCo sequences, on captions and on
nothing, with the same noise in every row: mean squared error by t, and
`named`, the fraction of object cells that the features classify correctly
above t = 700 (meaningless without labels). `reco - caption` is the error above
t = 700 with regions minus that with a caption: what the network gains from the
boxes. In brackets the difference from plain, paired by image, +- 1.96 standard
errors; `again` estimates the variance over trainings. Finished rows stay in
the folder and are not trained again.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.vae import Vae
from cloisonne.train.base import networks as base
from cloisonne.train.base import stage as base_stage
from cloisonne.train.base.captions import caption_tokens
from cloisonne.train.base.grounding import Seen
from cloisonne.train.base.latents import LatentStore, fill
from cloisonne.train.base.recipe import RECIPE, BaseRecipe
from cloisonne.train.builtin import family
from cloisonne.train.loop import load_average, run

FIRST_SEED = 9 << 20
STORED = 40_000
HELD_OUT = 256
CONDITIONINGS = ("reco", "caption", "null")

PLAIN = replace(RECIPE, half=0.0)
ROWS: dict[str, BaseRecipe] = {
    "plain": PLAIN,
    "again": PLAIN,
    "no labels": replace(PLAIN, labels=0.0),
    "no grounding": replace(PLAIN, grounding=0.0),
    "min-snr": replace(PLAIN, weighting="min-snr"),
    "t even": replace(PLAIN, noisy=0.0),
    "adamw": replace(PLAIN, muon=False),
    "adamw, half the rate": replace(PLAIN, muon=False, lr=PLAIN.lr / 2),
    "batch 16": replace(PLAIN, batch=16),
    "batch 96": replace(PLAIN, batch=96),
    "bins normal": replace(PLAIN, sines=False),
    "simple first": replace(PLAIN, simple=0.3),
    "half canvas first": replace(PLAIN, half=0.5),  # fraction of the images; about RECIPE's fraction of the time
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for trainings and results")
    parser.add_argument("--pictures", type=int, default=12_800, help="training images of each row (default: 12800)")
    parser.add_argument(
        "--row",
        action="append",
        choices=list(ROWS),
        metavar="NAME",
        help="row to train: {}; repeatable (default: all)".format(", ".join(ROWS)),
    )
    options = parser.parse_args()
    stores = _stores(options.out)
    for name in options.row or list(ROWS):
        file = options.out / f"{name} {options.pictures}.json"
        if not file.is_file():
            result = _row(name, options.pictures, options.out, stores)
            file.write_text(json.dumps(result))
        print(_table(options.out, options.pictures), flush=True)


def _stores(out: Path) -> tuple[LatentStore, LatentStore, LatentStore]:
    """Training images, the same at half size, and held-out images."""
    vae = Vae(base.load_autoencoder(BUILTIN / "vae"))
    whole = LatentStore(out / "latents", family.RECIPE, (8, 16, 16), STORED)
    half = LatentStore(out / "latents-half", family.RECIPE, (8, 8, 8), STORED)
    unseen = LatentStore(out / "unseen", family.RECIPE, (8, 16, 16), HELD_OUT, FIRST_SEED)
    for store in (whole, half, unseen):
        fill(store, vae, store.capacity)
    return whole, half, unseen


def _row(name: str, pictures: int, out: Path, stores: tuple[LatentStore, LatentStore, LatentStore]) -> dict[str, Any]:
    whole, half, unseen = stores
    recipe = ROWS[name]
    words = base.load_tokenizer(BUILTIN / "tokenizer")
    torch.manual_seed(1 if name == "again" else 0)
    text, unet = base.build_text(words, sines=recipe.sines), base.build_unet()
    stage = base_stage.stage(text, unet, words, whole, 1.0, recipe=recipe, half=half)
    stage = replace(stage, pictures=pictures)
    folder = out / f"state {name} {pictures}"
    began = time.monotonic()
    run(stage, folder)
    progress = load_average(folder, stage.modules)
    figures = _measure(text.eval(), unet.eval(), stage.modules["labels"], words, unseen)
    return {"seconds": progress.seconds, "wall": time.monotonic() - began, "steps": progress.step, **figures}


@torch.no_grad()
def _measure(text: Any, unet: Any, labels: Any, words: Any, store: LatentStore) -> dict[str, list[float]]:
    """Squared error on v of each image, by conditioning and range of t, and the accuracy of the features."""
    v, abar = Vocabulary.of(words), base.alphas()
    features = Seen()
    unet.up_blocks[-2].register_forward_hook(lambda module, args, out: features.all.append(out))
    figures: dict[str, list[float]] = {}
    for start in range(0, HELD_OUT, 32):
        chosen = np.arange(start, start + 32)
        z0, classes, _ = store.batch(chosen)
        for low, high in ((0, 400), (400, 700), (700, 1000)):
            generator = torch.Generator().manual_seed(start + low)
            noise, t = torch.randn(z0.shape, generator=generator), torch.randint(low, high, (32,), generator=generator)
            a, s = abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]
            for kind in CONDITIONINGS:
                ids = [
                    caption_tokens(store, int(k), kind, np.random.default_rng([int(k), 3]), words, v).ids
                    for k in chosen
                ]
                features.all.clear()
                with torch.autocast("cpu", torch.bfloat16):
                    embeddings = text(torch.tensor(ids)).last_hidden_state
                    out = unet(a * z0 + s * noise, t, encoder_hidden_states=embeddings).sample
                    seen = labels.classes(features.all[0]).argmax(1)
                error = (out.float() - (a * noise - s * z0)).square().mean((1, 2, 3))
                figures.setdefault(f"{kind} {low}", []).extend(error.tolist())
                if kind == "reco" and low == 700:
                    right = ((seen == classes) & (classes > 0)).sum((1, 2)) / (classes > 0).sum((1, 2)).clamp(min=1)
                    figures.setdefault("named", []).extend(right.tolist())
    return figures


COLUMNS: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "v, t < 400": lambda f: f["reco 0"],
    "v, 400 to 699": lambda f: f["reco 400"],
    "v, t from 700": lambda f: f["reco 700"],
    "reco - caption": lambda f: f["reco 700"] - f["caption 700"],
    "reco - null": lambda f: f["reco 700"] - f["null 700"],
    "named": lambda f: f["named"],
}


def _table(out: Path, pictures: int) -> str:
    """The table of all finished rows, with the paired difference from plain after each figure."""
    rows = {n: json.loads(f.read_text()) for n in ROWS if (f := out / f"{n} {pictures}.json").is_file()}
    lines = [f"{pictures} images per row, measured on {HELD_OUT} others.", ""]
    lines += [f"| row | steps | minutes | {' | '.join(COLUMNS)} |", "|---" * (3 + len(COLUMNS)) + "|"]
    values = {
        name: {c: of({k: torch.tensor(v) for k, v in row.items() if isinstance(v, list)}) for c, of in COLUMNS.items()}
        for name, row in rows.items()
    }
    for name, row in rows.items():
        cells = []
        for column, own in values[name].items():
            digits = f"{own.mean():.4f}"
            if name != "plain" and "plain" in values:
                change = own - values["plain"][column]
                wide = 1.96 * change.std() / len(change) ** 0.5
                digits += f" ({change.mean():+.4f} ± {wide:.4f})"
            cells.append(digits)
        lines.append(f"| {name} | {row['steps']} | {row['seconds'] / 60:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
