"""Generates the images of README and docs: ``python scripts/docs_pictures.py`` (needs the installed package)."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from cloisonne.scene import Region, Scene, draw_regions, region_weights, uncovered
from cloisonne.scene.io.images import opened

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "images"


def overlap(side: int = 240) -> Image.Image:
    """The weights of three overlapping regions, one panel for each rule; grey is the weight of the caption."""
    across = np.linspace(0, 1, side, dtype=np.float32)
    soft = np.clip(1.15 - 2.6 * np.hypot(across[:, None] - 0.62, across[None] - 0.3), 0, 1)
    regions = [
        Region(name="red", box=(0.1, 0.1, 0.6, 0.6), phrase="a", weight=2.0, priority=1),
        Region(name="green", ellipse=(0.35, 0.3, 0.95, 0.9), phrase="b", feather=0.3),
        Region(name="blue", mask=np.rint(soft * 255).astype(np.uint8), phrase="c"),
    ]
    colours = np.array([[220, 50, 50], [50, 170, 70], [60, 90, 220], [190, 190, 190]], np.float32)
    masks = [region.soft_mask(side, side) for region in regions]
    weights, priorities = [r.weight for r in regions], [r.priority for r in regions]
    panels = []
    for rule in ("blend", "priority", "union"):
        counted = region_weights(masks, weights, priorities, rule)
        shares = np.stack([*counted, uncovered(counted, side, side)])
        shares = shares / shares.sum(0)
        panels.append(np.tensordot(shares, colours, (0, 0)))
        panels.append(np.full((side, 8, 3), 255, np.float32))
    return Image.fromarray(np.concatenate(panels[:-1], 1).astype(np.uint8))


def scene_and_result(scene: Scene, size: int = 384) -> Image.Image:
    """The scene's regions and control maps on an empty canvas, next to the image that the built-in model generates."""
    from cloisonne import generate, load

    result = generate(scene, load(scene.model)).image
    empty = Image.new("RGB", result.size, (236, 236, 236))
    for region in scene.regions:
        if region.control is not None and region.control.image is not None:
            lines = opened(region.control.image, "map").convert("L").resize(result.size)
            empty.paste((90, 90, 90), (0, 0), lines)
    left = draw_regions(empty, scene.regions).resize((size, size), Image.Resampling.LANCZOS)
    right = result.resize((size, size), Image.Resampling.BICUBIC)
    out = Image.new("RGB", (2 * size + 12, size), (255, 255, 255))
    out.paste(left, (0, 0))
    out.paste(right, (size + 12, 0))
    return out


def mixed(scene: Scene, size: int = 384) -> Image.Image:
    """The image of :func:`scene_and_result`, with the exemplars inside their regions."""
    out = scene_and_result(scene, size)
    for region in scene.regions:
        if region.exemplar is not None:
            x0, y0, x1, y1 = (round(v * size) for v in region.bounding_box())
            inset = opened(region.exemplar.image, "exemplar").convert("RGB")
            inset.thumbnail((x1 - x0 - 12, y1 - y0 - 32), Image.Resampling.LANCZOS)
            out.paste(inset, (x0 + (x1 - x0 - inset.width) // 2, y1 - 6 - inset.height))
    return out


def conditions_in_turn(scene: Scene, size: int = 224) -> Image.Image:
    """A region's exemplar and edges, then the scene with its phrase alone, with either condition, and with both."""
    from cloisonne import generate, load

    (region,) = scene.regions
    assert region.exemplar is not None
    assert region.control is not None
    assert region.control.image is not None
    model = load(scene.model)
    changes = ({"exemplar": None, "control": None}, {"control": None}, {"exemplar": None}, {})
    panels = [opened(region.exemplar.image, "exemplar"), opened(region.control.image, "map")]
    panels += [generate(scene.replace(regions=(region.replace(**change),)), model).image for change in changes]
    return _row(panels, size)


def concept(scene: Scene, size: int = 256) -> Image.Image:
    """The background, the image that gives the concept, and the result."""
    from cloisonne import generate, load

    (given,) = (region.concept for region in scene.regions if region.concept is not None)
    assert scene.background is not None
    assert given.image is not None
    made = generate(scene, load(scene.model)).image
    return _row([opened(scene.background, "background"), opened(given.image, "concept"), made], size)


def translated(source: Path, reference: Path, size: int = 256) -> Image.Image:
    """A source, a reference, and the result of ``translate``."""
    from cloisonne import load, translate

    made = translate(source, reference, load("builtin"), preset="interrogate").image
    return _row([Image.open(source), Image.open(reference), made], size)


def _row(panels: list[Image.Image], size: int) -> Image.Image:
    """Images resized to squares, side by side."""
    out = Image.new("RGB", ((size + 6) * len(panels) - 6, size), (255, 255, 255))
    for column, panel in enumerate(panels):
        out.paste(panel.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), (column * (size + 6), 0))
    return out


def before_and_after(scene: Scene, size: int = 384) -> Image.Image:
    """The image before with the edited regions outlined, and the image after."""
    from cloisonne import edit, load

    made = edit(scene, load(scene.model))
    left = made.named["before"].convert("RGB").resize((2 * size, 2 * size), Image.Resampling.BICUBIC)
    edited = [region for region in scene.regions if region.edit is not None]
    out = Image.new("RGB", (2 * size + 12, size), (255, 255, 255))
    out.paste(draw_regions(left, edited).resize((size, size), Image.Resampling.LANCZOS), (0, 0))
    out.paste(made.image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC), (size + 12, 0))
    return out


