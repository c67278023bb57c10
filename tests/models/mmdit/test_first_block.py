"""First-block caching: what is reused, of which row, when it is not, and diffusers' own as an oracle."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache
from joint_networks import NETWORKS, loaded
from reused import check_boundaries, noise, sampled
from torch import Tensor

from cloisonne.core.plan import Call, Net, Plan
from cloisonne.core.predict import predict
from cloisonne.core.run import EXACT, FAST, DeepFeatures, ReuseSchedule, Run
from cloisonne.models.checkpoints.copies import sharing_tensors
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat")
LATE = CAT.replace(start=0.4, stop=0.8)
SCENE = Scene(caption="on the beach", seed=3, steps=5, guidance=2.0, width=128, height=128, regions=(CAT,), isolate=0.0)
ALWAYS = ReuseSchedule(interval=100, change=math.inf)
"""Reuse wherever it is allowed."""


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loaded(NETWORKS[request.param].write(tmp_path_factory.mktemp("network")))


@pytest.mark.parametrize("change", [0.0, 0.1, math.inf])
def test_zero_is_exact_and_infinity_reuses_all_that_may_be(model: Model, change: float) -> None:
    exact, _ = sampled(SCENE, model, EXACT)
    found, run = sampled(SCENE, model, ReuseSchedule(interval=100, change=change))
    assert run.forwards == 5
    assert torch.equal(found, exact) == (run.reused == 0)
    assert run.reused == {0.0: 0, math.inf: 4}.get(change, run.reused)


@torch.no_grad()
def test_a_copy_of_a_network_runs_its_own_blocks(model: Model) -> None:
    """Whose blocks are wrapped again: of a copy with another parameter in its last block, the image is another one."""
    net: Any = model.net
    copy = type(net)(sharing_tensors(net.module), net.spec)
    prepared = prepare(SCENE, model)
    plan, step, z = prepared.plan, prepared.steps[1], noise(prepared, model)
    copied = replace(plan, views=tuple(replace(view, net=copy) for view in plan.views))
    before = predict(plan, z, step)
    assert torch.equal(predict(copied, z, step), before)
    block = copy.module.get_submodule(copy.block_names()[-1])
    layer = next(own for own in block.modules() if isinstance(own, torch.nn.Linear))
    layer.weight = torch.nn.Parameter(layer.weight + 1, requires_grad=False)
    assert torch.equal(predict(plan, z, step), before)
    assert not torch.equal(predict(copied, z, step), before)


class Recorder:
    """A network that keeps its calls."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.calls: list[Call] = []

    def __call__(self, call: Call) -> Tensor:
        self.calls.append(call)
        return self.net(call)


@torch.no_grad()
def test_each_row_reuses_its_own_features(model: Model) -> None:
    prepared, recorder = prepare(SCENE, model), Recorder(model.net)
    plan = Plan(views=tuple(replace(view, net=recorder) for view in prepared.compiled.plan.views))
    predict(plan, noise(prepared, model), prepared.steps[0])
    (call,) = recorder.calls
    deep = DeepFeatures(change=math.inf)
    exact = model.net(call)
    assert torch.equal(model.net(replace(call, deep=deep)), exact)
    assert (sorted(deep.rows), deep.reused) == ([0, 1], False)
    again = model.net(replace(call, deep=deep))
    torch.testing.assert_close(again, exact, atol=1e-4, rtol=1e-4)
    assert deep.reused
    deep.rows[0] = replace(deep.rows[0], others=deep.rows[0].others.flip(1))
    changed = model.net(replace(call, deep=deep))
    assert not torch.allclose(changed[0], exact[0], atol=1e-3)
    assert torch.equal(changed[1], again[1])


@torch.no_grad()
def test_the_row_whose_first_block_changed_is_computed(model: Model) -> None:
    prepared, recorder = prepare(SCENE, model), Recorder(model.net)
    plan = Plan(views=tuple(replace(view, net=recorder) for view in prepared.compiled.plan.views))
    predict(plan, noise(prepared, model), prepared.steps[0])
    call, deep = recorder.calls[0], DeepFeatures(change=0.5)
    exact = model.net(replace(call, deep=deep))
    first = deep.rows[0]
    deep.rows[0] = replace(first, first=first.first * 3, others=first.others.flip(1))
    deep.rows[1] = replace(deep.rows[1], first=deep.rows[1].first * 1.4, others=deep.rows[1].others.flip(1))
    deep.uses = 1
    found = model.net(replace(call, deep=deep))
    assert torch.equal(found[0], exact[0])
    assert not torch.allclose(found[1], exact[1], atol=1e-3)
    assert torch.equal(deep.rows[0].others, first.others)
    assert (deep.reused, deep.uses) == (False, 1)


CHANGES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "a region": ({"regions": (LATE,)}, (2, 4)),
    "a phrase": ({"regions": (CAT.replace(phrase="[a cat:a dog:0.4]"),)}, (2,)),
    "guidance": ({"guidance_interval": (0.4, 0.8)}, (2, 4)),
    "isolation": ({"isolate": 0.4}, (2,)),
    "views": ({"regions": (LATE,), "method": "multidiffusion"}, (2, 4)),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_nothing_is_served_across_a_change_of_the_conditioning(model: Model, change: str) -> None:
    fields, boundaries = CHANGES[change]
    check_boundaries(SCENE.replace(**fields), model, ALWAYS, boundaries)


def test_fast_is_said_to_reuse_at_most_what_its_schedule_allows(model: Model) -> None:
    fast, exact = (explain(SCENE.replace(speed=speed), model) for speed in ("fast", "exact"))
    assert f"at most {fast.reused} of them reuse deep features" in str(fast)
    assert (fast.flops, exact.reused) == (exact.flops, 0)
    report = generate(SCENE.replace(speed="fast"), model, output_type="latent").report
    assert report["reused"] <= fast.reused
    assert not [text for text in report["warnings"] if "every step is exact" in text]
    _, run = sampled(SCENE, model, replace(FAST, change=math.inf))
    assert run.reused == fast.reused


@pytest.mark.parametrize("change", [0.2, 0.6])
@torch.no_grad()
def test_without_regions_it_is_diffusers_first_block_cache(tmp_path: Path, change: float) -> None:
    folder = NETWORKS["flux"].write(tmp_path / "flux")
    ours, theirs = loaded(folder), loaded(folder)
    module: Any = theirs.net.modules[0]
    apply_first_block_cache(module, FirstBlockCacheConfig(threshold=change))
    scene = SCENE.replace(steps=10, regions=(), guidance=1.0, method=None)
    prepared = prepare(scene, ours)
    run, z = Run(reuse=ReuseSchedule(interval=100, change=change)), noise(prepared, ours)
    for step in prepared.steps:
        with module.cache_context("row"):
            expected = predict(prepare(scene, theirs).plan, z, step)
        found = predict(prepared.plan, z, step, run)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        z = 0.7 * z + 0.3 * found
    assert 0 < run.reused < 10
