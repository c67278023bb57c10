"""``speed: fast``: what is reused, when it is not, and that nothing else changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from controlled import scene_of, wall, write_controlled
from diffusers import T2IAdapter
from reused import check_boundaries, noise, sampled
from torch import Tensor

from cloisonne.core.plan import Call, Net, Plan
from cloisonne.core.predict import predict
from cloisonne.core.run import EXACT, FAST, SCHEDULES, DeepFeatures, FeatureCaches, ReuseSchedule
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
LATE = CAT.replace(start=0.4, stop=0.8)
SCENE = Scene(caption="on the beach", seed=3, steps=10, guidance=4.0, sampler="ddim", regions=(CAT,))
EVERY = ReuseSchedule(interval=100)
"""Reuse wherever it is allowed."""


@pytest.mark.parametrize("reuse", [EXACT, ReuseSchedule(interval=1), ReuseSchedule(interval=4, whole=1.0)])
@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_an_interval_of_one_and_whole_steps_are_exact(tiny: Model, reuse: ReuseSchedule, sampler: Any) -> None:
    scene = SCENE.replace(sampler=sampler)
    exact, _ = sampled(scene, tiny, EXACT)
    found, run = sampled(scene, tiny, reuse)
    assert torch.equal(found, exact)
    assert run.reused == 0


@pytest.mark.parametrize(("interval", "whole", "reused"), [(2, 0.0, 5), (3, 0.0, 6), (3, 0.2, 6), (5, 0.5, 4)])
def test_so_many_forwards_reuse(tiny: Model, interval: int, whole: float, reused: int) -> None:
    found, run = sampled(SCENE, tiny, ReuseSchedule(interval=interval, whole=whole))
    assert (run.forwards, run.reused) == (10, reused)
    assert not torch.equal(found, sampled(SCENE, tiny, EXACT)[0])


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_controlled(tmp_path_factory.mktemp("controlled"))
    torch.manual_seed(8)
    adapter = T2IAdapter(channels=[8, 16], num_res_blocks=1, downscale_factor=8, adapter_type="full_adapter")
    adapter.save_pretrained(root / "adapter")
    return root


class Recorder:
    """A network that keeps its calls."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Tensor:
        self.calls.append(call)
        return self.net(call)


def calls_of(scene: Scene, model: Model) -> list[Call]:
    """The calls of the first step."""
    prepared = prepare(scene, model)
    recorder = Recorder(model.net)
    plan = Plan(views=tuple(replace(view, net=recorder) for view in prepared.compiled.plan.views))
    with torch.no_grad():
        predict(plan, noise(prepared, model), prepared.steps[0])
    return recorder.calls


CASES = ["plain", "controlnet", "t2i-adapter", "xl", "xl controlnet", "odd size", "multidiffusion"]


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_reuse_at_the_same_input_is_the_whole_network(controlled: Path, case: str) -> None:
    base = "xl" if case.startswith("xl") else "sd1"
    adapters = {"controlnet": f"{base}-canny", "xl controlnet": "xl-canny", "t2i-adapter": "adapter"}
    given = {"adapters": {"canny": controlled / adapters[case]}} if case in adapters else {}
    model = load(controlled / base, **given)
    scene = scene_of(wall(phrase="a cat") if given else CAT, steps=4)
    if case == "odd size":
        scene = scene.replace(width=72, height=88)
    if case == "multidiffusion":
        scene = scene.replace(method="multidiffusion")
    for call in calls_of(scene, model):
        deep = DeepFeatures()
        exact = model.net(call)
        assert torch.equal(model.net(replace(call, deep=deep)), exact)
        assert deep.value is not None
        assert torch.equal(model.net(replace(call, deep=deep)), exact)
        deep.value = deep.value + 1
        assert not torch.allclose(model.net(replace(call, deep=deep)), exact, atol=1e-4)


CHANGES = {
    "a region": ({"regions": (LATE,)}, (4, 8)),
    "a phrase": ({"regions": (CAT.replace(phrase="[a cat:a dog:0.5]"),)}, (5,)),
    "guidance": ({"guidance_interval": (0.3, 0.6)}, (3, 6)),
    "views": ({"regions": (LATE,), "method": "multidiffusion"}, (4, 8)),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_nothing_is_served_across_a_change_of_the_conditioning(tiny: Model, change: str) -> None:
    fields, boundaries = CHANGES[change]
    check_boundaries(SCENE.replace(**fields), tiny, EVERY, boundaries)


@torch.no_grad()
def test_features_are_of_their_conditioning_and_run(tiny: Model) -> None:
    caches, a, b = FeatureCaches(), object(), object()
    steps = prepare(SCENE, tiny).steps
    first = caches.of("rows", (a,), EVERY, steps[0])
    assert first is not None
    first.value = torch.zeros(1)
    assert caches.of("rows", (a,), EVERY, steps[1]) is first
    assert FeatureCaches().of("rows", (a,), EVERY, steps[1]) is not first
    for key, inputs in (("other rows", (a,)), ("rows", (b,)), ("rows", (a, a)), ("rows", ())):
        other = FeatureCaches({"rows": ((a,), first)}).of(key, inputs, EVERY, steps[1])
        assert other is not None
        assert other.value is None
    assert caches.of("rows", (a,), EVERY, steps[3]) is not first


@pytest.mark.parametrize("changes", [{}, {"sampler": "heun"}, {"regions": (LATE,)}, {"guidance_interval": (0.2, 0.6)}])
def test_explain_counts_what_a_run_reuses(tiny: Model, changes: dict[str, Any]) -> None:
    scene = SCENE.replace(speed="fast", **changes)
    explained, report = explain(scene, tiny), generate(scene, tiny, output_type="latent").report
    assert report["reused"] > 0
    assert (explained.forwards, explained.reused) == (report["forwards"], report["reused"])
    assert f"{explained.reused} of them reuse deep features" in str(explained)
    assert explained.flops < explain(scene.replace(speed="exact"), tiny).flops


def test_a_second_call_has_the_same_bytes_and_exact_is_the_default(tiny: Model) -> None:
    fast = [generate(SCENE.replace(speed="fast"), tiny, output_type="latent").latents for _ in range(2)]
    exact = generate(SCENE, tiny, output_type="latent")
    assert torch.equal(*fast)
    assert not torch.equal(fast[0], exact.latents)
    assert exact.report["reused"] == 0
    assert SCENE.speed == "exact"
    assert "speed" not in SCENE.to_dict()
    assert SCHEDULES == {"exact": EXACT, "fast": FAST}


def test_reading_attention_is_exact_and_a_warning_tells_it(tiny: Model) -> None:
    exact = generate(SCENE, tiny, attention=True)
    fast = generate(SCENE.replace(speed="fast"), tiny, attention=True)
    assert torch.equal(exact.latents, fast.latents)
    assert [text for text in fast.warnings if "every step is exact" in text]
    assert fast.report["reused"] == 0
