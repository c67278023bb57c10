"""Pooled text and size: rows of Stable Diffusion XL have those of what they sum up, networks have what they take."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.methods.baselines import scene_in_words
from cloisonne.methods.reco import cleaned
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import written
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

NONE = LearnedWords({})
CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.7), phrase="a cat")
CAR = Region(name="car", box=(0.4, 0.3, 1.0, 0.9), phrase="a red car", negative="dog")
SCENE = Scene(caption="on the beach", negative="blue", seed=3, steps=2, regions=(CAT, CAR))
IN_WORDS = written(cleaned(scene_in_words("on the beach", [(r.box, r.phrase) for r in (CAR, CAT) if r.box]), NONE))


@pytest.fixture(scope="module")
def xl(tiny_xl: Path) -> Model:
    return load(tiny_xl)


def pooled(model: Model, text: str) -> Tensor:
    encoder: Any = model.text
    return encoder.encode_ids(encoder.padded_ids(text)).pooled


def found(plan: Plan, view: str, branch: str) -> Any:
    return next(v.branches[branch] for v in plan.views if v.name == view)


@pytest.mark.parametrize(
    ("method", "view", "cond", "null"),
    [
        ("caption", "canvas", "on the beach", "blue"),
        ("attention", "canvas", "on the beach", "blue"),
        ("words", "canvas", IN_WORDS, "blue"),
        ("multidiffusion", "canvas", "on the beach", "blue"),
        ("multidiffusion", "region pet", "on the beach, a cat", "blue"),
        ("multidiffusion", "region car", "on the beach, a red car", "blue, dog"),
    ],
)
def test_pooled_text_is_of_what_the_view_sums_up(xl: Model, method: str, view: str, cond: str, null: str) -> None:
    plan = prepare(SCENE.replace(method=method), xl).compiled.plan
    for branch, text in {"cond": cond, "null": null}.items():
        assert torch.equal(found(plan, view, branch).pooled, pooled(xl, text))
        assert found(plan, view, branch).micro["size"] == (64, 64, 0.0, 0.0, 64, 64)


def test_pooled_text_and_summary_of_long_text_are_the_first_chunk_s(xl: Model) -> None:
    words = ["cat"] * 80
    ctx = replace(prepare(SCENE, xl).ctx, summarised=True)
    found = ctx.summary(" ".join(words))
    encoder: Any = xl.text
    first = encoder.encode_ids(encoder.padded_ids(" ".join(words[:75])))
    assert found.summary is not None
    assert torch.equal(found.summary, first.tokens)
    assert found.pooled is not None
    assert torch.equal(found.pooled, first.pooled)
    plan = prepare(SCENE.replace(caption=" ".join(words), method="attention"), xl).compiled.plan
    lengths = [len(piece.value) for name in ("cond", "null") for piece in plan.views[0].branches[name].tokens]  # type: ignore[union-attr]
    assert set(lengths) == {77, 154}


def test_size_is_for_networks_that_take_it(tiny_xl: Path) -> None:
    """Pooled text alone does not make a network one of Stable Diffusion XL."""
    model = load(tiny_xl)
    model.net.spec = replace(model.net.spec, micro=())
    plan = prepare(SCENE, model).compiled.plan
    assert not found(plan, "canvas", "cond").micro
    assert found(plan, "canvas", "cond").pooled is not None


def test_the_cost_counts_with_both(xl: Model, tiny_sd: Path) -> None:
    assert explain(SCENE, xl).flops > explain(SCENE, load(tiny_sd)).flops > 0
