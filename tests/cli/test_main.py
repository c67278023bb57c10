"""The command line: exit codes, reports, no partial outputs, one sentence for bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import cloisonne
from cloisonne.cli import main as cli
from cloisonne.models.builtin import BUILTIN
from cloisonne.scene import Scene

pytestmark = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")

QUICK = ["--steps", "2"]
BEACH = ["--caption", "on a beach", "--region", "0.05,0.05,0.45,0.45:a doughnut", "--seed", "1", *QUICK]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["cloisonne", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        out = capsys.readouterr()
        return code, out.out, out.err

    return called


@pytest.fixture
def scene(tmp_path):
    """A scene file."""
    file = tmp_path / "scene.json"
    file.write_text(
        json.dumps(
            {
                "version": 1,
                "caption": "on a beach",
                "seed": 5,
                "steps": 2,
                "regions": [{"name": "donut", "box": [0.05, 0.05, 0.45, 0.45], "phrase": "a doughnut"}],
            }
        )
    )
    return file


def test_help_answers_without_heavy_imports():
    program = (
        "import sys, cloisonne.cli.main; sys.exit(' '.join({'torch', 'diffusers', 'cv2'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
    answer = subprocess.run([sys.executable, "-m", "cloisonne", "--help"], capture_output=True, text=True)
    assert answer.returncode == 0
    for command in ("generate", "fill", "sweep", "explain", "draw", "models", "train", "evaluate"):
        assert command in answer.stdout


@pytest.mark.parametrize("command", ["generate", "fill", "sweep", "explain", "draw", "models", "train", "evaluate"])
def test_every_command_has_help(run, command):
    assert run(command, "--help")[0] == 0


def test_version(run):
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "cloisonne")


def test_an_image_of_a_scene_file_and_the_same_bytes_from_that_image(run, scene, tmp_path):
    code, out, _ = run("generate", scene, "-o", tmp_path / "a.png", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["version"] == 1
    assert report["outputs"][0]["seed"] == 5
    assert report["outputs"][0]["path"] == str(tmp_path / "a.png")
    assert (report["forwards"], report["rows"]) == (2, 4)
    assert report["dropped"] == [] == report["warnings"]
    assert run("generate", tmp_path / "a.png", "-o", tmp_path / "again.png")[0] == 0
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a.png").read_bytes()


def test_a_folder_of_images_with_overlays(run, tmp_path):
    code, out, _ = run("generate", *BEACH, "-o", tmp_path / "out", "--num-images", 2, "--overlay")
    assert code == 0
    assert out.splitlines() == [str(tmp_path / "out" / "0000.png"), str(tmp_path / "out" / "0001.png")]
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["0000.png", "0000.regions.png", "0001.png", "0001.regions.png"]
    assert cloisonne.Scene.from_png(tmp_path / "out" / "0001.png").seed == 2


def test_fill_preserves_every_byte_outside_the_mask(run, tmp_path):
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (100, 140, 3), dtype=np.uint8)
    mask = np.zeros((100, 140), np.uint8)
    mask[20:70, 30:90] = 255
    Image.fromarray(source).save(tmp_path / "source.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = ["fill", tmp_path / "source.png", "--mask", tmp_path / "mask.png", "--phrase", "a cat", *QUICK]
    code, out, _ = run(*given, "-o", tmp_path / "out.png", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["identical_outside"] is True
    assert report["max_difference_outside"] == 0
    result = np.asarray(Image.open(tmp_path / "out.png"))
    assert (result[mask == 0] == source[mask == 0]).all()
    assert (result[mask == 255] != source[mask == 255]).any()


def test_draw_and_its_scene_can_be_explained(run, tmp_path):
    assert run("draw", "-o", tmp_path / "world", "--seed", 7, "--num-images", 2)[0] == 0
    code, out, _ = run("explain", tmp_path / "world" / "000007.json")
    assert code == 0
    assert "2 per step" in out


def test_models_lists_the_family(run):
    code, out, _ = run("models")
    assert code == 0
    for member in ("vae", "unet", "text_encoder", "judge"):
        assert member in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "nowhere.json", "-o", "a.png"], "nowhere.json"),
        (["generate", *BEACH, "-o", "a.gif"], ".png"),
        (["generate", *BEACH, "-o", "no/such/folder/a.png"], "no/such/folder"),
        (["generate", "-o", "a.png"], "neither"),
        (["generate", "--region", "0.1,0.1:a cat", "-o", "a.png"], 'Region "region-0"'),
        (["generate", "--region", "0.5,0.1,0.2,0.4:a cat", "-o", "a.png"], 'Region "region-0"'),
        (["generate", "--region", "0.1,0.1,0.2,nan:a cat", "-o", "a.png"], 'Region "region-0"'),
        (["generate", "--region", "0.1,0.1,0.2,0.4:", "-o", "a.png"], "phrase"),
        (["generate", *BEACH, "--method", "magic", "-o", "a.png"], "method"),
        (["generate", *BEACH, "--sampler", "magic", "-o", "a.png"], "sampler"),
        (["generate", "--caption", "x", "--steps", "0", "-o", "a.png"], "steps"),
        (["generate", *BEACH, "--model", "no/model", "-o", "a.png"], "no/model"),
        (["generate", *BEACH, "--num-images", "2", "-o", "a.png"], "folder"),
        (["sweep", *BEACH, "--sweep", "guidance", "-o", "a.png"], "guidance=1,2.5,5"),
        (["sweep", *BEACH, "--sweep", "similarity=1,3", "-o", "a.png"], "exemplar"),
        (["sweep", *BEACH, "--sweep", "region-1.weight=1,3", "-o", "a.png"], "region-0"),
        (["sweep", *BEACH, "--sweep", "steps=2,x", "-o", "a.png"], "steps"),
        (["sweep", *BEACH, "--sweep", "seed=1,2", "-o", "folder"], ".png"),
        (["explain", *BEACH, "--attention", "a.png"], "folder"),
        (["explain", *BEACH, "--method", "caption", "--attention", "seen"], "caption"),
        (["fill", "no.png", "--mask", "no.png", "--phrase", "a cat", "-o", "a.png"], "no.png"),
        (["evaluate", "layouts", "--method", "magic", "-o", "out"], "magic"),
        (["evaluate", "control", "--row", "a", "-o", "out"], "NAME=FOLDER"),
        (["evaluate", "control", "--row", "a=nowhere", "-o", "out"], "nowhere"),
        (["evaluate", "control", "--kind", "depth", "-o", "out"], "depth"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, workdir, arguments, message):
    before = sorted(workdir.rglob("*"))
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(workdir.rglob("*")) == before


def test_an_existing_output_is_refused_and_preserved(run, scene, tmp_path):
    taken = tmp_path / "taken.png"
    taken.write_bytes(b"mine")
    code, _, err = run("generate", scene, "-o", taken)
    assert code == 2
    assert "--overwrite" in err
    assert taken.read_bytes() == b"mine"
    assert run("generate", scene, "-o", taken, "--overwrite")[0] == 0
    assert taken.read_bytes() != b"mine"


def test_a_failure_while_running_is_exit_code_1_and_leaves_nothing(run, scene, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("out of memory\nmany lines")

    monkeypatch.setattr("cloisonne.pipelines.generate.sample", broken)
    code, _, err = run("generate", scene, "-o", tmp_path / "a.png")
    assert code == 1
    assert err.strip() == "Error: The run failed: out of memory"
    assert not (tmp_path / "a.png").exists()


def test_ctrl_c_is_reported_and_leaves_nothing(run, scene, tmp_path, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cloisonne.pipelines.generate.sample", interrupted)
    code, out, err = run("generate", scene, "-o", tmp_path / "a.png")
    assert (code, out) == (1, "")
    assert "Cancelled" in err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(("mode", "ending"), [("RGBA", ".jpg"), ("L", ".webp")])
def test_an_ending_that_cannot_hold_the_source_is_refused_before_any_work(run, tmp_path, monkeypatch, mode, ending):
    def worked(*args, **kwargs):
        raise AssertionError("sampling began")

    monkeypatch.setattr("cloisonne.pipelines.generate.sample", worked)
    Image.new(mode, (64, 64)).save(tmp_path / "source.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    given = ["fill", tmp_path / "source.png", "--mask", tmp_path / "mask.png", "--phrase", "a cat"]
    code, _, err = run(*given, "-o", tmp_path / f"out{ending}")
    assert code == 2
    assert ".png" in err


def test_fill_reports_the_mask_channel_and_takes_another(run, tmp_path):
    source = np.random.default_rng(0).integers(0, 256, (100, 140, 3), dtype=np.uint8)
    strokes = np.zeros((100, 140, 4), np.uint8)
    strokes[20:70, 30:90, 3] = 255
    Image.fromarray(source).save(tmp_path / "source.png")
    Image.fromarray(strokes).save(tmp_path / "mask.png")
    given = ["fill", tmp_path / "source.png", "--mask", tmp_path / "mask.png", "--phrase", "a cat", *QUICK]
    code, out, err = run(*given, "-o", tmp_path / "a.png", "--json")
    assert code == 0
    (warning,) = json.loads(out)["warnings"]
    assert "alpha" in warning
    assert f"Warning: {warning}" in err
    same = (np.asarray(Image.open(tmp_path / "a.png")) == source).all(axis=2)
    assert same[strokes[..., 3] == 0].all()
    assert not same[strokes[..., 3] > 0].all()
    code, out, err = run(*given, "-o", tmp_path / "b.png", "--mask-channel", "transparency", "--seed", 1)
    assert (code, "Warning" in err) == (0, False)
    same = (np.asarray(Image.open(tmp_path / "b.png")) == source).all(axis=2)
    assert same[strokes[..., 3] > 0].all()
    code, _, err = run(*given, "-o", tmp_path / "c.png", "--mask-channel", "luminance")
    assert (code, 'give the mask channel "alpha"' in err) == (2, True)
    code, _, err = run(*given, "-o", tmp_path / "c.png", "--mask-channel", "red")
    assert (code, "auto, luminance, alpha, transparency" in err) == (2, True)


def test_elements_are_printed_and_drawn(run, scene, tmp_path):
    """What ``export`` prints is a scene for every command; it draws what the scene with these fields draws."""
    code, out, err = run("export", scene, "--format", "elements")
    assert (code, err) == (0, "")
    (tmp_path / "elements.json").write_text(out)
    for name, source in (("a", tmp_path / "elements.json"), ("b", scene)):
        assert run("generate", source, "-o", tmp_path / f"{name}.png", "--seed", 5, *QUICK)[0] == 0
    a, b = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in "ab")
    np.testing.assert_array_equal(a, b)
    hat = {"name": "hat", "ellipse": [0, 0, 1, 1], "phrase": "a hat"}
    (tmp_path / "o.json").write_text(json.dumps({"regions": [hat]}))
    code, out, err = run("export", tmp_path / "o.json", "--format", "elements")
    assert code == 0
    assert 'Region "hat": elements have no ellipse.' in err
    assert run("export", tmp_path / "none.json", "--format", "elements")[0] == 2


def test_scenes_of_other_tools_come_in_and_go_out(run, scene, tmp_path):
    text = (
        "a room BREAK a cat\nNegative prompt: blurry\nSteps: 4, Sampler: DDIM, Seed: 7, RP Active: True, RP Ratios: 1"
    )
    (tmp_path / "a.txt").write_text(text + ", RP Divide mode: Mask, Clip skip: 2")
    code, out, err = run("import", tmp_path / "a.txt", "-o", tmp_path / "a.json")
    assert (code, out) == (2, "")
    assert "does not contain the mask" in err
    code, out, err = run("import", tmp_path / "a.txt", "-o", tmp_path / "a.json", "--no-regions")
    assert (code, out) == (0, f"{tmp_path / 'a.json'}\n")
    assert "Warning: Not carried: " in err
    assert 'Clip skip: "2"' in err
    assert Scene.load(tmp_path / "a.json").caption == "a room, a cat"
    assert "exists" in run("import", tmp_path / "a.txt", "-o", tmp_path / "a.json", "--no-regions")[2]
    assert run("export", scene, "--format", "masks")[0] == 2
    code, out, err = run("export", scene, "--format", "masks", "-o", tmp_path / "m", "--size", "64x64")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 1 + len(Scene.load(scene).regions)
    code, out, err = run("import", tmp_path / "m")
    assert (code, err) == (0, "")
    assert Scene.from_json(out) == Scene.load(tmp_path / "m" / "scene.json")
    code, out, err = run("export", scene, "--format", "coco", "--size", "large")
    assert (code, '--size is "large"' in err) == (2, True)
    code, out, err = run("export", scene, "--format", "coco", "--size", "64x32", "-o", tmp_path / "c.json")
    assert code == 0
    code, out, err = run("import", tmp_path / "c.json", "--image-id", 1)
    assert [one.phrase for one in Scene.from_json(out).regions] == [one.phrase for one in Scene.load(scene).regions]
    assert run("export", scene, "--format", "svg")[0] == 2
