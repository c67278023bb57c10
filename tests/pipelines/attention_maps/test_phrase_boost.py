"""``region_boost="auto"``: the boost that gives phrases a share of the attention, chosen by the model's own."""

from pathlib import Path

import pytest
import torch
from tiny import write_checkpoint
from transformer_family import FAMILY, tiny_transformer

from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.phrase_boost import (
    LEAST,
    MOST,
    PROBE,
    SHARE,
    boost_for,
    mean_share,
    phrase_odds,
)
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="cat", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
CAR = Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a red car")
SCENE = Scene(caption="on the beach", seed=3, steps=3, method="bounded", regions=(CAT, CAR))


@pytest.fixture(scope="module")
def models(tiny: Model, tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    sd2 = write_checkpoint(tmp_path_factory.mktemp("sd2"), unet={"use_linear_projection": True})
    return {"family": tiny, "sd": load(sd2), "xl": load(tiny_xl)}


def odds(model: Model, **fields: object) -> torch.Tensor:
    found: Prepared = prepare(SCENE.replace(**fields), model)
    return phrase_odds(found.compiled.plan, found.steps, model)


@pytest.mark.parametrize("method", ["bounded", "bounded-words"])
@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_the_share_at_a_boost_is_foretold_by_the_odds(models: dict[str, Model], line: str, method: str) -> None:
    """A boost multiplies the odds of a softmax. The first layer alone: what later layers read depends on it."""
    probed = odds(models[line], method=method, region_boost=PROBE)
    assert bool((probed > 0).all())
    for boost in (20.0, 1000.0):
        read = odds(models[line], method=method, region_boost=boost)
        assert read.shape == probed.shape
        first = slice(0, len(read) // 8)
        torch.testing.assert_close(read[first], probed[first] * boost / PROBE, rtol=1e-3, atol=0)
        assert mean_share(read, 1.0) == pytest.approx(mean_share(probed, boost / PROBE), abs=0.05)


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_the_boost_gives_the_share(models: dict[str, Model], line: str) -> None:
    probed = odds(models[line], region_boost=PROBE)
    boost = prepare(SCENE.replace(region_boost="auto"), models[line]).scene.region_boost
    assert boost == boost_for(probed)
    assert isinstance(boost, float)
    assert mean_share(probed, boost / PROBE) == pytest.approx(SHARE, abs=0.005)


def test_the_boost_has_bounds() -> None:
    assert boost_for(torch.full((4,), 1e9)) == LEAST
    assert boost_for(torch.full((4,), 1e-9)) == MOST


def test_a_scene_records_the_boost_that_it_was_generated_with(tiny: Model) -> None:
    asked = generate(SCENE.replace(region_boost="auto"), tiny, output_type="latent", num_images=2)
    found = asked.report["scene"]["region_boost"]
    again = generate(SCENE.replace(region_boost=found), tiny, output_type="latent", num_images=2)
    assert torch.equal(asked.latents, again.latents)
    other = generate(SCENE.replace(region_boost=found / 10), tiny, output_type="latent", num_images=2)
    assert not torch.equal(asked.latents, other.latents)


@pytest.mark.parametrize("regions", [(), (CAT.replace(weight=0.0),)])
def test_without_phrases_there_is_nothing_to_boost(tiny: Model, regions: tuple[Region, ...]) -> None:
    assert prepare(SCENE.replace(regions=regions, region_boost="auto"), tiny).scene.region_boost is None


def test_phrases_that_begin_later_are_read_at_their_first_step(tiny: Model) -> None:
    late = tuple(region.replace(start=0.5) for region in SCENE.regions)
    boost = prepare(SCENE.replace(regions=late, region_boost="auto"), tiny).scene.region_boost
    assert isinstance(boost, float)
    assert boost > 1


def test_explaining_runs_no_network(tiny: Model) -> None:
    scene = SCENE.replace(region_boost="auto")
    explained = explain(scene, tiny)
    assert explained.setup_forwards == 1
    assert explained.scene.region_boost == "auto"
    assert explained.forwards == generate(scene, tiny, output_type="latent").report["forwards"]


def test_a_network_without_cross_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)
    with pytest.raises(CapabilityError, match="no cross-attention to choose it by; give a number"):
        prepare(SCENE.replace(region_boost="auto"), tiny_transformer())


def test_edits_take_a_number(tiny: Model) -> None:
    changed = CAT.replace(phrase="", edit={"kind": "change", "before": "a cat", "after": "a dog"})
    with pytest.raises(SceneError, match="share one boost; give a number"):
        edit(SCENE.replace(region_boost="auto", regions=(changed,)), tiny)


def test_other_words_are_refused() -> None:
    with pytest.raises(SceneError, match=r'region_boost is "much"; .*"auto"'):
        SCENE.replace(region_boost="much")
