"""A mixed image generated again with one region changed: what is preserved, the report, and the same bytes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import cloisonne as cl
from cloisonne.cli import main as cli
from cloisonne.errors import SceneError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model import Model
from cloisonne.scene import Region, Scene
from cloisonne.scene.changes import with_changes

pytestmark = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")

Run = Callable[..., tuple[int, str, str]]
EXEMPLAR = np.zeros((32, 32, 3), np.uint8)
EXEMPLAR[8:24, 8:24] = (250, 60, 20)
MIXED = Scene(
    caption="on the beach",
    seed=5,
    steps=2,
    regions=(
        Region(name="hat", box=(0.05, 0.05, 0.45, 0.45), phrase="a doughnut", feather=0.2, strict=True),
        Region(name="tree", box=(0.55, 0.05, 0.95, 0.45), exemplar=EXEMPLAR, similarity=3.0),
        Region(name="edges", box=(0.3, 0.55, 0.9, 0.95), phrase="a car", control={"kind": "canny", "from": EXEMPLAR}),
    ),
)


@pytest.fixture(scope="module")
def builtin() -> Model:
    return cl.load("builtin")


@pytest.fixture(scope="module")
def old(builtin: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image of the mixed scene."""
    return cl.generate(MIXED, builtin).save(tmp_path_factory.mktemp("mixed") / "old.png")[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workdir: Path) -> Run:
    """``cloisonne generate`` in this process, in an empty folder: (exit code, stdout, stderr)."""

    def called(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cloisonne", "generate", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return called


def pixels(path: Path | str) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int64)


def inside(*regions: Region) -> NDArray[np.bool_]:
    return np.logical_or.reduce([region.soft_mask(128, 128) > 0 for region in regions])


def test_the_report_says_how_much_changed_outside(run: Run, old: Path) -> None:
    code, out, err = run(old, "--change", "hat=a green hat", "-o", "new.png", "--json")
    assert code == 0
    difference = np.abs(pixels(old) - pixels("new.png"))
    hat, tree, edges = (inside(region) for region in MIXED.regions)
    changes = json.loads(out)["changes"]
    assert (changes["changed"], changes["fields"]) == (["hat"], [])
    assert changes["outside"]["max"] == difference[~hat].max()
    assert changes["outside"]["mean"] == pytest.approx(difference[~hat].mean(), abs=1e-4)
    assert changes["regions"]["tree"] == pytest.approx(difference[tree].mean(), abs=1e-4)
    assert changes["regions"]["edges"] == pytest.approx(difference[edges].mean(), abs=1e-4)
    assert f"differ by {changes['outside']['mean']:.2f} on average and {changes['outside']['max']} at most" in err
    assert difference[hat].mean() > difference[~hat].mean()


