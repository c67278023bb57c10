"""A run writes to its ``Run`` alone: plans, networks and models are afterwards what they were."""

from functools import cached_property
from types import FunctionType, MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cloisonne.core.attention.token_maps import TokenMaps
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim
from cloisonne.core.schedule import Schedule
from cloisonne.methods.mrgd.method import AFTER, BEFORE
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import half_plan, joining
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAR = Region(name="car", box=(0.0, 0.0, 0.5, 0.6), edit={"kind": "change", "from": "red car", "to": "blue car"})
CAT = Region(name="cat", box=(0.5, 0.3, 1.0, 1.0), phrase="cat")
builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")


def snapshot(thing: Any, seen: set[int] | None = None) -> Any:
    """Everything reachable from a value, as values that compare: closures, hooks and versions of parameters too."""
    seen = set() if seen is None else seen
    if isinstance(thing, str | bytes | int | float | bool | None):
        return thing
    if isinstance(thing, Tensor):
        return tuple(thing.shape), thing.detach().cpu().numpy().tobytes()
    if id(thing) in seen:
        return "above"
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        return [_module(module) for module in thing.modules()]
    if isinstance(thing, dict):
        return [(repr(key) if isinstance(key, str) else id(key), snapshot(own, seen)) for key, own in thing.items()]
    if isinstance(thing, list | tuple | set | frozenset):
        return [snapshot(own, seen) for own in thing]
    if isinstance(thing, MethodType):
        return snapshot(thing.__self__, seen)
    if isinstance(thing, FunctionType):
        return [snapshot(cell.cell_contents, seen) for cell in thing.__closure__ or ()]
    if type(thing).__module__.startswith("cloisonne") and hasattr(thing, "__dict__"):
        lazy = {name for name, own in vars(type(thing)).items() if isinstance(own, cached_property)}
        return [(name, snapshot(own, seen)) for name, own in vars(thing).items() if name not in lazy]
    return type(thing).__name__


def _module(module: nn.Module) -> Any:
    hooks = [list(module._forward_hooks), list(module._forward_pre_hooks), module.training, sorted(module.__dict__)]
    return hooks, [(p._version, p.requires_grad, str(p.device), p.dtype) for p in module.parameters(recurse=False)]


def edit_plan(model: Model, preset: str) -> tuple[Plan, tuple[int, int]]:
    editing = editing_of(preset, {})
    pair = Pair.of(Scene(caption="on the beach", seed=3, steps=4, regions=(CAR, CAT)), model, "multidiffusion")
    both = half_plan(pair, pair.before, BEFORE, editing) + half_plan(pair, pair.after, AFTER, editing)
    return both + joining(pair, both, editing, None), pair.grid


def sampled(plan: Plan, model: Model, grid: tuple[int, int], run: Run, seed: int = 7) -> Tensor:
    schedule = model.schedule
    assert isinstance(schedule, Schedule)
    noise = Noise([Seed(seed)] * len(plan.streams), (model.vae.channels, *grid))
    return sample(plan, Ddim(), noise(), schedule.steps(4, ends_clean=False), noise=noise, run=run)


PRESETS = ["p2p", *(pytest.param(name, marks=builtin) for name in ("official", "mrgd"))]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_of_an_edit_writes_to_its_run_alone(tiny: Model, preset: str) -> None:
    model = tiny if preset == "p2p" else load("builtin")
    plan, grid = edit_plan(model, preset)
    if model.segmenter is not None:
        # It is read at the first request, and transformers puts its hooks on it at the first forward, behind a lock.
        model.segmenter().image_features(torch.zeros(1, 3, 32, 32))
    before = snapshot((plan, model))
    first, run = sampled(plan, model, grid, Run()), Run()
    assert snapshot((plan, model)) == before
    assert torch.equal(sampled(plan, model, grid, run), first)
    if preset == "official":
        merged = plan.in_scene("a") + plan.in_scene("b")
        own = sampled(merged, model, grid, Run())
        place = merged.streams.index
        for stream, canvas in zip(plan.streams, first, strict=True):
            assert torch.equal(own[place(f"a/{stream}")], canvas)
            assert torch.equal(own[place(f"b/{stream}")], canvas)


def test_a_run_that_reads_attention_writes_to_its_run_alone(tiny: Model) -> None:
    prepared = prepare(Scene(caption="on the beach", seed=3, steps=4, regions=(CAT,)), tiny)
    reader = TokenMaps(stream="image", words=(1, 2), grid=(4, 4))
    plan = prepared.plan + Plan(edits=(reader,))
    before = snapshot((plan, tiny))
    runs = {seed: Run() for seed in (7, 8)}
    for seed, run in runs.items():
        sampled(plan, tiny, prepared.grid, run, seed)
    again = Run()
    sampled(plan, tiny, prepared.grid, again)
    assert snapshot((plan, tiny)) == before
    first, other, same = (reader.mean(run) for run in (*runs.values(), again))
    assert first is not None
    assert other is not None
    assert same is not None
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_readings_of_several_images_are_in_the_result_s_run(tiny: Model) -> None:
    reader = TokenMaps(stream="image", words=(1, 2), grid=(4, 4))
    given = Scene(caption="on the beach", seed=3, steps=3, regions=(CAT,))
    several = generate(given, tiny, num_images=2, readers=(reader,))
    single = [generate(given, tiny, seed=seed, readers=(reader,)) for seed in (3, 4)]
    maps = [reader.mean(result.run) for result in (several, *single)]
    assert maps[0] is not None
    torch.testing.assert_close(maps[0], torch.stack([own for own in maps[1:] if own is not None]).mean(0))
    assert several.run.rows == several.report["rows"] == 2 * single[0].run.rows


def test_counts_of_a_part_belong_to_the_whole() -> None:
    whole = Run()
    part = whole.part()
    part.count(["", ""])
    assert (part.forwards, part.rows, whole.forwards, whole.rows) == (1, 2, 1, 2)
    assert part.maps is whole.maps
    assert part.state("key", list) is part.state("key", list)
    assert part.state("key", list) is not whole.state("key", list)


def test_a_merged_run_counts_the_rows_of_each_scene() -> None:
    scenes = {"a": Run(), "b": Run()}
    run = Run(scenes=scenes)
    run.count(["a", "b", "a"])
    run.count(["a"])
    assert (run.forwards, run.rows) == (2, 4)
    assert [(own.forwards, own.rows) for own in scenes.values()] == [(2, 3), (1, 1)]
