"""What the commands of a page find in their folder: the files and checkpoints that the page speaks of.

Checkpoints are tiny networks with random weights in the layouts of published ones, under the names that pages use.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_lines import blocks
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
SCENE: dict[str, Any] = {
    "caption": "on a beach",
    "steps": 2,
    "regions": [{"name": "cat", "box": [0.5, 0.5, 0.95, 0.95], "phrase": "a cat"}],
}
PHOTOS = {"photo": "park", "photograph": "park", "park": "park", "other": "park"} | {
    "cat": "pumpkin",
    "blueprint": "blueprint",
    "picture": "park",
}
"""Files that pages name, and the example that each is."""
INFOTEXT = """on a beach BREAK a doughnut BREAK a cat
Negative prompt: blurry
Steps: 20, Sampler: Euler a, CFG scale: 6, Seed: 7, Size: 128x128"""
COLUMNS = ', RP Active: True, RP Divide mode: Matrix, RP Matrix submode: Columns, RP Ratios: "1,1", RP Use Common: True'
MASKS = ", RP Active: True, RP Divide mode: Mask, RP Use Common: True"
COCO = {
    "images": [{"id": 7, "width": 128, "height": 128, "file_name": "7.png"}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 1, "bbox": [64, 64, 50, 50]}],
}


def write_files(folder: Path, page: Path) -> None:
    """Pictures, masks, scenes and other tools' files, and a link to examples/."""
    (folder / "examples").symlink_to(EXAMPLES)
    for name, example in PHOTOS.items():
        with Image.open(EXAMPLES / f"{example}.png") as image:
            plain = image.convert("RGB")
        plain.save(folder / f"{name}.png")
        plain.save(folder / f"{name}.jpg")
    hole = Image.new("L", (128, 128))
    hole.paste(255, (40, 40, 90, 90))
    hole.save(folder / "hole.png")
    hole.save(folder / "sky.png")
    clear = Image.new("RGBA", (128, 128), "white")
    clear.paste((0, 0, 0, 0), (40, 40, 90, 90))
    clear.save(folder / "mask.png")
    if page.name in ("interchange.md", "README.md", "api.md"):
        _of_other_tools(folder)
    if page.name == "flux2-klein.md":
        (folder / "picnic.json").write_text(blocks(page, "json")[0])
    if page.name == "README.md":
        (folder / "scenes").mkdir()
        (folder / "scenes" / "cat.json").write_text(json.dumps(SCENE))
    if page.name != "interchange.md":
        (folder / "scene.json").write_text(json.dumps(_scene(page)))


def _of_other_tools(folder: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    (folder / "layers").mkdir()
    layer = Image.new("RGBA", (128, 128))
    layer.paste("red", (40, 40, 90, 90))
    layer.save(folder / "layers" / "01 a red ball.png")
    layer.rotate(90, translate=(20, 0)).save(folder / "layers" / "02 a cat.png")
    (folder / "annotations.json").write_text(json.dumps(COCO))
    for name, rest in {"image": COLUMNS, "painted": MASKS}.items():
        info = PngInfo()
        info.add_text("parameters", INFOTEXT + rest)
        Image.new("RGB", (128, 128)).save(folder / f"{name}.png", pnginfo=info)
    colours = Image.new("RGB", (128, 128), (64, 127, 127))  # hue 180, the first region's
    colours.paste((127, 64, 64), (64, 0, 128, 128))  # hue 0, the second's
    colours.save(folder / "regions.png")


def _scene(page: Path) -> dict[str, Any]:
    """The scene that a page calls scene.json: printed there, or a plain one."""
    name = page.relative_to(ROOT).as_posix()
    if name in ("docs/methods/mrgd.md", "docs/methods/flowedit.md", "README.md"):
        return json.loads(blocks(DOCS / "methods" / "mrgd.md", "json")[0]) | {"steps": 6}
    if name == "docs/methods/localized-control.md":
        return SCENE | {"width": 128, "height": 128, "regions": [json.loads(blocks(page, "json")[0])]}
    if name == "docs/methods/paint-by-example.md":
        return json.loads(blocks(page, "json")[0]) | {"steps": 4}
    return SCENE


def _sd(folder: Path) -> None:
    from pictured import SD_LIKE
    from tiny import write_checkpoint

    write_checkpoint(folder, unet=SD_LIKE)


def _reco(folder: Path) -> None:
    from cloisonne.models.builtin import BUILTIN

    folder.symlink_to(BUILTIN)


def _control(folder: Path) -> None:
    from controlled import beside

    beside(folder.parent / "sd", 5).save_pretrained(folder)


def _exemplar(folder: Path) -> None:
    from tiny import write_exemplar

    write_exemplar(folder)


def _ip_adapter(folder: Path) -> None:
    """h94/IP-Adapter's folder, for the checkpoint sd15."""
    from pictured import published, tower
    from safetensors.torch import save_file

    vision = tower(32)
    (folder / "models").mkdir(parents=True)
    vision.save_pretrained(folder / "models" / "image_encoder")
    save_file(published(folder.parent / "sd15", "plain", vision), folder / "models" / "ip-adapter_sd15.safetensors")


def _flux(folder: Path) -> None:
    from flux import write_flux

    write_flux(folder)


def _sd3(folder: Path) -> None:
    from sd3 import write_sd3

    write_sd3(folder)


def _flux2(folder: Path) -> None:
    from flux2 import write_flux2

    write_flux2(folder)


def _block_control(kind: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        from block_controlled import write_block_controlnet

        write_block_controlnet(folder, kind)

    return write


CHECKPOINTS: dict[str, Callable[[Path], None]] = {
    "path/to/sd": _sd,
    "path/to/checkpoint": _sd,
    "path/to/reco": _reco,
    "path/to/t2iadapter_canny": _control,
    "path/to/Paint-by-Example": _exemplar,
    "sd15": _sd,
    "IP-Adapter": _ip_adapter,
    "FLUX.1-dev": _flux,
    "FLUX.1-dev-Controlnet-Union": _block_control("flux union"),
    "stable-diffusion-3-medium-diffusers": _sd3,
    "SD3-Controlnet-Canny": _block_control("sd3"),
    "black-forest-labs/FLUX.2-klein-4B": _flux2,
}
"""Makers of checkpoints, by the path that pages use; one may need those above it."""


def write_checkpoints(folder: Path) -> None:
    """All checkpoints that pages name."""
    for name, write in CHECKPOINTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name)


def link_checkpoints(made: Path, folder: Path) -> None:
    """Put checkpoints that ``write_checkpoints`` made into a page's folder."""
    for path in made.iterdir():
        (folder / path.name).symlink_to(path)
