"""Scenes of 0.1 are read with the names that fields of presets had then; everything else takes the present ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from cloisonne.errors import SceneError
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.keywords import EditOptions, TranslateOptions, check_keywords
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.scene import Scene
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.conditions.translation_presets import Translating
from cloisonne.scene.io.png_record import Record, read_record
from cloisonne.scene.io.renamed_fields import RENAMED

VALUES: dict[str, dict[str, Any]] = {
    "editing": {"preset": "mrgd", "looks": 0.3, "fresh": 0.2, "room": 1.5, "tight": False, "gain": 2.0},
    "translating": {"preset": "vct", "looks": 0.3, "words": 0.1, "rounds": 5},
}


def present(field: str) -> dict[str, Any]:
    return {RENAMED[field].get(name, name): value for name, value in VALUES[field].items()}


@pytest.mark.parametrize("field", RENAMED)
def test_a_scene_of_0_1_is_read_as_the_present_one(field: str, tmp_path: Path) -> None:
    assert set(RENAMED[field]) <= set(VALUES[field])
    expected = Scene(**{field: present(field)})
    assert Scene.from_dict({field: VALUES[field]}) == expected
    assert Scene.from_json(json.dumps({field: VALUES[field]})) == expected
    (tmp_path / "old.json").write_text(json.dumps({field: VALUES[field]}))
    assert Scene.load(tmp_path / "old.json") == expected
    assert dict(getattr(Scene.from_json(expected.to_json()), field)) == present(field)


@pytest.mark.parametrize("field", RENAMED)
def test_a_png_of_0_1_is_read_as_the_present_one(field: str, tmp_path: Path) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("cloisonne", Record(scene={"version": 1, field: VALUES[field]}).text())
    Image.new("L", (8, 8)).save(tmp_path / "old.png", pnginfo=info)
    assert field in read_record((tmp_path / "old.png").read_bytes(), "old.png").scene
    assert Scene.load(tmp_path / "old.png") == Scene(**{field: present(field)})


@pytest.mark.parametrize("field", RENAMED)
def test_both_names_of_a_field_are_refused(field: str) -> None:
    for old, new in RENAMED[field].items():
        with pytest.raises(SceneError, match=f"{new} and {old} are the same; give {new} alone"):
            Scene.from_dict({field: {old: 0.1, new: 0.1}})


def test_the_present_names_are_fields() -> None:
    assert set(RENAMED["editing"].values()) <= set(vars(Editing()))
    assert set(RENAMED["translating"].values()) <= set(Translating.__dataclass_fields__)
    for names in RENAMED.values():
        assert not set(names) & set(vars(Editing()))
        assert not set(names) & set(Translating.__dataclass_fields__)


@pytest.mark.parametrize(("old", "new"), RENAMED["editing"].items())
def test_an_old_name_of_an_edit_is_refused_with_the_present_one(old: str, new: str) -> None:
    with pytest.raises(SceneError, match=f'has no "{old}"; it is now "{new}"'):
        editing_of("follow", {old: 0.1})
    with pytest.raises(TypeError, match=f'has no keyword "{old}"; it is now "{new}"'):
        check_keywords(editing_of, {old: 0.1}, EditOptions)


@pytest.mark.parametrize(("old", "new"), RENAMED["translating"].items())
def test_an_old_name_of_a_translation_is_refused_with_the_present_one(old: str, new: str) -> None:
    with pytest.raises(SceneError, match=f'has no "{old}"; it is now "{new}"'):
        translating_of("fast", None, {old: 0.1})
    with pytest.raises(TypeError, match=f'has no keyword "{old}"; it is now "{new}"'):
        check_keywords(translating_of, {old: 0.1}, TranslateOptions)
