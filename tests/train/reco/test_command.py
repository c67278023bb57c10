"""``cloisonne train reco`` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest
from trained import Run

from cloisonne.cli import main as cli
from cloisonne.cli.train import train
from cloisonne.models.load import load

COMMAND = ("train", "reco")


def test_drawn_pictures_train_it(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_family: Path) -> None:
    """A folder that ``cloisonne draw`` writes, under diffusers' names for the options."""
    monkeypatch.setattr(sys, "argv", ["cloisonne", "draw", "-o", str(tmp_path / "drawn"), "--num-images", "3"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    names = ("--pretrained_model_name_or_path", tiny_family, "--train_data_dir", tmp_path / "drawn")
    rest = ("--output_dir", tmp_path / "out", "--train_batch_size", 2, "--max-train-steps", 2, "--no-random-flip")
    code, out, err = run(*names, *rest, "--device", "cpu")
    assert code == 0, err
    assert out.endswith(f"Pipeline written to {tmp_path / 'out'}\n")
    assert err.startswith("step 2 of 2: loss ")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["settings"]["random_flip"] is False
    assert load(tmp_path / "out").native.method == "reco"


def test_the_world_trains_it_and_it_goes_on(run: Run, tmp_path: Path, tiny_family: Path) -> None:
    given = ("--base", tiny_family, "--data", "world", "-o", tmp_path / "out", "--train_batch_size", 2)
    more = ("--device", "cpu", "--max_train_samples", 4)
    assert run(*given, *more, "--num_train_epochs", 1)[0] == 0
    code, _, err = run(*given, *more, "--num_train_epochs", 2)
    assert code == 2
    assert "--resume" in err
    code, _, err = run(*given, *more, "--num_train_epochs", 2, "--resume")
    assert (code, err.split(":")[0]) == (0, "step 4 of 4")


@pytest.mark.parametrize(
    ("data", "more", "about"),
    [
        ("nowhere", (), "no folder"),
        (None, ("--seed", "-1"), "--seed is -1"),
        (None, ("--base", "nowhere"), "nowhere"),
        (None, ("--resume_from_checkpoint", "nowhere"), "not a training checkpoint"),
        (None, ("--resume", "--resume_from_checkpoint", "checkpoint-1"), "leave one out"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Run, tmp_path: Path, tiny_sd: Path, pictures: Path, data: str | None, more: tuple[str, ...], about: str
) -> None:
    code, out, err = run("--base", tiny_sd, "--data", data or pictures, "--output", tmp_path / "out", *more)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert about in err
    assert not (tmp_path / "out").exists()


def test_the_trainings_are_listed(run: Run) -> None:
    assert {command.name for command in train.registered_commands} == {
        "family",
        "base",
        "decoder",
        "reco",
        "exemplar",
        "control",
    }
    code, out, _ = run("--help")
    assert code == 0
    assert "train_batch_size" in out


def test_what_cannot_be_used_is_warned_of_or_refused(run: Run, tmp_path: Path, tiny_sd: Path, pictures: Path) -> None:
    coco = json.loads((pictures / "annotations.json").read_text())
    coco["annotations"].append({**coco["annotations"][0], "bbox": [1, 1, 0, 5]})
    (tmp_path / "data").mkdir()
    for file in pictures.iterdir():
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(coco))
    given = ("--base", tiny_sd, "--data", tmp_path / "data", "--output", tmp_path / "out", "--device", "cpu")
    code, _, err = run(*given, "--strict")
    assert (code, "nothing lies inside" in err) == (2, True)
    code, _, err = run(*given, "--max_train_steps", 1, "--num_bins", 16)
    assert code == 0, err
    count = len(coco["annotations"])
    assert err.startswith(f"Warning: 1 of {count} annotations in ")
    (warning,) = json.loads((tmp_path / "out" / "training.json").read_text())["warnings"]
    assert warning in err
