"""Sample sheets of the built-in family's networks."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cloisonne.eval.holes import hole
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_pixels
from cloisonne.scene import Region, Scene, draw_regions
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.inpainting import inpaint_scene
from cloisonne.world.draw import draw
from cloisonne.world.picture import EVERYTHING, Recipe, sample
from cloisonne.world.words import background_words, phrase

FIRST_SEED = 4_000_000
"""First seed of the images on the autoencoder's sheet; training never uses these seeds."""

Box = tuple[float, float, float, float]
_SCENES: tuple[tuple[str, tuple[tuple[Box, str], ...]], ...] = (
    ("on a beach", (((0.05, 0.05, 0.45, 0.45), "a doughnut"), ((0.52, 0.5, 0.95, 0.93), "a cat"))),
    ("in a meadow", (((0.1, 0.35, 0.55, 0.75), "a red car"), ((0.6, 0.1, 0.9, 0.45), "a balloon"))),
    ("in the night sky", (((0.25, 0.25, 0.8, 0.8), "an owl"),)),
    ("on a wooden table", (((0.05, 0.5, 0.42, 0.85), "a banana"), ((0.5, 0.4, 0.95, 0.85), "a blue alarm clock"))),
    ("in a city", (((0.25, 0.25, 0.75, 0.75), "a purple guitar"),)),
    (
        "in the snow",
        (
            ((0.05, 0.1, 0.38, 0.45), "a penguin"),
            ((0.6, 0.1, 0.95, 0.45), "a pizza"),
            ((0.1, 0.6, 0.42, 0.92), "a strawberry"),
            ((0.58, 0.6, 0.92, 0.92), "a yellow fish"),
        ),
    ),
    ("under the ocean", (((0.1, 0.1, 0.65, 0.65), "a whale"), ((0.65, 0.6, 0.95, 0.9), "a crab"))),
    ("on a brick wall", (((0.1, 0.2, 0.5, 0.6), "a sunflower"), ((0.55, 0.45, 0.9, 0.85), "a green umbrella"))),
)


def write_sheet(member: str, family: Path, folder: Path) -> Path | None:
    """Write ``folder/sheet-<member>.png``; None for members without a sheet. The family must load."""
    kind = member.removeprefix("control-")
    drawn = {"vae": autoencoder_sheet, "unet": scenes_sheet, "exemplar": exemplars_sheet}.get(member)
    if drawn is None and kind == member:
        return None
    model = load(family)
    sheet = controls_sheet(model, kind) if drawn is None else drawn(model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sheet-{member}.png"
    sheet.save(path, optimize=True)
    return path


def autoencoder_sheet(model: Model, count: int = 8) -> Image.Image:
    """World images above their VAE reconstructions: half with core glyphs, half with all glyphs and styles."""
    recipes = (Recipe(styled=0.2), EVERYTHING)
    true = np.stack([draw(sample(FIRST_SEED + k, recipes[k % 2])).rgb for k in range(count)])
    pixels = torch.from_numpy(true).permute(0, 3, 1, 2).float().to(model.device) / 127.5 - 1
    back = [as_pixels(picture) for picture in model.vae.decode(model.vae.encode(pixels))]
    return Image.fromarray(np.concatenate([np.concatenate(list(true), 1), np.concatenate(back, 1)], 0))


def scenes_sheet(model: Model, method: str = "reco", size: int = 256) -> Image.Image:
    """Eight fixed scenes, four per row, with their regions outlined; seed 0."""
    panels = []
    for caption, layout in _SCENES:
        regions = tuple(Region(name=phrase, box=box, phrase=phrase) for box, phrase in layout)
        picture = generate(Scene(caption=caption, regions=regions, method=method), model, seed=0).image
        panels.append(np.asarray(draw_regions(picture, regions).resize((size, size), Image.Resampling.LANCZOS)))
    rows = [np.concatenate(panels[k : k + 4], 1) for k in range(0, len(panels), 4)]
    return Image.fromarray(np.concatenate(rows, 0))


def exemplars_sheet(model: Model, count: int = 8) -> Image.Image:
    """Holes of the exemplar benchmark: source, hole, exemplar, result. The glyphs are held out from training."""
    columns = []
    for index in range(count):
        item = hole(index)
        mask = Image.fromarray(item.mask.astype(np.uint8) * 255)
        subject = Image.fromarray(item.exemplar)
        scene = inpaint_scene(Image.fromarray(item.source), mask, exemplar=subject, seed=index)
        made = generate(scene, model).image
        holed = np.where(item.mask[..., None], np.uint8(128), item.source)
        columns.append(np.concatenate([item.source, holed, np.asarray(subject.resize(made.size)), np.asarray(made)], 0))
    return Image.fromarray(np.concatenate(columns, 1))


def controls_sheet(model: Model, kind: str, count: int = 8) -> Image.Image:
    """World images, their control maps inside a box, and the results without and with a phrase."""
    columns = []
    for index in range(count):
        drawn = draw(sample(FIRST_SEED + 100 + index))
        background = background_words(drawn.picture.background, np.random.default_rng(index))
        control = {"kind": kind, "from": Image.fromarray(drawn.rgb)}
        region = Region(name=kind, box=_widened(drawn.boxes()[-1]), control=control)
        item = drawn.picture.items[-1]
        named = region.replace(phrase=phrase(item, 0.1, np.random.default_rng(index)))
        scenes = [
            Scene(caption=background, regions=(region,), method="caption"),
            Scene(caption=background, regions=(named,)),
        ]
        made = [np.asarray(generate(scene, model, seed=index).image) for scene in scenes]
        control_map = DRAWN[kind](drawn.rgb)
        if control_map.ndim == 2:
            control_map = np.repeat(control_map[..., None], 3, -1)
        inside = region.soft_mask(*control_map.shape[:2])[..., None] > 0
        columns.append(np.concatenate([drawn.rgb, np.where(inside, control_map, control_map // 4), *made], 0))
    return Image.fromarray(np.concatenate(columns, 1).astype(np.uint8))


def _widened(box: Box, by: float = 0.05) -> Box:
    return (max(0.0, box[0] - by), max(0.0, box[1] - by), min(1.0, box[2] + by), min(1.0, box[3] + by))
