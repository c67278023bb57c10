import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from cloisonne.errors import ImageError
from cloisonne.scene import Region, Scene
from cloisonne.scene.io.image_ref import encoded
from cloisonne.scene.prompt import escaped
from cloisonne.scene.shapes.rle import Rle

fractions = st.floats(0, 1)
characters = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))
words = st.text(characters, min_size=1).filter(str.strip).map(escaped)


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, object]:
    x0, x1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    y0, y1 = sorted(draw(st.lists(fractions, min_size=2, max_size=2, unique=True)))
    assume(y1 - y0 > 1e-9)  # corners of a polygon, which may not lie on a line
    grey = np.random.default_rng(draw(st.integers(0, 9))).random((5, 4))
    return draw(
        st.sampled_from(
            [
                {"box": (x0, y0, x1, y1)},
                {"ellipse": (x0, y0, x1, y1)},
                {"polygon": [(0, y0), (0.5, y1), (1, y0)]},
                {"mask": grey},
                {"mask": "masks/sky.png"},
                {"rle": Rle.of(grey > 0.5)},
            ]
        )
    )


@st.composite
def regions(draw: st.DrawFn) -> Region:
    start, stop = sorted(draw(st.tuples(fractions, fractions)))
    return Region(
        **draw(shapes()),
        phrase=draw(words),
        negative=draw(words),
        weight=draw(st.floats(0, 1e6)),
        priority=draw(st.integers(-9, 9)),
        start=start,
        stop=stop,
        feather=draw(st.floats(0, 0.5)),
        guidance=draw(st.none() | st.floats(0, 100)),
        seed=draw(st.none() | st.integers(0, 2**53 - 1)),
        strict=draw(st.booleans()),
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    return Scene(
        width=draw(st.none() | st.integers(8, 512).map(lambda eighths: 8 * eighths)),
        caption=draw(words | st.just("")),
        seed=draw(st.none() | st.integers(0, 2**53 - 1)),
        steps=draw(st.none() | st.integers(1, 1000)),
        guidance=draw(st.none() | st.floats(0, 100)),
        guidance_interval=sorted(draw(st.tuples(fractions, fractions))),
        sampler=draw(st.sampled_from([None, "ddim", "dpmpp-2m"])),
        speed=draw(st.sampled_from(["exact", "fast"])),
        spacing=draw(st.sampled_from(["default", "karras", "leading", "trailing", "linspace"])),
        overlap=draw(st.sampled_from(["blend", "priority", "union"])),
        background=draw(st.sampled_from([None, "photo.png", np.zeros((3, 2), np.uint8)])),
        regions=draw(st.lists(regions(), max_size=3)),
    )


@given(scenes())
def test_json_round_trip(scene) -> None:
    assert Scene.from_json(scene.to_json()) == scene
    assert Scene.from_dict(scene.to_dict(complete=True)) == scene


@given(scenes())
def test_a_folder_is_added_and_taken_away(scene) -> None:
    base = Path("some/folder")
    moved = Scene.from_json(scene.to_json(), base=base)
    assert moved.to_json(base=base) == scene.to_json()
    for before, after in zip(scene.regions, moved.regions, strict=True):
        if before.mask is not None and before.mask.path is not None:
            assert after.mask.path == base / before.mask.path


def test_json_has_the_fields_that_were_given() -> None:
    scene = Scene(caption="on a beach", regions=[Region(box=(0, 0, 0.5, 0.5), phrase="a ☕")])
    assert scene.to_json() == (
        '{"version": 1,\n'
        ' "caption": "on a beach",\n'
        ' "regions": [\n'
        '  {"name": "region-0", "box": [0.0, 0.0, 0.5, 0.5], "phrase": "a ☕"}]}\n'
    )


def test_the_contract() -> None:
    scene, given_fields = Scene.from_json(CONTRACT), json.loads(CONTRACT)
    complete = scene.to_dict(complete=True)
    for name in given_fields.keys() - {"regions"}:
        assert complete[name] == given_fields[name]
    for region, given_region in zip(complete["regions"], given_fields["regions"], strict=True):
        assert given_region.items() <= region.items()
    assert scene.regions[1].seed == 7
    assert scene.regions[1].strict is True
    assert scene.regions[2].mask.path == Path("sky.png")
    assert scene.background.path == Path("photo.png")


CONTRACT = """
{"version": 1, "width": 128, "height": 128, "caption": "on a beach", "negative": "", "seed": 0, "steps": 20,
 "guidance": 4.0, "sampler": "ddim", "eta": 0.0, "model": "builtin", "method": "reco", "overlap": "blend",
 "background": "photo.png", "strength": 1.0,
 "regions": [
  {"name": "donut", "box": [0.05, 0.05, 0.45, 0.45], "phrase": "a doughnut"},
  {"name": "pet", "polygon": [[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]], "phrase": "an orange cat", "negative": "dog",
   "weight": 1.0, "start": 0.0, "stop": 1.0, "feather": 0.1, "guidance": 6.0, "seed": 7, "strict": true},
  {"name": "sky", "mask": "sky.png", "phrase": "stars", "priority": 2}]}
"""


def test_paths_are_relative_to_the_scenes_file(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    (folder / "sky.png").write_bytes(encoded(Image.new("L", (4, 4), 255)))
    (folder / "scene.json").write_text('{"regions": [{"mask": "sky.png", "phrase": "stars"}]}', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for path in (folder / "scene.json", "scenes/scene.json"):
        assert (Scene.load(path).regions[0].soft_mask(8, 8) == 1).all()
    with pytest.raises(ImageError, match="There is no file"):
        Scene.from_json((folder / "scene.json").read_text(encoding="utf-8")).regions[0].soft_mask(8, 8)


def test_absolute_paths_stay(tmp_path) -> None:
    text = json.dumps({"background": str(tmp_path / "photo.png")})
    assert Scene.from_json(text, base=Path("elsewhere")).background.path == tmp_path / "photo.png"


def test_standard_input(monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b'\xef\xbb\xbf{"caption": "on a beach"}')))
    assert Scene.load("-") == Scene(caption="on a beach")
