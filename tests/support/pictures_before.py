"""A fixed set of results: every verb, kind of condition, method and sampler, on the built-in family and tiny layouts.

Each case is a function of a folder for scratch files; it returns the pictures that it makes.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from controlled import MID, SD1, beside, photo
from lora_files import lora_weights, peft_file
from PIL import Image
from tiny import write_checkpoint, write_exemplar, write_xl

import cloisonne as cl

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REGIONS = (
    {"name": "donut", "box": (0.05, 0.05, 0.5, 0.5), "phrase": "a doughnut", "weight": 0.8, "priority": 1},
    {"name": "cat", "box": (0.4, 0.4, 0.95, 0.93), "phrase": "a cat", "negative": "a dog", "guidance": 4.0},
    {"name": "car", "ellipse": (0.55, 0.05, 0.95, 0.4), "phrase": "a (red:1.3) car", "seed": 7, "strict": True},
)
SCENE = {"caption": "on a beach", "regions": REGIONS, "seed": 3, "steps": 3}
TINY = {"caption": "a red cat", "negative": "dog", "seed": 1, "steps": 3, "guidance": 5.0}
BOX, LEFT = (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0)
METHODS = ("reco", "attention", "multidiffusion", "words", "caption")
SAMPLERS = ("ddim", "euler", "euler-ancestral", "heun", "dpmpp-2m")

Case = Callable[[Path], list[Image.Image]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Register a function under a name."""

    def register(function: Case) -> Case:
        CASES[name] = function
        return function

    return register


@cache
def builtin() -> cl.Model:
    """The built-in family."""
    return cl.load("builtin")


def generated(scene: dict[str, Any], model: cl.Model | None = None, **options: Any) -> list[Image.Image]:
    """The pictures of a scene."""
    return cl.generate(cl.Scene(**scene), model or builtin(), **options).images


def example(name: str, **changes: Any) -> cl.Scene:
    """A scene of the examples at a few steps."""
    return cl.Scene.load(EXAMPLES / f"{name}.json").replace(**{"steps": 3} | changes)


for _name in METHODS:
    CASES[f"builtin method {_name}"] = lambda folder, name=_name: generated(SCENE | {"method": name})
for _name in SAMPLERS:
    CASES[f"builtin sampler {_name}"] = lambda folder, name=_name: generated(SCENE | {"sampler": name})
for _changes in (
    {"overlap": "priority"},
    {"overlap": "union"},
    {"guidance_interval": (0.2, 0.7)},
    {"guidance_rescale": 0.5},
    {"negative": "a tree"},
    {"eta": 0.7, "sampler": "ddim"},
    {"width": 160, "height": 96},
    {"spacing": "karras"},
):
    CASES[f"builtin scene {_changes}"] = lambda folder, changes=_changes: generated(SCENE | changes)
for _name in ("mixed", "mixed-one", "castle", "concept"):
    CASES[f"builtin example {_name}"] = lambda folder, name=_name: cl.generate(example(name), builtin()).images
for _preset in ("mrgd", "follow", "official", "p2p", "multidiffusion"):
    CASES[f"builtin edit {_preset}"] = lambda folder, preset=_preset: _edited(example("edit-mixed"), preset)


def _edited(scene: cl.Scene, preset: str | None) -> list[Image.Image]:
    pair = cl.edit(scene, builtin(), preset=preset)
    return [pair.named["before"], pair.image]


@case("builtin edit of a generated picture")
def _edit_generated(folder: Path) -> list[Image.Image]:
    return _edited(example("edit-mixed", background=None), "follow")


@case("builtin several images")
def _several(folder: Path) -> list[Image.Image]:
    return generated(SCENE, num_images=2)


@case("builtin scheduled words")
def _scheduled(folder: Path) -> list[Image.Image]:
    region = {"name": "pet", "box": BOX, "phrase": "a [cat:dog:0.5]", "start": 0.1, "stop": 0.9, "feather": 0.1}
    return generated(SCENE | {"regions": [region], "caption": "in a (meadow:0.7)"})


@case("builtin fill")
def _fill(folder: Path) -> list[Image.Image]:
    return cl.inpaint(photo(0, 96), _hole(96), builtin(), phrase="a cat", steps=3, seed=2, feather=0.05).images


@case("builtin paint")
def _paint(folder: Path) -> list[Image.Image]:
    exemplar = EXAMPLES / "pumpkin.png"
    return cl.inpaint(photo(0, 96), _hole(96), builtin(), exemplar=exemplar, steps=3, seed=2).images


