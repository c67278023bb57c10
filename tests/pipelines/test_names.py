"""A region may have any name: pictures, pairs and readings are those of plain names in the same order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods_of import OF_UNETS
from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.overlay import attention_pictures
from cloisonne.pipelines.attention_maps.token_spans import read_words
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.scene.changes import with_changes
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

NAMES = [
    "x from 1",
    "x from 0.5",
    "x from 0.0",
    "x with whole",
    "late region x",
    "region x",
    "caption",
    "canvas",
    "whole",
    "null",
    "cond",
    "exemplars",
    "translation",
    "region-0",
    "x.phrase",
    "../x",
    "猫の絵",
    "猫" * 100,
]
hostile = pytest.mark.parametrize("name", NAMES)


def plain_of(name: str) -> str:
    """A plain name on the same side of "x": regions are taken in the order of their names."""
    return "y" if name > "x" else "w"


def regions(second: str, first: str = "x") -> tuple[Region, ...]:
    own = {"box": (0.0, 0.1, 0.6, 0.9), "phrase": "a cat", "stop": 0.7, "guidance": 5.0}
    other = {"box": (0.3, 0.2, 1.0, 0.8), "phrase": "a red car", "start": 0.4, "negative": "dog", "weight": 2.0}
    return Region(name=first, **own), Region(name=second, **other)


def scene(*given: Region, **fields: Any) -> Scene:
    return Scene(caption="on the beach", seed=3, steps=4, regions=given, **fields)


@hostile
@pytest.mark.parametrize("method", OF_UNETS)
def test_pictures_are_those_of_plain_names(tiny: Model, method: str, name: str) -> None:
    one, other = (generate(scene(*regions(n), method=method), tiny).image for n in (name, plain_of(name)))
    assert one.tobytes() == other.tobytes()


@hostile
@pytest.mark.parametrize("method", OF_UNETS)
def test_words_are_read_where_they_are_with_plain_names(tiny: Model, method: str, name: str) -> None:
    found = []
    for own in (name, plain_of(name)):
        twins = [region.replace(phrase="a cat") for region in regions(own)]
        readers = read_words(scene(*twins, method=method), tiny).readers
        found.append([[(reader.words, reader.grid) for reader in readers.get(n, [])] for n in ("x", own)])
    assert found[0] == found[1]


NO_LOSSES = {"loss_rs": 0.0, "loss_is": 0.0, "loss_ip": 0.0}
INVERSION_METHODS: dict[str, dict[str, Any]] = {
    "follow": {},
    "p2p": {},
    "multidiffusion": {},
    "official": NO_LOSSES,
}
CHANGE = {"kind": "change", "from": "a red hat", "to": "a blue hat"}


@hostile
@pytest.mark.parametrize(
    ("preset", "stop"), [*((way, 1.0) for way in INVERSION_METHODS), ("follow", 0.5), ("official", 0.5)]
)
def test_pairs_are_those_of_plain_names(tiny: Model, preset: str, stop: float, name: str) -> None:
    made = []
    for own in (name, plain_of(name)):
        below = Region(name="x", box=(0.0, 0.0, 1.0, 0.9), phrase="a cat", priority=-1, stop=stop)
        hat = Region(name=own, box=(0.3, 0.2, 0.9, 0.8), edit=CHANGE)
        made.append(edit(scene(below, hat), tiny, preset=preset, **INVERSION_METHODS[preset]))
    one, other = made
    assert one.named["before"].tobytes() == other.named["before"].tobytes()
    assert one.image.tobytes() == other.image.tobytes()


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


@hostile
def test_translations_are_those_of_plain_names(tiny: Model, name: str) -> None:
    made = []
    for own in (name, plain_of(name)):
        concept = Region(name="x", box=(0.0, 0.0, 1.0, 1.0), concept=photo(1))
        car = Region(name=own, box=(0.1, 0.1, 0.5, 0.6), phrase="a red car", start=0.5)
        settings = {"preset": "learned", "rounds": 1, "batch": 1}
        asked = scene(concept, car, background=photo(0), method="multidiffusion", translating=settings)
        made.append(generate(asked, tiny, output_type="latent").latents)
    assert torch.equal(*made)


@pytest.mark.parametrize(
    ("name", "wrong"), [("caption", "a field of the scene"), ("x.phrase", 'the phrase of the region "x"')]
)
def test_a_change_that_may_mean_two_things_is_refused(name: str, wrong: str) -> None:
    asked = scene(*regions(name))
    with pytest.raises(SceneError, match=f'"{name}" is both the name of a region and {wrong}'):
        with_changes(asked, {name: "a dog"})
    changed = with_changes(asked, {f"{name}.phrase": "a dog", "x": "stars"})
    assert [region.phrase for region in changed.regions] == ["stars", "a dog"]
    assert changed.caption == "on the beach"


@pytest.mark.parametrize("name", ["", "  ", "a\nb"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(SceneError, match="one line of at most 100 characters"):
        Region(name=name, box=(0.0, 0.0, 1.0, 1.0), phrase="a cat")


def test_strips_of_any_name_can_be_written(tiny: Model, tmp_path: Path) -> None:
    given = tuple(
        Region(name=name, box=(0.0, 0.0, 0.5, 0.5 + k / 100), phrase="a cat") for k, name in enumerate(NAMES[-4:])
    )
    made = attention_pictures(scene(*given, method="attention"), tiny)
    assert len(made.save(tmp_path / "strips")) == 1 + len(made.maps) == 5
    assert all(path.parent == tmp_path / "strips" for path in (tmp_path / "strips").iterdir())
