"""Every verb on every published configuration: it works, or a sentence names the family that cannot."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from controlled import beside
from PIL import Image
from published import PUBLISHED, write_published

from cloisonne.errors import CapabilityError
from cloisonne.methods.vct import PRESETS
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.sweep import sweep
from cloisonne.pipelines.translation.translate import translate
from cloisonne.scene.inpainting import inpaint_scene
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT = (0.0, 0.0, 0.5, 1.0)
SCENE = Scene(caption="the beach", seed=1, steps=2, regions=(Region(name="pet", box=LEFT, phrase="a cat"),))
EDIT = Region(name="pet", box=LEFT, edit={"kind": "change", "from": "a cat", "to": "a dog"})
FEW: dict[str, Any] = {"steps": 2, "rounds": 2, "batch": 1}


def photo(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def mask() -> Image.Image:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[16:48, 16:48] = 255
    return Image.fromarray(pixels)


def control(model: Model) -> Any:
    region = Region(name="edges", box=LEFT, phrase="a cat", control={"kind": "canny", "image": photo(2)})
    return generate(SCENE.replace(regions=(region,)), model)


VERBS: dict[str, Callable[[Model], Any]] = {
    "generate": lambda model: generate(SCENE, model),
    "generate over a background": lambda model: generate(
        Scene(caption="the beach", background=photo(), strength=0.6, seed=1, steps=4), model
    ),
    "regions in a background": lambda model: generate(SCENE.replace(background=photo()), model),
    "fill": lambda model: generate(inpaint_scene(photo(), mask(), phrase="a cat", steps=2, seed=0), model),
    "paint": lambda model: generate(inpaint_scene(photo(), mask(), exemplar=photo(1), steps=2, seed=0), model),
    "edit": lambda model: edit(SCENE.replace(regions=(EDIT,)), model),
    "edit a background": lambda model: edit(SCENE.replace(regions=(EDIT,), background=photo()), model),
    **{
        f"translate by {preset}": lambda model, preset=preset: translate(
            photo(), photo(1), model, preset=preset, **({"steps": 2} if preset == "fast" else FEW)
        )
        for preset in PRESETS
    },
    "edit a background by pndm": lambda model: edit(
        SCENE.replace(regions=(EDIT,), background=photo(), sampler="pndm", steps=4), model
    ),
    "explain": lambda model: explain(SCENE.replace(steps=None), model),
    "sweep": lambda model: sweep(SCENE, model, "guidance", [1.0, 4.0]),
    "control": control,
}
EXEMPLARS_ONLY = {"paint"}
NOT = {
    "paint": lambda name: name != "paint by example",
    "translate by fast": lambda name: True,
    "translate by flow": lambda name: True,
    **{
        f"translate by {preset}": lambda name: "xl" in name or "inpainting" in name
        for preset in PRESETS
        if preset not in ("fast", "flow")
    },
}
"""What a family cannot do, by verb; one that takes no text can only do ``EXEMPLARS_ONLY``."""


def refused(verb: str, name: str) -> bool:
    if name == "paint by example":
        return verb not in EXEMPLARS_ONLY
    return verb in NOT and NOT[verb](name)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a published configuration, written at its first use."""
    root, made = tmp_path_factory.mktemp("published"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = write_published(root / name, name)
        return made[name]

    return folder


@pytest.fixture(scope="module")
def model_of(folder_of: Callable[[str], Path]) -> Callable[[str], Model]:
    """The model of a published configuration, with a ControlNet unless it takes only exemplars."""
    made: dict[str, Model] = {}

    def model(name: str) -> Model:
        if name not in made:
            folder = folder_of(name)
            nets = {}
            if name != "paint by example":
                beside(folder, 1).save_pretrained(folder.parent / f"{name} canny")
                nets = {"canny": folder.parent / f"{name} canny"}
            made[name] = load(folder, adapters=nets)
        return made[name]

    return model


def check(verb: str, name: str, model: Model) -> None:
    if refused(verb, name):
        with pytest.raises(CapabilityError, match=FAMILIES[model.family].title):
            VERBS[verb](model)
        return
    made = VERBS[verb](model)
    results = made if isinstance(made, list) else [getattr(made, "result", made)]
    for latents in [result.latents for result in results if hasattr(result, "latents")]:
        assert torch.isfinite(latents).all()


SAMPLE = [
    ("translate by vct", "sd 1.5"),
    ("translate by learned", "sd 2.1"),
    ("translate by vct-code", "sdxl"),
    ("generate", "sd 1.4"),
    ("edit a background", "sd 1.5"),
    ("fill", "sd 1.5 inpainting"),
    ("control", "sd 2.1"),
    ("regions in a background", "sdxl"),
    ("paint", "paint by example"),
    ("edit", "paint by example"),
]


@pytest.mark.parametrize(("verb", "name"), SAMPLE)
def test_sample_of_verbs(model_of: Callable[[str], Model], verb: str, name: str) -> None:
    check(verb, name, model_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_verb(model_of: Callable[[str], Model], verb: str, name: str) -> None:
    check(verb, name, model_of(name))
