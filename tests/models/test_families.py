"""The table of model families: what it supports, its values of a scene, and what checkpoints are."""

import pytest

from cloisonne.methods.kinds import KINDS, OF_SCENES
from cloisonne.models.capabilities import YES
from cloisonne.models.families import FAMILIES, Family, family_of
from cloisonne.scene.scene import Scene


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_supports_by_itself_stands_in_its_row_alone(name: str) -> None:
    assert FAMILIES[name].supports <= KINDS.keys() | set(OF_SCENES)
    for condition in FAMILIES[name].supports & KINDS.keys():
        assert KINDS[condition].support(name) is YES
    elsewhere = {kind.name for kind in KINDS.values() if kind.supports.get(name) is YES}
    assert elsewhere == set(), "these stand in the tables of kinds, too"


def test_a_new_family_supports_what_its_row_names_and_no_add_ons(monkeypatch: pytest.MonkeyPatch) -> None:
    row = Family(
        name="new",
        title="new family",
        members={},
        spec=FAMILIES["sd1"].spec,
        denoiser=FAMILIES["sd1"].denoiser,
        text=FAMILIES["sd1"].text,
        schedule=FAMILIES["sd1"].schedule,
        native=FAMILIES["sd1"].native,
        supports=frozenset({"phrase, method attention"}),
    )
    monkeypatch.setitem(FAMILIES, "new", row)
    assert [name for name, kind in KINDS.items() if kind.support("new").mark != "no"] == ["phrase, method attention"]
    assert {kind.support("new").advise(None) for kind in KINDS.values() if kind.support("new") is not YES} == {
        "leave it out, or load a model of another family"
    }


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
