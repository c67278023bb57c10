from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.errors import OutputError, SceneError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.overlay import attention_pictures, mapped_steps
from cloisonne.pipelines.attention_maps.token_spans import read_words
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Region, Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
CAR = Region(name="my/car", box=(0.5, 0.5, 1.0, 1.0), phrase="a red car")
SCENE = Scene(caption="a cat in the night", seed=3, steps=6, regions=(CAT, CAR))
METHODS = ("reco", "attention", "multidiffusion", "words")
builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("options", [{}, {"strict": True}, {"weight": 2.0}, {"priority": 1}])
def test_phrases_are_found_in_their_views(tiny: Model, method: str, options: dict[str, Any]) -> None:
    twin = CAT.replace(name="twin", box=(0.6, 0.1, 0.9, 0.4))
    scene = SCENE.replace(method=method, overlap="priority", regions=(CAT.replace(**options), CAR, twin))
    reading = read_words(scene, tiny)
    assert list(reading.readers) == ["pet", "my/car", "twin"]
    views = {reader.view for readers in reading.readers.values() for reader in readers}
    own = {"region pet", "region my/car", "region twin"}
    assert views == (own if method == "multidiffusion" else {"canvas"})
    words = [reading.readers[name][0].words for name in reading.readers]
    assert [len(own) for own in words] == [2, 3, 2]
    if method != "multidiffusion":
        assert len({place for own in words for place in own}) == 7


def test_a_caption_with_the_same_words_is_not_taken_for_the_phrase(tiny: Model) -> None:
    (reader,) = read_words(SCENE.replace(regions=(CAT,)), tiny).readers["pet"]
    assert min(reader.words) > len(["start", "a", "cat", "in", "the"])


@pytest.mark.parametrize("method", METHODS)
def test_words_with_weights_and_schedules_are_found(tiny: Model, method: str) -> None:
    scheduled = CAT.replace(phrase="a (red:1.3) [cat:dog:0.5]")
    reading = read_words(SCENE.replace(method=method, regions=(scheduled, CAR)), tiny)
    assert [len(reader.words) for reader in reading.readers["pet"]] == [3, 3]
    assert [reader.when.start for reader in reading.readers["pet"]] == [0.0, 0.5]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["tiny_family", "tiny_sd", "tiny_xl"])
def test_maps_are_of_the_ordinary_picture(request: pytest.FixtureRequest, method: str, family: str) -> None:
    if method in ("reco", "words") and family != "tiny_family":
        pytest.skip("needs a model fine-tuned for it")
    model = load(request.getfixturevalue(family))
    scene = SCENE.replace(method=method)
    looked = attention_pictures(scene, model)
    assert looked.steps == (0, 1, 3, 4, 5)
    assert {name: tuple(own) for name, own in looked.maps.items()} == dict.fromkeys(("pet", "my/car"), looked.steps)
    for read in (one for own in looked.maps.values() for one in own.values()):
        assert max(read.shape) <= 16
        assert bool(((read >= 0) & (read <= 1)).all())
        assert float(read.max()) > 0
    torch.testing.assert_close(looked.result.latents, generate(scene, model).latents, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ["bounded", "bounded-words"])
def test_boosted_phrases_are_read_with_their_repetition(tiny: Model, method: str) -> None:
    """The share of a phrase grows with its boost, and is its softmax weight: nearly all of it."""
    scene = SCENE.replace(method=method, regions=(CAT.replace(box=(0.0, 0.0, 0.5, 0.5)), CAR))
    reading = read_words(scene, tiny)
    assert [len(reading.readers[name][0].words) for name in ("pet", "my/car")] == [4, 6]
    found = [attention_pictures(scene.replace(region_boost=boost), tiny) for boost in (2, 1000, 1e6)]
    for name in ("pet", "my/car"):
        low, usual, high = (one.shares[name] for one in found)
        assert 0 < low < usual < high <= 1 + 1e-6
        assert high > 0.999


def test_a_region_of_a_part_of_the_walk_is_read_in_that_part(tiny: Model) -> None:
    looked = attention_pictures(SCENE.replace(regions=(CAT.replace(stop=0.5), CAR)), tiny)
    assert tuple(looked.maps["pet"]) == (0, 1)
    assert tuple(looked.maps["my/car"]) == (0, 1, 3, 4, 5)


def test_regions_without_words_are_named(tiny: Model) -> None:
    inactive = Region(name="edges", box=(0.6, 0.0, 1.0, 0.4), phrase="a dog", weight=0.0)
    reading = read_words(SCENE.replace(regions=(CAT, inactive)), tiny)
    assert reading.unread == {"edges": "is inactive: its weight is 0 or its interval is empty"}
    with pytest.raises(SceneError, match=r'"pet" is not conditioned on its phrase .* "caption".*; give a region'):
        attention_pictures(SCENE.replace(method="caption"), tiny)
    with pytest.raises(SceneError, match="the scene has no regions"):
        attention_pictures(Scene(caption="x"), tiny)


@pytest.mark.parametrize(("count", "steps"), [(1, (0,)), (2, (0, 1)), (4, (0, 1, 2, 3)), (20, (0, 5, 10, 15, 19))])
def test_steps_of_a_strip(count: int, steps: tuple[int, ...]) -> None:
    assert mapped_steps(count) == steps


def test_maps_lie_in_the_window_of_a_given_picture(tiny: Model) -> None:
    source = np.full((300, 400, 3), 200, np.uint8)
    small = CAT.replace(box=(0.1, 0.1, 0.25, 0.3))
    looked = attention_pictures(SCENE.replace(background=source, regions=(small,)), tiny)
    window = looked.window
    assert (window.width, window.height) < (400, 300)
    strip = np.asarray(looked.strip("pet"))
    assert (strip == 200).all(-1).sum() > 5 * 0.5 * 400 * 300


def test_files(tiny_family: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(SCENE.to_json())
    folder = tmp_path / "seen"
    given = ["explain", str(tmp_path / "scene.json"), "--model", str(tiny_family), "--attention", str(folder)]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in folder.iterdir()) == ["00-pet.png", "01-my-car.png", "picture.png"]
    assert Scene.from_png(folder / "picture.png").seed == 3
    with Image.open(folder / "00-pet.png") as strip:
        assert strip.width > 4 * strip.height
    refused = CliRunner().invoke(app, given)
    assert isinstance(refused.exception, OutputError)
    assert CliRunner().invoke(app, [*given, "--overwrite"]).exit_code == 0


@builtin
def test_phrases_of_the_built_in_family_look_into_their_boxes() -> None:
    scene = Scene.load(Path(__file__).parents[3] / "examples" / "beach.json").replace(steps=4)
    looked = attention_pictures(scene, load("builtin"))
    for region in scene.regions:
        read = torch.stack(list(looked.maps[region.name or ""].values())).mean(0)
        inside = torch.from_numpy(region.soft_mask(*read.shape))
        assert float((read * inside).sum() / read.sum()) > 2 * float(inside.mean())