def test_the_outside_has_the_old_bytes_and_the_new_image_generates_itself(run: Run, old: Path) -> None:
    change = ["--change", "hat=a green hat", "--change", "hat.box=[0.1, 0.1, 0.5, 0.5]"]
    assert run(old, *change, "-o", "free.png")[0] == 0
    code, out, _ = run(old, *change, "--keep-outside", "-o", "new.png", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["changes"]["outside"] == {"mean": 0.0, "max": 0}
    assert report["changes"]["regions"] == {"tree": 0.0, "edges": 0.0}
    seen = inside(MIXED.regions[0], MIXED.regions[0].replace(box=(0.1, 0.1, 0.5, 0.5)))
    assert np.array_equal(pixels("new.png")[~seen], pixels(old)[~seen])
    middle = np.zeros((128, 128), bool)
    middle[28:44, 28:44] = True  # beyond the soft edges of both
    assert np.array_equal(pixels("new.png")[middle], pixels("free.png")[middle])
    assert run("new.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("new.png").read_bytes()


def test_a_second_change_preserves_the_first_and_embeds_no_chain(run: Run, old: Path) -> None:
    assert run(old, "--change", "hat=a green hat", "--keep-outside", "-o", "a.png")[0] == 0
    assert run("a.png", "--change", "tree.similarity=6", "--keep-outside", "-o", "b.png")[0] == 0
    tree = inside(MIXED.regions[1])
    assert np.array_equal(pixels("a.png")[~tree], pixels("b.png")[~tree])
    assert not np.array_equal(pixels("a.png"), pixels("b.png"))
    assert Path("b.png").stat().st_size < 1.2 * Path("a.png").stat().st_size
    assert run("b.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("b.png").read_bytes()


def test_other_seeds_of_what_was_changed(run: Run, old: Path) -> None:
    code, out, _ = run(old, "--change", "hat=a hat", "--keep-outside", "--num-images", 2, "-o", "many", "--json")
    assert code == 0
    assert json.loads(out)["changes"]["outside"]["max"] == 0
    hat = inside(MIXED.regions[0])
    assert np.array_equal(pixels("many/0001.png")[~hat], pixels(old)[~hat])
    assert not np.array_equal(pixels("many/0001.png"), pixels("many/0000.png"))
    assert run("many/0001.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("many/0001.png").read_bytes()


def test_a_field_of_the_scene_changes_everything(run: Run, old: Path) -> None:
    code, out, err = run(old, "--change", "hat=a hat", "--seed", 6, "-o", "new.png", "--json")
    assert code == 0
    changes = json.loads(out)["changes"]
    assert changes == {
        "changed": ["hat"],
        "fields": ["seed"],
        "outside": None,
        "regions": {"tree": None, "edges": None},
    }
    assert "hat, seed of the whole scene; no pixel of the image is unaffected" in err
    code, out, _ = run(old, "-o", "same.png", "--json")
    assert "changes" not in json.loads(out)
    assert Path("same.png").read_bytes() == old.read_bytes()


def test_the_image_may_be_recorded_by_hash(builtin: Model, workdir: Path) -> None:
    scene = MIXED.replace(regions=MIXED.regions[:1])
    cl.generate(scene, builtin).save("old.png")
    changed = with_changes(Scene.from_png("old.png"), {"hat": "a hat"}, outside="old.png")
    (path,) = cl.generate(changed, builtin).save("new.png", embed=False)
    carried = Scene.from_png(path).outside
    assert carried is not None
    assert (carried.image.data, carried.image.path) == (None, Path("old.png"))
    (again,) = cl.generate(Scene.from_png(path), builtin).save("again.png", embed=False)
    assert again.read_bytes() == path.read_bytes()


def test_an_image_with_a_background_is_changed_too(run: Run, builtin: Model) -> None:
    below = np.random.default_rng(1).integers(0, 256, (90, 120, 4), np.uint8)
    words = (MIXED.regions[0].replace(feather=0.0), MIXED.regions[2].replace(control=None))
    cl.generate(MIXED.replace(background=below, regions=words), builtin).save("old.png")
    code, out, _ = run("old.png", "--change", "hat=a hat", "--keep-outside", "-o", "new.png", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["changes"]["outside"]["max"], report["identical_outside"]) == (0, True)
    hat = words[0].soft_mask(90, 120) > 0
    with Image.open("old.png") as first, Image.open("new.png") as second:
        assert first.mode == second.mode == "RGBA"
        assert np.array_equal(np.asarray(first)[~hat], np.asarray(second)[~hat])
    assert run("new.png", "-o", "again.png")[0] == 0
    assert Path("again.png").read_bytes() == Path("new.png").read_bytes()


def test_impossible_changes_are_refused_before_any_work(run: Run, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloisonne.models.load.load", lambda *_, **__: pytest.fail("the model was loaded"))
    Path("scene.json").write_text(MIXED.to_json())
    Path("own.png").write_bytes(old.read_bytes())
    for arguments, message in [
        ([old], "nothing was changed"),
        ([old, "--seed", 9], "only seed of the whole scene was changed"),
        (["scene.json", "--change", "hat=a hat"], "no image was given"),
        ([old, "--change", "hut=a hat"], 'did you mean "hat"?'),
        (["own.png", "--change", "hat=a hat", "--no-embed"], "would replace the input image"),
    ]:
        code, _, error = run(*arguments, "--keep-outside", "-o", "own.png", "--overwrite")
        assert (code, message in error) == (2, True), error
    assert Path("own.png").read_bytes() == old.read_bytes()


def test_an_image_of_another_size_is_refused(builtin: Model) -> None:
    small = MIXED.replace(outside={"image": EXEMPLAR, "regions": ["hat"]})
    with pytest.raises(SceneError, match="has 32 x 32 pixels, but the scene is generated at 128 x 128"):
        cl.generate(small, builtin)
    added = {"name": "hat", "box": [0, 0, 1, 1], "edit": {"kind": "add", "phrase": "a hat"}}
    with pytest.raises(SceneError, match="remove outside"):
        cl.edit(small.replace(regions=[added]), builtin)
