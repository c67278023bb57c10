"""What holds for every method, on a tiny random network."""

import itertools
from typing import Any

import pytest
import torch
from methods_of import OF_UNETS
from torch import Tensor

from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", ellipse=(0.1, 0.1, 0.6, 0.7), phrase="a cat", negative="dog", guidance=7.0, feather=0.2)
CAR = Region(name="car", box=(0.4, 0.3, 1.0, 0.9), phrase="a red car", weight=2.0, seed=11, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", strict=True, stop=0.7)
SCENE = Scene(caption="on the beach", negative="blue", seed=3, regions=(CAT, CAR, SKY))


def drawn(model: Model, scene: Scene, **options: Any) -> Tensor:
    return generate(scene, model, output_type="latent", **options).latents


@pytest.mark.parametrize("overlap", ["blend", "priority", "union"])
@pytest.mark.parametrize("method", OF_UNETS)
def test_order_of_regions_changes_nothing(tiny: Model, method: str, overlap: str) -> None:
    scene = SCENE.replace(method=method, overlap=overlap)
    first, *others = (
        drawn(tiny, scene.replace(regions=order)) for order in list(itertools.permutations(scene.regions))[::2]
    )
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}])
@pytest.mark.parametrize("method", OF_UNETS)
def test_weight_0_or_an_empty_interval_is_absent(tiny: Model, method: str, absent: dict[str, float]) -> None:
    scene = SCENE.replace(method=method)
    without = drawn(tiny, scene.replace(regions=(CAT, SKY)))
    assert torch.equal(drawn(tiny, scene.replace(regions=(CAT, CAR.replace(**absent), SKY))), without)
    assert not torch.equal(drawn(tiny, scene), without)


@pytest.mark.parametrize("method", ["attention", "multidiffusion"])
def test_full_canvas_region_is_the_plain_prompt(tiny: Model, method: str) -> None:
    region = Region(box=(0.0, 0.0, 1.0, 1.0), phrase="a red car on the beach", negative="dog", guidance=3.0)
    scene = Scene(seed=3, method=method, regions=(region,))
    plain = Scene(seed=3, method="caption", caption="a red car on the beach", negative="dog", guidance=3.0)
    torch.testing.assert_close(drawn(tiny, scene), drawn(tiny, plain), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", OF_UNETS)
def test_without_regions_all_methods_are_the_plain_prompt(tiny: Model, method: str) -> None:
    scene = Scene(seed=3, caption="a red car", negative="dog")
    assert torch.equal(drawn(tiny, scene.replace(method=method)), drawn(tiny, scene.replace(method="caption")))


@pytest.mark.parametrize("method", OF_UNETS)
def test_intervals_are_those_of_the_walk(tiny: Model, method: str) -> None:
    """A region of the whole walk in two parts is that region; half of it is not."""
    region = Region(name="pet", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", negative="dog")
    scene = SCENE.replace(method=method, steps=4)
    whole = drawn(tiny, scene.replace(regions=(region,)))
    halves = (region.replace(name="a", stop=0.5), region.replace(name="b", start=0.5))
    torch.testing.assert_close(drawn(tiny, scene.replace(regions=halves)), whole, atol=1e-5, rtol=0)
    half = drawn(tiny, scene.replace(regions=halves[:1]))
    assert torch.equal(half, whole) == (method == "caption")


@pytest.mark.parametrize("method", OF_UNETS)
def test_rows_do_not_depend_on_the_number_of_regions(tiny: Model, method: str) -> None:
    """But for MultiDiffusion, whose cost they are."""
    for count in (0, 1, 3):
        regions = (CAT, CAR, SKY.replace(stop=1.0))[:count]
        scene = SCENE.replace(method=method, regions=regions, steps=2)
        rows = generate(scene, tiny, output_type="latent").report["rows"]
        assert rows == 2 * (2 + 2 * count if method == "multidiffusion" else 2)


@pytest.mark.parametrize("method", OF_UNETS)
def test_seed_of_a_region_is_its_own_noise_inside_its_mask(tiny: Model, method: str) -> None:
    left = Region(name="a", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", seed=5)
    base = SCENE.replace(method=method, steps=1, regions=(left,))
    ((seed, mask),) = prepare(base, tiny).compiled.seeds
    assert seed == 5
    assert torch.equal(mask, torch.cat([torch.ones(8, 4), torch.zeros(8, 4)], dim=1))
    other = base.replace(regions=(left.replace(seed=6),))
    noises = [start_of(tiny, scene) for scene in (base, other, base.replace(seed=4))]
    assert torch.equal(noises[0][..., 4:], noises[1][..., 4:])
    assert not torch.equal(noises[0][..., :4], noises[1][..., :4])
    assert torch.equal(noises[0][..., :4], noises[2][..., :4])
    assert not torch.equal(noises[0][..., 4:], noises[2][..., 4:])


def start_of(model: Model, scene: Scene) -> Tensor:
    """The noise that a walk starts from, read off its first step: z = alpha * x0 + s * n."""
    starts = []

    steps = prepare(scene, model, blank=True).steps

    def watch(event: Any) -> None:
        step = steps[event.step - 1]
        n = (event.latents - step.alpha_next * event.x0) / step.s_next
        starts.append(step.alpha * event.x0 + step.s * n)

    generate(scene, model, output_type="latent", on_step=watch)
    return starts[0].mul(1e4).round()


@pytest.mark.parametrize("method", OF_UNETS)
def test_each_picture_of_a_run_is_the_one_of_its_seed(tiny: Model, method: str) -> None:
    scene = SCENE.replace(method=method)
    three = drawn(tiny, scene, num_images=3)
    assert three.shape == (3, 4, 8, 8)
    for index in range(3):
        assert torch.equal(three[index], drawn(tiny, scene, seed=3 + index)[0])
