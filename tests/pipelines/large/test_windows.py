"""``windows``: windows cover the canvas, each is a scene of its own, and their estimates are averaged."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from cloisonne.core.plan import Box
from cloisonne.core.predict import predict
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.large.windows import FAINT, windows_of
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT = Region(name="left", box=(0.02, 0.1, 0.2, 0.9), phrase="a cat")
RIGHT = Region(name="right", box=(0.7, 0.1, 0.95, 0.9), phrase="a car")
SCENE = Scene(caption="on the beach", seed=3, steps=3, guidance=4.0, sampler="ddim", method="attention", windows=0.5)


@pytest.mark.parametrize("grid", [(8, 8), (8, 24), (20, 9), (33, 17)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_the_canvas_and_overlap(grid: tuple[int, int], overlap: float) -> None:
    size = (8, 8)
    boxes = windows_of(grid, size, overlap)
    covered = torch.zeros(grid)
    for box in boxes:
        assert (box.bottom - box.top, box.right - box.left) == size
        covered[box.window] += 1
    assert covered.min() >= 1
    for sides in ([box.left for box in boxes], [box.top for box in boxes]):
        places = sorted(set(sides))
        assert all(b - a <= max(8 * (1 - overlap), 1) + 0.5 for a, b in pairwise(places))


def test_a_canvas_of_one_window_is_the_scene_itself(tiny: Model) -> None:
    scene = SCENE.replace(regions=(LEFT,))
    assert torch.equal(generate(scene, tiny).latents, generate(scene.replace(windows=None), tiny).latents)


@torch.no_grad()
def test_the_estimate_is_the_mean_of_the_windows_own(tiny: Model) -> None:
    scene = SCENE.replace(width=128, height=96)
    prepared = prepare(scene, tiny)
    z = torch.randn(1, tiny.vae.channels, *prepared.grid, generator=torch.Generator().manual_seed(0))
    step = prepared.steps[1]
    total, weight = torch.zeros_like(z), torch.zeros(prepared.grid)
    alone = prepare(scene.replace(width=None, height=None, windows=None), tiny)
    for top, left in product(range(0, 5, 4), range(0, 9, 4)):
        box = Box(top, left, top + 8, left + 8)
        own = predict(alone.plan, z[..., *box.window], step)
        fading = 1 - (2 * (torch.arange(8) + 0.5) / 8 - 1).abs()
        total[..., *box.window] += own * fading[:, None] * fading
        weight[box.window] += fading[:, None] * fading
    found = predict(prepared.plan, z, step)
    torch.testing.assert_close(found, total / weight, atol=1e-4, rtol=0)


def regions_by_window(scene: Scene, model: Model) -> dict[int, set[str | None]]:
    """Names of the regions that condition each window, by its left edge."""
    found = {}
    for view in prepare(scene, model).compiled.plan.views:
        assert view.box is not None
        branch = view.branches["cond"]
        assert not callable(branch)
        found[view.box.left] = {piece.region for piece in branch.tokens if piece.region}
    return found


def test_a_window_has_the_regions_that_lie_in_it(tiny: Model) -> None:
    scene = SCENE.replace(width=256, height=64, regions=(LEFT, RIGHT))
    by_window = regions_by_window(scene, tiny)
    assert sorted(by_window) == [0, 4, 8, 12, 16, 20, 24]
    inside = {0: {"left"}, 20: {"right"}, 24: {"right"}}
    assert by_window == {left: inside.get(left, set()) for left in by_window}


def test_a_window_hardly_counts_where_it_cuts_off_a_region_that_another_one_shows(tiny: Model) -> None:
    region = Region(name="pet", box=(0.35, 0.1, 0.6, 0.9), phrase="a cat")
    scene = SCENE.replace(width=128, height=64)
    assert regions_by_window(scene.replace(regions=(region,)), tiny) == {0: set(), 4: {"pet"}, 8: set()}
    plain, found = (prepare(one, tiny).compiled.plan.views for one in (scene, scene.replace(regions=(region,))))
    mask = torch.zeros(8, 16)
    mask[1:7, 6:9] = 1
    for without, view in zip(plain, found, strict=True):
        assert view.box is not None
        counts, inside = view.weight / without.weight, mask[:, view.box.left : view.box.right] > 0
        assert bool(inside.any())
        assert torch.allclose(counts[inside], torch.tensor(1.0 if view.box.left == 4 else FAINT), rtol=0.01)
        assert bool((counts[:, 3] == 1).all())


def test_all_windows_are_one_batch_and_explain_counts_it(tiny: Model) -> None:
    scene = SCENE.replace(width=128, height=128, regions=(LEFT.replace(seed=9),))
    result, explained = generate(scene, tiny), explain(scene, tiny)
    assert (result.report["forwards"], result.report["rows"]) == (3, 3 * 9 * 2)
    assert (explained.forwards, explained.rows) == (3, 54)
    assert result.image.size == (128, 128)
    assert not result.warnings
    plain: Tensor = generate(scene.replace(regions=(LEFT,)), tiny).latents
    assert not torch.equal(result.latents, plain)
