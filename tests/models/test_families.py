"""The table of model families agrees with the table of capabilities and with what checkpoints are."""

import pytest

from cloisonne.methods.kinds import KINDS, OF_SCENES
from cloisonne.models.capabilities import YES
from cloisonne.models.families import FAMILIES, family_of
from cloisonne.scene.scene import Scene


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_supports_by_itself_is_a_yes_in_the_table(name: str) -> None:
    table = {kind.name: kind.supports for kind in KINDS.values()} | OF_SCENES
    assert FAMILIES[name].supports == {condition for condition, row in table.items() if row[name] is YES}


@pytest.mark.parametrize("name", FAMILIES)
def test_native_values_are_those_of_a_scene(name: str) -> None:
    native = FAMILIES[name].native
    values = {"width": native.width, "height": native.height, "steps": native.steps, "guidance": native.guidance}
    Scene(caption="a cat", sampler=native.sampler, method=native.method, **values)
    assert FAMILIES[name].name == name
    assert FAMILIES[name].reach > 1


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, "sd1"),
        ({"use_linear_projection": True}, "sd2"),
        ({"use_linear_projection": True, "addition_embed_type": "text_time"}, "sdxl"),
    ],
)
def test_a_unet_names_its_family(config: dict[str, object], name: str) -> None:
    assert family_of(config) == name
    assert FAMILIES[name].takes_size == ("addition_embed_type" in config)
