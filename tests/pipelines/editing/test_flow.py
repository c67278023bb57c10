"""Edits without inversion: given images and generated pairs, kinds of edits next to each other, and all conditions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformer_family import FAMILY, tiny_transformer

from cloisonne.errors import SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.progress import Progress
from cloisonne.pipelines.result import Result
from cloisonne.scene.before_after import halves
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.6, 0.2, 0.9, 0.7)
TREE = Region(name="tree", box=LEFT, phrase="a tree")
COLOUR = Region(name="hat", box=RIGHT, edit={"kind": "change", "from": "a red hat", "to": "a blue hat"})
OTHER = Region(name="hat", box=RIGHT, edit={"kind": "change", "from": "a red hat", "to": "a crown"})
ADD = Region(name="hat", box=RIGHT, edit={"kind": "add", "phrase": "a hat"})
REMOVE = Region(name="hat", box=RIGHT, edit={"kind": "remove", "phrase": "a hat"})
SECOND = Region(name="star", box=(0.05, 0.1, 0.4, 0.5), edit={"kind": "add", "phrase": "a star"})
SAME = Region(name="hat", box=RIGHT, edit={"kind": "change", "from": "a red hat", "to": "a red hat"})
STEPS = 5


def photo(seed: int = 0, width: int = 97, height: int = 61) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


GIVEN: dict[str, Any] = {"background": photo()}
GROUND = pytest.mark.parametrize("ground", [GIVEN, {}], ids=["given", "generated"])


def scene(*regions: Region, **fields: Any) -> Scene:
    return Scene(caption="on the beach", seed=3, steps=STEPS, regions=regions, **fields)


def flow(asked: Scene, model: Model, **options: Any) -> Result:
    return edit(asked, model, preset="flow", **options)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def inside(result: Result, region: Region) -> np.ndarray:
    image = result.named["before"]
    return region.soft_mask(image.height, image.width) > 0


@pytest.fixture
def transformer(monkeypatch: pytest.MonkeyPatch) -> Model:
    """A flow model of another family: joint attention, 16 channels, no UNet."""
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)
    return tiny_transformer()


@pytest.fixture(params=["tiny", "transformer"])
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(request.param)


@GROUND
@pytest.mark.parametrize("region", [COLOUR, OTHER, ADD, REMOVE], ids=["colour", "other", "add", "remove"])
def test_nothing_but_the_region_changes(model: Model, region: Region, ground: dict[str, Any]) -> None:
    result = flow(scene(TREE, region, method="attention", **ground), model)
    before, after, own = pixels(result.named["before"]), pixels(result.image), inside(result, region)
    assert np.array_equal(before[~own], after[~own])
    assert (before[own] != after[own]).any()
    assert result.report["identical_outside"] is True


@GROUND
def test_equal_captions_leave_the_latents_to_the_bit(model: Model, ground: dict[str, Any]) -> None:
    own = {"flow_start": 1.0, "source_guidance": 4.0}
    same, other = (
        flow(scene(TREE, region, guidance=4.0, method="attention", **ground), model, **own) for region in (SAME, COLOUR)
    )
    assert np.array_equal(pixels(same.named["raw"]), _decoded(same, model, ground))
    assert not np.array_equal(pixels(other.named["raw"]), _decoded(other, model, ground))


def _decoded(result: Result, model: Model, ground: dict[str, Any]) -> np.ndarray:
    """The image before, through the VAE where it is given."""
    if not ground:
        return pixels(result.named["before"])
    nothing = flow(scene(SAME, background=photo(), guidance=4.0, method="attention"), model, source_guidance=4.0)
    return pixels(nothing.named["raw"])


@GROUND
def test_the_image_before_is_that_of_its_half_alone(tiny: Model, ground: dict[str, Any]) -> None:
    asked = scene(TREE, COLOUR, **ground)
    expected = photo() if ground else generate(halves(asked).before, tiny).image
    assert np.abs(pixels(flow(asked, tiny).named["before"]) - pixels(expected)).max() <= (0 if ground else 1)


@pytest.mark.parametrize("region", [ADD, REMOVE, OTHER], ids=["add", "remove", "other"])
def test_what_comes_or_goes_is_painted_anew(tiny: Model, region: Region) -> None:
    """Without anything that flows it is the preset follow, to the byte; a start makes it flow."""
    asked = scene(TREE, region, **GIVEN)
    anew = flow(asked, tiny)
    assert np.array_equal(pixels(anew.image), pixels(edit(asked, tiny, preset="follow").image))
    assert not np.array_equal(pixels(flow(asked, tiny, flow_start=0.6).image), pixels(anew.image))


@GROUND
def test_edits_of_both_kinds_in_one_pass(model: Model, ground: dict[str, Any]) -> None:
    result = flow(scene(COLOUR, SECOND, method="attention", **ground), model)
    changed = pixels(result.named["difference"]).max(-1) > 0
    for region in (COLOUR, SECOND):
        assert changed[inside(result, region)].any()
    assert result.report["identical_outside"] is True
    drawn = 2 * STEPS if not ground else 0
    assert result.report["rows"] == drawn + 3 * STEPS


def test_the_order_of_regions_changes_nothing(tiny: Model) -> None:
    regions = (TREE, COLOUR, SECOND)
    one, other = (flow(scene(*own, **GIVEN), tiny) for own in (regions, regions[::-1]))
    assert one.image.tobytes() == other.image.tobytes()


@pytest.mark.parametrize(("options", "steps"), [({}, 3), ({"flow_start": 0.4}, 2), ({"flow_start": 1.0}, 5)])
def test_rows_are_those_of_the_last_steps(tiny: Model, options: dict[str, Any], steps: int) -> None:
    """One row of the source and two of the target in one forward, and nothing is inverted."""
    events: list[Progress] = []
    given = flow(scene(TREE, COLOUR, **GIVEN), tiny, on_step=events.append, **options)
    assert (given.report["rows"], given.report["forwards"]) == (3 * steps, steps)
    assert [(event.stage, event.step, event.total) for event in events] == [
        ("sampling", k + 1, steps) for k in range(steps)
    ]
    events.clear()
    drawn = flow(scene(TREE, COLOUR), tiny, on_step=events.append, **options)
    assert drawn.report["rows"] == 2 * STEPS + 3 * steps
    assert [(event.step, event.total) for event in events] == [(k + 1, STEPS + steps) for k in range(STEPS + steps)]


def test_more_noises_and_a_guided_source_cost_their_rows(tiny: Model) -> None:
    asked = scene(TREE, COLOUR, **GIVEN)
    plain, more, guided = (flow(asked, tiny, **own) for own in ({}, {"n_avg": 2}, {"source_guidance": 3.0}))
    assert [made.report["rows"] for made in (plain, more, guided)] == [9, 18, 12]
    assert len({made.image.tobytes() for made in (plain, more, guided)}) == 3


def test_the_png_makes_the_pair_again(tiny: Model, workdir: Path) -> None:
    result = flow(scene(TREE, COLOUR, SECOND, **GIVEN), tiny, flow_start=0.8)
    paths = result.save(workdir / "pair")
    again = edit(Scene.from_png(paths[1]), tiny)
    assert again.image.tobytes() == result.image.tobytes()
    assert dict(again.scene.editing) == {"preset": "flow", "flow_start": 0.8}


@pytest.mark.parametrize(
    "options",
    [
        {"seed": 9},
        {"weight": 2.0, "guidance": 6.0},
        {"negative": "a dog"},
        {"start": 0.0, "stop": 0.5},
        {"feather": 0.2},
        {"priority": -2},
    ],
    ids=lambda options: "-".join(options),
)
def test_region_options_count(tiny: Model, options: dict[str, Any]) -> None:
    """Options of the edited region, over one below it that gives shares and priorities a meaning."""
    below = Region(name="sea", box=(0.5, 0.0, 1.0, 1.0), phrase="a red car")
    fields: dict[str, Any] = {"method": "attention", "overlap": "priority", **GIVEN}
    plain, own = (
        flow(scene(below, SECOND, region, **fields), tiny, close_up=0.0)
        for region in (COLOUR, COLOUR.replace(**options))
    )
    assert own.report["identical_outside"] is True
    assert plain.image.tobytes() != own.image.tobytes()


@GROUND
def test_other_conditions_stay(family: Model, ground: dict[str, Any]) -> None:
    """An exemplar and a control condition both canvases, next to an edit that flows."""
    exemplar = Region(name="ref", box=(0.0, 0.0, 0.4, 0.4), exemplar=photo(1))
    control = Region(
        name="map",
        box=(0.0, 0.5, 0.5, 1.0),
        phrase="a cat",
        control={"kind": "canny", "photo": photo(2) if ground else photo(2, 64, 64)},
    )
    fields: dict[str, Any] = {"caption": "on a beach", "seed": 3, "steps": 3, **ground}
    regions = (COLOUR.replace(edit={"kind": "change", "from": "a red car", "to": "a blue car"}), exemplar, control)
    if not ground:
        fields |= {"width": 64, "height": 64}
    result = flow(Scene(regions=regions, **fields), family, close_up=0.0)
    alone = flow(Scene(regions=regions[:1], **fields), family, close_up=0.0)
    assert result.report["identical_outside"] is True
    assert result.image.tobytes() != alone.image.tobytes()


@pytest.fixture(scope="module")
def family() -> Model:
    return load("builtin")


def test_attention_of_the_source_can_be_shared(tiny: Model) -> None:
    asked = scene(COLOUR, **GIVEN)
    free, shared = (flow(asked, tiny, self_attention_share=share) for share in (0.0, 1.0))
    assert free.image.tobytes() != shared.image.tobytes()


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("flow", {"flow_start": 0.0}, r"flow_start is 0\.0; give a fraction of the steps, above 0"),
        ("flow", {"flow_start": 1.5}, r"flow_start is 1\.5"),
        ("flow", {"n_avg": 0}, "n_avg is 0; give a whole number of at least 1"),
        ("flow", {"inversion": "null-text"}, "inversion is null-text, but flow needs no inversion"),
        ("flow", {"fresh_noise": 0.5}, r"fresh_noise is 0\.5, but flow needs no inversion"),
        ("flow", {"follow": False}, "follow is false, but flow changes nothing outside"),
        ("follow", {"flow_start": 0.5}, 'flow_start is given, but the preset "follow" does not flow'),
        ("p2p", {"n_avg": 2}, 'n_avg is given, but the preset "p2p" does not flow'),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tiny: Model, preset: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        edit(scene(COLOUR, **GIVEN), tiny, preset=preset, **options)


def test_a_given_image_flows_where_nothing_else_is_asked_for(tiny: Model) -> None:
    """Fields of other presets have the presets of scenes that were written for them."""
    found = [
        dict(edit(asked, tiny, **own).scene.editing)["preset"]
        for asked, own in (
            (scene(COLOUR, **GIVEN), {}),
            (scene(COLOUR, **GIVEN), {"flow_start": 0.5}),
            (scene(COLOUR, editing={"fresh_noise": 0.5}, **GIVEN), {}),
            (scene(COLOUR, editing={"preset": "p2p"}, **GIVEN), {}),
            (scene(COLOUR, **GIVEN), {"self_attention_share": 0.2}),
            (scene(COLOUR), {}),
        )
    ]
    assert found == ["flow", "flow", "follow", "p2p", "follow", "follow"]


def test_other_noise_gives_another_edit(tiny: Model) -> None:
    asked = scene(COLOUR, **GIVEN)
    one, same, other = (flow(asked, tiny, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.latents, same.latents)
    assert not torch.equal(one.latents, other.latents)
