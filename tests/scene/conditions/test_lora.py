"""How a region names LoRAs."""

from typing import Any

import pytest

from cloisonne.errors import SceneError
from cloisonne.scene.before_after import halves
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

BOX = (0.0, 0.0, 0.5, 0.5)


def region(lora: Any, **fields: Any) -> Region:
    return Region(**{"name": "pet", "box": BOX, "phrase": "a cat", "lora": lora, **fields})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("ink", {"ink": 1.0}),
        ({"ink": 0.8}, {"ink": 0.8}),
        ({"name": "ink", "scale": 0.8}, {"ink": 0.8}),
        ({"oil": -1, "ink": 0.0}, {"ink": 0.0, "oil": -1.0}),
        (["oil", {"name": "ink", "scale": 2.0}], {"ink": 2.0, "oil": 1.0}),
        ((), {}),
    ],
)
def test_names_with_scales(given: Any, expected: dict[str, float]) -> None:
    own = region(given)
    assert {lora.name: lora.scale for lora in own.lora} == expected
    scene = Scene(regions=[own])
    assert Scene(**scene.to_dict()) == scene
    assert list(own.lora) == sorted(own.lora, key=lambda lora: lora.name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "give a name"),
        ({"ink": "much"}, "scale"),
        ({"ink": 11.0}, "from -10"),
        ("", "one line of at most 100 characters"),
        ("a=b", "one line of at most 100 characters"),
        (["ink", "ink"], "name each LoRA once"),
        ({"name": "ink", "strength": 1.0}, "strength"),
    ],
)
def test_invalid_loras_are_refused(given: Any, message: str) -> None:
    with pytest.raises(SceneError, match=message) as caught:
        region(given)
    assert 'Region "pet"' in str(caught.value)


def test_edits_refuse_loras() -> None:
    edited = Region(name="hat", box=BOX, edit={"kind": "add", "phrase": "a hat"})
    with pytest.raises(SceneError, match=r'^Region "pet": lora names "ink", but edits do not support LoRAs'):
        halves(Scene(regions=[edited, region("ink")]))
