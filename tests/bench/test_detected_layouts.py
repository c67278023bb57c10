"""``cloisonne evaluate layouts`` with a detector, from the command line to the tables, with tiny networks."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from coco_files import write_captions, write_instances
from detectors import write_grounding_dino, write_owl, write_sam
from PIL import Image
from tiny import write_checkpoint, write_exemplar

from cloisonne.cli.main import main
from cloisonne.eval.row_names import METHODS

LARGE, BESIDE = (20.0, 10.0, 80.0, 60.0), (110.0, 20.0, 80.0, 70.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detectors, a segmenter and the files of every benchmark."""
    found = tmp_path_factory.mktemp("evaluation")
    write_owl(found / "owl")
    write_grounding_dino(found / "dino")
    write_sam(found / "sam")
    write_instances(found / "instances.json", {k: [("cat", LARGE), ("dog", BESIDE)] for k in range(3)})
    write_captions(found / "captions.json", {k: [f"A cat and a dog, number {k}."] for k in range(3)})
    (found / "prompts.txt").write_text("a cat next to a dog\na dog on the left of a car\n")
    (found / "photos").mkdir()
    for k in range(3):
        Image.fromarray(np.full((100, 200, 3), 60 * k, np.uint8)).save(found / "photos" / f"{k:012d}.jpg")
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint without position tokens, of 64 x 64 pixels and two steps."""
    native = {"width": 64, "height": 64, "steps": 2, "guidance": 2.0, "sampler": "ddim", "method": "bounded"}
    return write_checkpoint(tmp_path_factory.mktemp("model"), native=native)


def evaluate(monkeypatch: pytest.MonkeyPatch, model: Path, out: Path, arguments: Sequence[object]) -> int:
    given = ["cloisonne", "evaluate", "layouts", "--model", str(model), "-o", str(out), *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", given)
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


BENCHMARKS = {
    "coco": ("--instances", "instances.json", "--captions", "captions.json", "--photos", "photos"),
    "coco-mig": ("--instances", "instances.json", "--segmenter", "sam"),
    "spatial": ("--file", "prompts.txt", "--images", 2),
    "layouts-v1": (),
}


@pytest.mark.parametrize(
    ("name", "judge"), [("coco", "owl"), ("coco-mig", "dino"), ("spatial", "owl"), ("layouts-v1", "dino")]
)
def test_a_benchmark_from_the_command_line(
    name: str,
    judge: str,
    folder: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "out"
    arguments = ["--benchmark", name, "--judge", folder / judge, "--limit", 2, *BENCHMARKS[name]]
    rows = ["--method", "bounded", "--method", "caption"]
    arguments = [folder / one if str(one).startswith("sam") else one for one in [*arguments, *rows]]
    assert evaluate(monkeypatch, model, out, arguments) == 0
    printed, progress = capsys.readouterr()
    assert printed.strip() == (out / "layouts.md").read_text().strip()
    assert "2 of 2 layouts" in progress
    assert "### Objects in their boxes" in printed
    assert f"2 steps of ddim, guidance 2. Judge {folder / judge}, its usual confidence; colours in the" in printed
    tables = {table["name"]: table for table in json.loads((out / "layouts.json").read_text())["tables"]}
    expected = {"coco-mig": {"mig-success", "mig-iou", "mig-colour"}, "spatial": {"spatial", "spatial-relations"}}
    assert set(tables) >= expected.get(name, set()) | {"boxes", "boxes-differences"}
    named = [row[0] for row in tables["boxes"]["rows"]]
    assert named == ["bounded", "caption", *(["photographs"] if name == "coco" else [])]
    images = 2 if name == "spatial" else 1
    assert len((out / "items-bounded.jsonl").read_text().splitlines()) == 2 * images


def test_methods_of_the_model_are_the_default(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--benchmark", "spatial", "--file", folder / "prompts.txt", "--judge", folder / "owl", "--limit", 1]
    assert evaluate(monkeypatch, model, out, arguments) == 0
    measured = {file.stem.removeprefix("items-") for file in out.glob("items-*.jsonl")}
    assert measured == set(METHODS) - {"reco"}
    assert "Not measured, because the model does not support it: reco" in capsys.readouterr().err


def test_a_model_without_text_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--benchmark", "spatial", "--file", folder / "prompts.txt", "--judge", folder / "owl"]
    assert evaluate(monkeypatch, write_exemplar(tmp_path / "exemplar"), tmp_path / "out", arguments) == 2
    assert "takes no text" in capsys.readouterr().err


def test_another_judge_is_another_run(
    folder: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["--benchmark", "spatial", "--file", folder / "prompts.txt", "--limit", 1, "--method", "caption"]
    assert evaluate(monkeypatch, model, out, [*arguments, "--judge", folder / "owl"]) == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    # The same command once more measures nothing.
    assert evaluate(monkeypatch, model, out, [*arguments, "--judge", folder / "owl"]) == 0
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert evaluate(monkeypatch, model, out, [*arguments, "--judge", folder / "dino"]) == 2
    assert "holds results with judge" in capsys.readouterr().err
