"""``hires``: the second pass is image-to-image of the enlarged first one, which it keeps, with the same regions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cloisonne.core.refines import Coarse
from cloisonne.core.run import Run
from cloisonne.errors import SceneError
from cloisonne.eval.judge import Judge
from cloisonne.eval.metrics.surplus import surplus
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.unet.denoiser import UNetDenoiser
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate, generate_many
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.pipelines.large.hires import Repaint
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.progress import Progress
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import resized
from cloisonne.studio.scenes import check_canvas
from cloisonne.studio.settings import Limits

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
MASKED = Region(name="mask", mask=np.pad(np.ones((32, 20), np.float32), ((16, 16), (40, 4))), phrase="a car")
SCENE = Scene(caption="on the beach", seed=3, steps=6, guidance=4.0, sampler="ddim", hires=2)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.9])
def test_the_second_pass_is_image_to_image(tiny: Model, strength: float) -> None:
    scene = SCENE.replace(hires={"scale": 2.0, "strength": strength})
    found = generate(scene, tiny)
    small = generate(SCENE.replace(hires=None), tiny).image
    assert np.array_equal(np.asarray(found.named["small"]), np.asarray(small))
    large = small.resize((128, 128), Image.Resampling.LANCZOS)
    if strength == 0:
        expected = tiny.vae.encode(as_tensor(np.asarray(large)))
    else:
        fields = {"background": large, "strength": strength, "width": 128, "height": 128, "hires": None}
        known = tiny.vae.encode(as_tensor(np.asarray(large)))[0]
        assert isinstance(tiny.net, UNetDenoiser)
        enlarged = replace(tiny, net=tiny.net.enlarged(2.0))
        expected = generate(SCENE.replace(**fields), enlarged, refines=(Coarse(known=known, grid=(8, 8)),)).latents
    # Image-to-image also pins the latents, with a mask of 1, which rounds.
    torch.testing.assert_close(found.latents, expected, atol=1e-5, rtol=0)
    assert found.image.size == (128, 128)


@pytest.mark.parametrize(
    ("size", "scale", "windows", "dilation"),
    [(64, 2.0, None, 2), (64, 1.25, None, 1), (64, 3.0, None, 3), (96, 2.0, None, 2), (64, 2, 0.5, 1)],
)
def test_the_network_is_dilated_by_the_scale_beyond_its_training(
    tiny: Model, size: int, scale: float, windows: float | None, dilation: int
) -> None:
    scene = SCENE.replace(width=size, height=size, hires=scale, windows=windows)
    first = prepare(scene.replace(hires=None, windows=None), tiny)
    views = Repaint.of(first.scene.replace(hires=scene.hires, windows=windows), tiny).prepared.compiled.plan.views
    assert {view.net.dilation for view in views if isinstance(view.net, UNetDenoiser)} == {dilation}
    assert {view.net for view in first.compiled.plan.views} == {tiny.net}


@pytest.mark.parametrize("grid", [(16, 16), (4, 6)])
def test_the_estimate_keeps_what_the_coarse_grid_shows(tiny: Model, grid: tuple[int, int]) -> None:
    known, other = torch.randn(2, 1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    step, held = prepare(SCENE.replace(hires=None), tiny).steps[0], Coarse(known=known[0], grid=grid)
    kept = held(other, other, step, Run())
    if grid == (16, 16):
        torch.testing.assert_close(kept, known)
    torch.testing.assert_close(held(known + 3, known, step, Run()), known)
    details = known - held(torch.zeros_like(known), known, step, Run())
    torch.testing.assert_close(kept - known, held(other - known, other, step, Run()) - (known - details))


@pytest.mark.slow
@pytest.mark.parametrize("windows", [None, 0.5])
def test_the_built_in_family_repeats_nothing(windows: float | None) -> None:
    scene = Scene.load("examples/beach.json")
    model, judge = load("builtin"), Judge.load(BUILTIN / "judge")
    boxes = [region.box for region in scene.regions if region.box is not None]
    image = generate(scene.replace(hires=2, windows=windows), model).image
    assert surplus(np.asarray(image), boxes, judge).whole == 0
    directly = generate(scene.replace(width=256, height=256), model).image
    assert surplus(np.asarray(directly), boxes, judge).whole > 1


@pytest.mark.parametrize("scale", [1.5, 2.0])
def test_its_regions_are_those_of_the_scene_enlarged(tiny: Model, scale: float) -> None:
    scene = SCENE.replace(regions=(CAT, MASKED), hires=scale)
    first = prepare(scene.replace(hires=None), tiny)
    second = Repaint.of(first.scene.replace(hires=scene.hires), tiny).prepared
    assert second.grid == tuple(round(side * scale) for side in first.grid)
    for small, large in zip(first.placed, second.placed, strict=True):
        assert small.region == large.region
        assert np.abs(resized(large.mask, *first.grid) - small.mask).mean() < 0.03


def test_images_counts_and_progress(tiny: Model, tmp_path: Path) -> None:
    scene, events = SCENE.replace(regions=(CAT,)), list[Progress]()
    found = generate(scene, tiny, num_images=2, on_step=events.append)
    alone = generate(scene, tiny, seed=4)
    assert np.array_equal(np.asarray(found.images[1]), np.asarray(alone.image))
    assert [output["seed"] for output in found.report["outputs"]] == [3, 4]
    assert [(e.image, e.step, e.total, e.num_images) for e in events] == [
        (image, step, 9, 2) for image in (0, 1) for step in range(1, 10)
    ]
    explained = explain(scene, tiny)
    assert (explained.steps, explained.forwards, explained.rows) == (9, 9, 18)
    assert (found.report["forwards"], found.report["rows"]) == (18, 36)
    assert "enlarged 2 times and repainted at strength 0.5" in str(explained)
    assert explained.flops > explain(scene.replace(hires=None), tiny).flops * 2
    found.save(tmp_path / "out")
    again = generate(Scene.load(tmp_path / "out/0000.png"), tiny)
    assert np.array_equal(np.asarray(again.image), np.asarray(found.image))
    several = generate_many([scene, scene.replace(hires=None)], tiny)
    assert [result.image.size for result in several] == [(128, 128), (64, 64)]


def test_speed_and_windows_apply_to_both_passes(tiny: Model) -> None:
    scene = SCENE.replace(regions=(CAT,), hires={"strength": 1.0})
    fast = generate(scene.replace(speed="fast"), tiny)
    assert fast.report["reused"] == explain(scene.replace(speed="fast"), tiny).reused > 0
    windowed = generate(scene.replace(windows=0.5), tiny, output_type="latent")
    assert windowed.report["rows"] == 6 * 2 + 6 * 2 * 9
    assert not windowed.images


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a background": ({"background": np.zeros((64, 64, 3), np.uint8)}, "background"),
    "a reduction": ({"hires": 0.5}, "scale"),
    "a word": ({"hires": "large"}, "hires"),
    "too strong": ({"hires": {"strength": 2}}, "strength"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_enlarge_is_refused(case: str) -> None:
    fields, named = REFUSED[case]
    with pytest.raises(SceneError, match=named):
        Scene(**{"caption": "a cat", "hires": 2} | fields)


def test_given_latents_are_refused(tiny: Model) -> None:
    with pytest.raises(SceneError, match="latents"):
        generate(SCENE, tiny, latents=torch.zeros(1, 4, 8, 8))


@pytest.mark.parametrize(("fields", "allowed"), [({"hires": 2.0}, True), ({"hires": 2.1}, False), ({}, True)])
def test_a_server_limits_the_enlarged_canvas(fields: dict[str, Any], allowed: bool) -> None:
    scene = Scene(caption="a cat", **fields)
    if allowed:
        check_canvas(scene, Limits())
        return
    with pytest.raises(SceneError, match="enlarged"):
        check_canvas(scene, Limits())
