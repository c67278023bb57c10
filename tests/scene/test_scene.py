import json

import pytest

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene
from cloisonne.scene.changes import with_changes

NATIVE = {"width": 128, "height": 128, "steps": 20, "guidance": 4.0, "sampler": "ddim", "method": "reco"}
BOX = (0.05, 0.05, 0.45, 0.45)


def test_the_example_of_the_readme() -> None:
    scene = Scene(caption="on a beach", regions=[Region(name="donut", box=BOX, phrase="a doughnut")])
    assert scene == Scene.model_validate(
        {"caption": "on a beach", "regions": [{"name": "donut", "box": list(BOX), "phrase": "a doughnut"}]}
    )
    assert scene.method is None
    assert hash(scene) == hash(scene.replace())


def test_regions_are_named_by_position() -> None:
    scene = Scene(
        regions=[Region(box=BOX, phrase="a"), Region(name="b", box=BOX, phrase="b"), {"box": BOX, "phrase": "c"}]
    )
    assert [region.name for region in scene.regions] == ["region-0", "b", "region-2"]


def test_names_are_unique() -> None:
    with pytest.raises(SceneError, match=r'Region "region-1": Two regions have this name; give each its own\.'):
        Scene(regions=[Region(name="region-1", box=BOX, phrase="a"), Region(box=BOX, phrase="b")])


def test_resolved_fills_in_missing_fields() -> None:
    scene = Scene(steps=7, seed=3).resolved(**NATIVE)
    assert (scene.width, scene.height, scene.steps, scene.guidance, scene.sampler) == (128, 128, 7, 4.0, "ddim")
    assert scene.seed == 3
    assert scene.resolved(**NATIVE) == scene


def test_a_missing_seed_is_chosen_once() -> None:
    scene = Scene().resolved(**NATIVE)
    assert scene.seed is not None
    assert scene.resolved(**NATIVE).seed == scene.seed
    assert len({Scene().resolved(**NATIVE).seed for _ in range(8)}) > 1


def test_a_resolved_scene_is_checked_again() -> None:
    with pytest.raises(SceneError, match='the sampler "heun" does not use it'):
        Scene(eta=0.5).resolved(**NATIVE | {"sampler": "heun"})


def test_replace_checks_again() -> None:
    assert Scene(steps=3).replace(steps=4).steps == 4
    with pytest.raises(SceneError, match="steps is 0"):
        Scene().replace(steps=0)
    with pytest.raises(SceneError, match='did you mean "steps"'):
        Scene().replace(step=4)


def test_region_prompt() -> None:
    region = Region(box=BOX, phrase="a cat")
    assert Scene(caption="on a beach").region_prompt(region) == "on a beach, a cat"
    assert Scene().region_prompt(region) == "a cat"


def test_active_regions() -> None:
    on, off = Region(name="on", box=BOX, phrase="a"), Region(name="off", box=BOX, phrase="b", weight=0)
    assert Scene(regions=[off, on]).active_regions == (on,)


def test_json_schema_has_the_fields_of_version_1() -> None:
    schema = Scene.json_schema()
    assert schema["additionalProperties"] is False
    assert " ".join(schema["properties"]) == (
        "version width height caption negative seed steps guidance guidance_rescale guidance_interval sampler spacing "
        "eta lora model method region_boost layout_guidance isolate blocks overlap speed hires "
        "windows background strength composite editing translating outside regions"
    )
    region = schema["$defs"]["Region"]
    assert region["additionalProperties"] is False
    assert " ".join(region["properties"]) == (
        "name box ellipse polygon mask mask_channel rle phrase negative exemplar control lora edit concept keywords "
        "similarity weight priority start stop feather guidance seed strict"
    )
    assert schema["properties"]["overlap"]["enum"] == ["blend", "priority", "union"]


ALIASED = [
    ("num_inference_steps", "steps", 7),
    ("guidance_scale", "guidance", 2.5),
    ("negative_prompt", "negative", "a dog"),
]


@pytest.mark.parametrize(("alias", "field", "value"), ALIASED)
def test_names_of_diffusers_are_read_wherever_the_field_is(alias: str, field: str, value: object) -> None:
    expected = Scene(**{field: value})
    assert Scene(**{alias: value}) == expected
    assert Scene().replace(**{alias: value}) == expected
    assert with_changes(Scene(), {alias: value}) == expected
    assert Scene.from_json(json.dumps({"version": 1, alias: value})) == expected
    assert alias not in expected.to_json()


@pytest.mark.parametrize(("alias", "field", "value"), ALIASED[1:])
def test_names_of_diffusers_are_read_in_regions(alias: str, field: str, value: object) -> None:
    region = {"name": "pet", "box": [0, 0, 1, 1], "phrase": "a cat"}
    expected = Scene(regions=[{**region, field: value}])
    assert Scene(regions=[{**region, alias: value}]) == expected
    assert with_changes(Scene(regions=[region]), {f"pet.{alias}": value}) == expected
    with pytest.raises(SceneError, match=f'Region "pet": {field} and {alias} are the same; give one'):
        Scene(regions=[{**region, alias: value, field: value}])


@pytest.mark.parametrize(("alias", "field", "value"), ALIASED)
def test_both_names_of_a_field_are_one_too_many(alias: str, field: str, value: object) -> None:
    both = {alias: value, field: value}
    for given in (
        lambda: Scene(**both),
        lambda: Scene().replace(**both),
        lambda: Scene.from_dict(both),
    ):
        with pytest.raises(SceneError, match=f"^{field} and {alias} are the same; give one of them"):
            given()
    with pytest.raises(SceneError, match=f"{field} is set twice"):
        with_changes(Scene(), both)


@pytest.mark.parametrize("value", [Scene(), Region(box=(0, 0, 1, 1), phrase="a cat")])
def test_values_are_frozen_without_a_message_of_pydantic(value: Scene | Region) -> None:
    with pytest.raises(SceneError, match="is frozen, so its guidance cannot be set; make a copy") as caught:
        value.guidance = 3.0
    assert "pydantic" not in str(caught.value)
    with pytest.raises(SceneError, match="is frozen"):
        del value.guidance
