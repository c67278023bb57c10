"""Variants of the method bounded on layouts-v1, against each other and methods without a boost.

    python benchmarks/bounded.py -o out --row bounded --row words --limit 163
    python benchmarks/bounded.py -o out --row boost=300 --row boost=auto --row place_words=1 --limit 50
    python benchmarks/bounded.py -o out --row guidance=1.6 --row layout_guidance=.01 --row noise=arranged
    python benchmarks/bounded.py -o out --row bounded --row passes=2 --row passes=2,check=own
    python benchmarks/bounded.py --sheet docs/images/regions-by-method.png

A row is a method, or settings of bounded that differ from its own:

boost        how many times a token of a phrase counts, or auto
repeats      how often the phrase stands in its text
place_words  1: place words before the phrase
guidance     guidance within regions, relative to the scene's
layout_guidance  as of scenes
noise        arranged: for each region, the part of the initial noise in which its phrase gets the most attention is
             swapped into its box (arXiv 2305.03382)
share        the phrase's share of the attention of each head and pixel of its region, in place of a boost
heads        the fraction of the heads, those that attend to the phrase most, in which phrases are boosted
layers       fine or coarse: phrases are boosted in attention layers of at least, or of less than, half of the canvas'
             resolution only
passes       2: regions whose object is missing are painted anew by another seed, the rest kept
check        who says what is missing: judge, which also measures, so an upper bound; or own, the network: whether the
             phrase explains the noised region better than the caption alone (diffusion classifier, 2303.16203)

Tables as of ``cloisonne evaluate layouts``, with differences to the first row paired by scene. A folder keeps what is
measured: the same command goes on where it was stopped. The sheet shows the same scenes by every method, with the
regions' boxes.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cloisonne.bench.settings import Settings, through_vae
from cloisonne.core.guidance import Single
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import AttentionEdit, Call, Plan, Site, Step
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.eval.benchmark import evaluate_layouts
from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import CANVAS, Layout, layouts
from cloisonne.eval.metrics.layouts import measure
from cloisonne.methods import METHODS
from cloisonne.methods.bounded import BOOST, REPEATS, Bounded
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene import Scene
from noise_arrangement import arrangeable, arranged

SHEET = ("caption", "words", "attention", "multidiffusion", "bounded", "bounded-words", "reco")
"""The rows of the sheet, from top to bottom."""
MARGIN = 96
"""Width of the sheet's column of names, in pixels."""

LEVELS = (0.3, 0.5, 0.7)
"""Where the network checks an image: fractions of the steps that are done."""