@case("builtin partial strength")
def _strength(folder: Path) -> list[Image.Image]:
    return generated({"caption": "on a beach", "background": photo(1, 128), "strength": 0.6, "steps": 4, "seed": 1})


@case("builtin translate fast")
def _translate(folder: Path) -> list[Image.Image]:
    return [
        cl.translate(
            EXAMPLES / "robot.png", EXAMPLES / "blueprint.png", builtin(), preset="fast", steps=3, seed=0
        ).image
    ]


@case("builtin translate learned")
def _learned(folder: Path) -> list[Image.Image]:
    return [
        cl.translate(
            EXAMPLES / "robot.png", EXAMPLES / "blueprint.png", builtin(), preset="vct", steps=3, seed=0, rounds=2
        ).image
    ]


def _hole(side: int) -> Image.Image:
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : side // 2, side // 3 :] = 255
    return Image.fromarray(mask)


def _regions(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "pet", "box": BOX, "phrase": "a cat", **changes}, {"name": "sky", "box": LEFT, "phrase": "stars"}]


@case("sd1 attention")
def _sd1(folder: Path) -> list[Image.Image]:
    model = cl.load(write_checkpoint(folder / "sd1"))
    return generated(TINY | {"regions": _regions(), "method": "attention"}, model)


@case("sd1 multidiffusion")
def _sd1_multi(folder: Path) -> list[Image.Image]:
    model = cl.load(write_checkpoint(folder / "sd1"))
    return generated(TINY | {"regions": _regions(), "method": "multidiffusion"}, model)


@case("sd1 lora by region")
def _sd1_lora(folder: Path) -> list[Image.Image]:
    base = write_checkpoint(folder / "sd1", unet=SD1)
    file = peft_file(folder / "ink.safetensors", lora_weights(base, text=False))
    model = cl.load(base, regional_lora={"ink": file})
    return generated(TINY | {"regions": _regions(lora={"ink": 0.7}), "method": "attention"}, model)


@case("sd1 lora fused")
def _sd1_fused(folder: Path) -> list[Image.Image]:
    base = write_checkpoint(folder / "sd1", unet=SD1)
    file = peft_file(folder / "ink.safetensors", lora_weights(base))
    return generated(TINY | {"method": "attention"}, cl.load(base, lora=(file, 0.7)))


@case("sd1 controlnet")
def _sd1_control(folder: Path) -> list[Image.Image]:
    base = write_checkpoint(folder / "sd1", unet=SD1)
    beside(base, 5).save_pretrained(folder / "canny")
    control = {"kind": "canny", "image": photo(), "strength": 0.7}
    model = cl.load(base, adapters={"canny": folder / "canny"})
    return generated(TINY | {"regions": _regions(control=control), "method": "attention"}, model)


@case("sd1 inpainting")
def _sd1_inpaint(folder: Path) -> list[Image.Image]:
    model = cl.load(write_checkpoint(folder / "inpaint", inpaint=True))
    return generated(TINY | {"background": photo(2, 64), "regions": _regions()[:1], "method": "attention"}, model)


@case("sd2 v-prediction")
def _sd2(folder: Path) -> list[Image.Image]:
    model = cl.load(write_checkpoint(folder / "sd2", scheduler={"prediction_type": "v_prediction"}))
    return generated(TINY | {"regions": _regions(), "method": "attention"}, model)


@case("xl attention")
def _xl(folder: Path) -> list[Image.Image]:
    model = cl.load(write_xl(folder / "xl", unet=MID))
    return generated(TINY | {"regions": _regions(), "method": "attention"}, model)


@case("xl inpainting")
def _xl_inpaint(folder: Path) -> list[Image.Image]:
    model = cl.load(write_xl(folder / "xl", inpaint=True))
    return generated(TINY | {"background": photo(2, 64), "regions": _regions()[:1], "method": "attention"}, model)


@case("paint by example alone")
def _pbe(folder: Path) -> list[Image.Image]:
    model = cl.load(write_exemplar(folder / "pbe"))
    region = {"name": "pet", "box": BOX, "exemplar": photo(3)}
    return generated({"background": photo(2, 64), "regions": [region], "seed": 1, "steps": 3}, model)


@case("paint by example beside sd1")
def _pbe_beside(folder: Path) -> list[Image.Image]:
    exemplar = write_exemplar(folder / "pbe")
    model = cl.load(write_checkpoint(folder / "sd1"), exemplar=exemplar)
    region = {"name": "pet", "box": BOX, "exemplar": photo(3)}
    return generated(TINY | {"regions": [region, _regions()[1]], "method": "attention"}, model)
