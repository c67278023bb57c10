"""``cloisonne train exemplar`` as a user meets it."""

import json
from pathlib import Path

import pytest
from trained import Run

from cloisonne.models.load import load

COMMAND = ("train", "exemplar")


def test_pictures_train_it_and_it_goes_on(run: Run, tmp_path: Path, tiny_sd: Path, pictures: Path, tower: Path) -> None:
    """Under diffusers' names for the options, with dashes as with underscores."""
    given = ("--pretrained_model_name_or_path", tiny_sd, "--train_data_dir", pictures, "--output_dir", tmp_path / "out")
    more = ("--image-encoder", tower, "--mapper_blocks", 2, "--train_batch_size", 2, "--device", "cpu", "--no-augment")
    code, out, err = run(*given, *more, "--max-train-steps", 1)
    assert code == 0, err
    assert out.endswith(f"Pipeline written to {tmp_path / 'out'}\n")
    assert err.startswith("step 1 of 1: loss ")
    assert json.loads((tmp_path / "out" / "training.json").read_text())["settings"]["augment"] is False
    code, _, err = run(*given, *more, "--max_train_steps", 2)
    assert code == 2
    assert "--resume" in err
    code, _, err = run(*given, *more, "--max_train_steps", 2, "--resume")
    assert (code, err.split(":")[0]) == (0, "step 2 of 2")
    assert load(tmp_path / "out").image_only


@pytest.mark.parametrize(
    ("data", "more", "about"),
    [
        ("nowhere", (), "no folder"),
        (None, ("--seed", "-1"), "--seed is -1"),
        (None, ("--context", "some"), '--context is "some"; choose one of pooled, all'),
        (None, ("--rank", "0"), "--rank is 0"),
        (None, ("--min_area", "2"), "--min_area is 2.0"),
        (None, ("--whole_mask_percent", "10"), "--whole_mask_percent is 10.0"),
        (None, ("--min_area", "0.75"), "75% to 80%"),
        (None, ("--image_encoder", "nowhere"), "nowhere"),
        (None, ("--base", "nowhere"), "nowhere"),
        (None, ("--resume_from_checkpoint", "nowhere"), "not a training checkpoint"),
    ],
)
def test_bad_input_is_one_sentence(
    run: Run,
    tmp_path: Path,
    tiny_sd: Path,
    pictures: Path,
    tower: Path,
    data: str | None,
    more: tuple[str, ...],
    about: str,
) -> None:
    given = ("--base", tiny_sd, "--data", data or pictures, "--output", tmp_path / "out", "--image_encoder", tower)
    code, out, err = run(*given, *more)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert about in err
    assert not (tmp_path / "out").exists()
