"""What holds for scenes of all kinds of conditions, on the built-in family."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


EDGES = {"kind": "canny", "image": Image.fromarray(np.eye(128, dtype=np.uint8) * 255)}
CAT = Region(name="cat", ellipse=(0.0, 0.0, 0.5, 0.5), phrase="a cat", feather=0.2, guidance=4.0)
SHOWN = Region(name="shown", box=(0.5, 0.1, 1.0, 0.6), exemplar=picture(1), seed=7, similarity=3.0)
DRAWN = Region(name="drawn", box=(0.1, 0.5, 0.6, 1.0), control=EDGES, weight=0.7, stop=0.8)
ALL = Region(name="all", box=(0.6, 0.6, 1.0, 1.0), phrase="a car", exemplar=picture(2), control=EDGES, start=0.3)
REGIONS = (CAT, SHOWN, DRAWN, ALL)
SCENE = Scene(caption="in a meadow", seed=3, steps=3, regions=REGIONS)


@pytest.fixture(scope="module")
def builtin() -> Model:
    return load("builtin")


def drawn(model: Model, scene: Scene) -> Tensor:
    latents = generate(scene, model, output_type="latent").latents
    assert latents is not None
    return latents


@pytest.mark.parametrize("overlap", ["blend", "priority"])
@pytest.mark.parametrize("background", [None, picture(3)])
def test_order_of_regions_changes_nothing(builtin: Model, overlap: Any, background: Image.Image | None) -> None:
    scene = SCENE.replace(overlap=overlap, background=background)
    assert torch.equal(drawn(builtin, scene.replace(regions=REGIONS[::-1])), drawn(builtin, scene))


@pytest.mark.parametrize("name", [region.name for region in REGIONS])
def test_weight_0_is_absent(builtin: Model, name: str) -> None:
    control_only = [region.replace(weight=0.0) if region.name == name else region for region in REGIONS]
    without = [region for region in REGIONS if region.name != name]
    assert torch.equal(
        drawn(builtin, SCENE.replace(regions=control_only)), drawn(builtin, SCENE.replace(regions=without))
    )


def test_each_network_is_asked_once_a_step_whatever_the_number_of_regions(builtin: Model) -> None:
    few = generate(SCENE, builtin, output_type="latent").report
    more = tuple(region.replace(name=f"{region.name} again") for region in REGIONS)
    many = generate(SCENE.replace(regions=(*REGIONS, *more)), builtin, output_type="latent").report
    assert (few["forwards"], few["rows"]) == (2 * 3, 4 * 3)
    assert (many["forwards"], many["rows"]) == (few["forwards"], few["rows"])


def test_merged_scenes_are_separate_scenes(builtin: Model) -> None:
    """Each exemplar is painted into what the words of its own scene estimate."""
    scenes = [prepare(SCENE, builtin), prepare(SCENE.replace(caption="on a beach", regions=(SHOWN, CAT)), builtin)]
    z = torch.randn(2, builtin.vae.channels, *scenes[0].grid, generator=torch.Generator().manual_seed(0))
    step = scenes[0].steps[1]

    def plan(prepared: Prepared) -> Plan:
        return Plan(views=prepared.compiled.plan.views)

    merged = sum((plan(one).in_scene(str(k)) for k, one in enumerate(scenes)), Plan())
    both, run = predict(merged, z, step), Run()
    for k, one in enumerate(scenes):
        alone = predict(plan(one), z[k : k + 1], step, run)
        torch.testing.assert_close(both[k : k + 1], alone, atol=1e-5, rtol=0)
    assert run.forwards == 4


def test_edits_stand_beside_every_kind(builtin: Model) -> None:
    hat = Region(name="hat", box=(0.55, 0.55, 0.95, 0.95), edit={"kind": "add", "phrase": "a crown"})
    made = edit(SCENE.replace(regions=(hat, SHOWN, DRAWN, CAT)), builtin, preset="follow")
    before, after = (np.asarray(image.convert("RGB")).astype(int) for image in (made.named["before"], made.image))
    changed = np.abs(before - after).max(2)
    assert changed[74:118, 74:118].any()
    assert not changed[:64].any(), "the rest is the picture before"
    plain = edit(SCENE.replace(regions=(hat, DRAWN, CAT)), builtin, preset="follow")
    assert (np.asarray(plain.named["before"].convert("RGB")) != before).any()


def test_a_scene_edits_or_translates(builtin: Model) -> None:
    hat = Region(name="hat", box=(0.5, 0.5, 0.9, 0.9), edit={"kind": "add", "phrase": "a crown"})
    look = Region(name="look", box=(0.0, 0.0, 0.5, 0.5), concept={"image": picture(5)})
    with pytest.raises(SceneError, match=r"look.*hat|hat.*look"):
        generate(SCENE.replace(background=picture(3), regions=(hat, look)), builtin)