Generate = Callable[[Scene, int], np.ndarray]
"""(scene, seed) -> image, uint8 RGB."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The settings of a row, as in the file's docstring."""

    boost: float | str = BOOST
    repeats: int = REPEATS
    place_words: bool = False
    guidance: float = 1.0
    layout_guidance: float = 0.0
    share: float = 0.0
    heads: float = 1.0
    layers: str = "all"
    noise: str = "drawn"
    passes: int = 1
    check: str = "judge"

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """From "name=value,name=value". Raises ValueError for an unknown name or value."""
        kinds = {"place_words": lambda value: bool(int(value)), "noise": str}
        kinds |= {"repeats": int, "passes": int, "check": str, "layers": str, "boost": _boost}
        given = dict(part.split("=") for part in text.split(","))
        if unknown := set(given) - {field.name for field in fields(cls)}:
            raise ValueError(f"A row has no {', '.join(sorted(unknown))}.")
        return cls(**{name: kinds.get(name, float)(value) for name, value in given.items()})

    def generator(self, model: Model, judge: Judge) -> Generate:
        """The generator of its images."""

        def once(scene: Scene, seed: int) -> np.ndarray:
            METHODS["bounded"] = Bounded(repeats=self.repeats, place_words=self.place_words)
            changed = scene.replace(method="bounded", region_boost=self.boost, layout_guidance=self.layout_guidance)
            if self.guidance != 1:
                changed = changed.replace(regions=[r.replace(guidance=self.guidance) for r in changed.regions])
            return np.asarray(generate(changed, model, seed=seed, **self._options(changed, model, seed)).image)

        def checked(scene: Scene, seed: int) -> np.ndarray:
            image = once(scene, seed)
            for number in range(1, self.passes):
                missing = self.missing(image, scene, model, judge)
                if missing:
                    anew = [region for region, lacks in zip(scene.regions, missing, strict=True) if lacks]
                    hole = scene.replace(regions=anew, background=Image.fromarray(image), width=None, height=None)
                    image = once(hole, seed + 7919 * number) if anew else image
            return image

        return checked

    def missing(self, image: np.ndarray, scene: Scene, model: Model, judge: Judge) -> list[bool]:
        """Whether each region's object is missing."""
        if self.check == "own":
            return [margin < 0 for margin in margins(image, scene, model)]
        wanted = next(layout.regions for layout in layouts() if layout.scene().regions == scene.regions)
        return [not found.found for found in measure(image, wanted, judge).regions]

    def _options(self, scene: Scene, model: Model, seed: int) -> dict[str, Any]:
        options = {"latents": arranged_noise(scene, model, seed)} if self.noise == "arranged" else {}
        if not self.share and self.heads == 1 and self.layers == "all":
            return options
        return options | {
            "readers": (Shares(self.share, self.heads, self.layers, model.native.height // model.vae.factor),)
        }


def _boost(value: str) -> float | str:
    return value if value == "auto" else float(value)


@dataclass(frozen=True)
class Shares(AttentionEdit):
    """Changes how much of the attention boosted tokens get, by layer, head and pixel. The fields are those of a row."""

    share: float
    heads: float
    layers: str
    side: int

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        p = p.clone()
        fine = 2 * site.grid[0] >= self.side
        boosted = self.layers == "all" or fine == (self.layers == "fine")
        for text, (begin, end) in zip(call.texts.texts, call.texts.spans(), strict=True):
            if text.counts:
                own = p[text.row, :, :, begin:end]
                p[text.row, :, :, begin:end] = self._shared(own, text.counts, boosted)
        return p

    def _shared(self, own: Tensor, counts: Sequence[tuple[int, int, float]], boosted: bool) -> Tensor:
        """The same probabilities [heads, Q, N], which add up to the same, with another share of the phrase."""
        times = torch.ones(own.shape[-1])
        for start, stop, count in counts:
            times[start:stop] = count
        phrase = times > 1
        whole = own.sum(-1, keepdim=True)
        plain = own / times
        if not boosted:
            return plain * whole / plain.sum(-1, keepdim=True).clamp_min(1e-20)
        if self.heads < 1:
            odds = (plain[..., phrase].sum(-1) / plain.sum(-1).clamp_min(1e-20)).mean(-1)
            least = odds.quantile(1 - self.heads)
            unboosted = plain * whole / plain.sum(-1, keepdim=True).clamp_min(1e-20)
            return torch.where((odds >= least)[:, None, None], own, unboosted)
        if self.share:
            inside = own[..., phrase].sum(-1, keepdim=True).clamp_min(1e-20)
            outside = own[..., ~phrase].sum(-1, keepdim=True).clamp_min(1e-20)
            return own * torch.where(phrase, self.share * whole / inside, (1 - self.share) * whole / outside)
        return own

    def in_scene(self, scene: str) -> "Shares":
        return self


def arranged_noise(scene: Scene, model: Model, seed: int) -> Tensor:
    """[1, C, H, W]: the initial noise of a seed, arranged by region."""
    prepared = prepare(scene.replace(seed=seed, width=CANVAS, height=CANVAS), model)
    shape = (model.vae.channels, *prepared.grid)
    z = Noise([Seed(seed, prepared.compiled.seeds)], shape, model.device)()[0]
    first = prepared.steps[0]
    regions = arrangeable(prepared.compiled.plan, prepared.placed, first)
    return arranged(z, regions, first, model, Run())[None]


def margins(image: np.ndarray, scene: Scene, model: Model) -> list[float]:
    """By how much each region's phrase lowers the denoising error in its region, relative to the caption's error."""
    prepared = prepare(scene.replace(method="bounded", width=CANVAS, height=CANVAS), model)
    plain = prepare(scene.replace(method="bounded", width=CANVAS, height=CANVAS, regions=()), model)
    clean = model.vae.encode(as_tensor(image).to(model.device))
    found = torch.zeros(len(scene.regions))
    masks = {placed.name: torch.as_tensor(placed.mask) for placed in prepared.placed}
    for place, level in enumerate(LEVELS):
        step = prepared.steps[int(level * len(prepared.steps))]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(place)).to(model.device)
        z = step.alpha * clean + step.s * noise
        errors = [((_single(one.compiled.plan, z, step) - clean) ** 2).mean((0, 1)) for one in (prepared, plain)]
        for k, region in enumerate(scene.regions):
            mask = masks[region.name or ""]
            phrase, caption = ((mask * error).sum() for error in errors)
            found[k] += (caption - phrase) / caption / len(LEVELS)
    return found.tolist()


@torch.no_grad()
def _single(plan: Plan, z: Tensor, step: Step) -> Tensor:
    return predict(replace(plan, views=tuple(replace(view, guide=Single()) for view in plan.views)), z, step)


def sheet(model: Model, chosen: list[Layout]) -> Image.Image:
    """A column for each layout, a row for each method of ``SHEET``."""
    out = Image.new("RGB", (MARGIN + CANVAS * len(chosen), CANVAS * len(SHEET)), "white")
    draw = ImageDraw.Draw(out)
    for row, method in enumerate(SHEET):
        draw.text((4, row * CANVAS + CANVAS // 2), method, fill="black")
        for column, layout in enumerate(chosen):
            scene = layout.captioned() if method == "caption" else layout.scene()
            image = generate(scene.replace(method=method), model, seed=layout.seed).image
            x, y = MARGIN + column * CANVAS, row * CANVAS
            out.paste(image, (x, y))
            for region in layout.regions:
                left, top, right, bottom = (v * CANVAS for v in region.box)
                draw.rectangle((x + left, y + top, x + right - 1, y + bottom - 1), outline="magenta")
    return out


def rows(names: Sequence[str], model: Model, judge: Judge) -> dict[str, Generate]:
    """The generators of the rows, by name."""

    def plain(method: str) -> Generate:
        return lambda scene, seed: np.asarray(generate(scene.replace(method=method), model, seed=seed).image)

    variants = {
        n: Variant() if n == "bounded" else Variant.parse(n) for n in names if n == "bounded" or n not in METHODS
    }
    return {n: variants[n].generator(model, judge) if n in variants else plain(n) for n in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="folder for measurements and tables")
    parser.add_argument("--model", default="builtin", help='"builtin" or a diffusers folder')
    parser.add_argument("--row", action="append", help="a method, or settings such as boost=300,guidance=1.6")
    parser.add_argument("--limit", type=int, default=None, help="number of scenes, from the first")
    parser.add_argument("--save-pictures", action="store_true", help="also write the images")
    parser.add_argument("--sheet", type=Path, help="write the sheet to this file, and measure nothing")
    parser.add_argument("--scenes", type=int, default=6, help="number of scenes with several regions on the sheet")
    given = parser.parse_args()
    model = load(given.model)
    if given.sheet:
        several = [layout for layout in layouts() if len(layout.regions) > 1 and not layout.held_out]
        sheet(model, several[: given.scenes]).save(given.sheet, optimize=True)
        return
    if given.output is None:
        parser.error("give -o FOLDER or --sheet FILE")
    judge = Judge.load(BUILTIN / "judge")
    makers = rows(given.row or ["bounded", "bounded-words", "words", "attention"], model, judge)
    settings = Settings(out=given.output, model=given.model, limit=given.limit, save_pictures=given.save_pictures)
    results = evaluate_layouts(
        lambda scene, name, seed: makers[name](scene, seed),
        judge,
        through_vae(model),
        given.output,
        methods=tuple(makers),
        **settings.keywords(model),
    )
    print(results.report().markdown())


if __name__ == "__main__":
    main()