def edits(count: int = 8, side: int = 128) -> Image.Image:
    """The first pairs of ``evaluate edits``, one per column: image before, ground truth, and result."""
    from cloisonne import edit, load
    from cloisonne.eval.pairs import pair

    model = load("builtin")
    sheet = Image.new("RGB", ((side + 4) * count, (side + 4) * 3), (255, 255, 255))
    for column in range(count):
        item = pair(column)
        before = Image.fromarray(item.before)
        made = edit(item.scene(before, column), model)
        for row, image in enumerate((before, Image.fromarray(item.after), made.image)):
            sheet.paste(image, (column * (side + 4), row * (side + 4)))
    return sheet


def translations(cache: Path, side: int = 128) -> Image.Image:
    """Sources in the first row, references of several styles in the first column, and the result of each pair.

    cache: folder of what is learned from the sources.
    """
    from cloisonne import load, translate
    from cloisonne.world.draw import draw
    from cloisonne.world.picture import STYLES, Recipe, sample

    model = load("builtin")
    sources = [draw(sample(6_000_000 + k, Recipe(counts=(2,)))).rgb for k in range(4)]
    styles = [STYLES[k] for k in (1, 4, 5, 7)]
    pictures = [draw(sample(6_000_100 + k, Recipe(counts=(2,)))).picture for k in range(4)]
    references = [draw(replace(p, style=style)).rgb for p, style in zip(pictures, styles, strict=True)]
    sheet = Image.new("RGB", ((side + 4) * 5, (side + 4) * 5), (255, 255, 255))
    for column, source in enumerate(sources, 1):
        sheet.paste(Image.fromarray(source), (column * (side + 4), 0))
        for row, reference in enumerate(references, 1):
            sheet.paste(Image.fromarray(reference), (0, row * (side + 4)))
            made = translate(source, reference, model, preset="interrogate", content_rounds=60, cache=cache)
            sheet.paste(made.image, (column * (side + 4), row * (side + 4)))
    return sheet


def main() -> None:
    """Write all images into docs/images."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    overlap().save(PICTURES / "overlap.png", optimize=True)
    for name in ("beach", "castle"):
        scene_and_result(Scene.load(ROOT / "examples" / f"{name}.json")).save(PICTURES / f"{name}.png", optimize=True)
    mixed(Scene.load(ROOT / "examples" / "mixed.json")).save(PICTURES / "mixed.png", optimize=True)
    conditions_in_turn(Scene.load(ROOT / "examples" / "mixed-one.json")).save(PICTURES / "mixed-one.png", optimize=True)
    concept(Scene.load(ROOT / "examples" / "concept.json")).save(PICTURES / "concept.png", optimize=True)
    robot = translated(ROOT / "examples" / "robot.png", ROOT / "examples" / "blueprint.png")
    robot.save(PICTURES / "translate.png", optimize=True)
    edited = Scene.load(ROOT / "examples" / "edit-mixed.json")
    edits().save(PICTURES / "sheet-edits.png", optimize=True)
    with TemporaryDirectory() as cache:
        translations(Path(cache)).save(PICTURES / "sheet-translate.png", optimize=True)
    before_and_after(edited).save(PICTURES / "edit.png", optimize=True)


if __name__ == "__main__":
    main()
