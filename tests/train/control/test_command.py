"""``cloisonne train control`` as a user meets it."""

import json
from pathlib import Path

import pytest
from trained import Run

from cloisonne.models.load import load

COMMAND = ("train", "control")


def test_pictures_train_it_and_it_goes_on(run: Run, tmp_path: Path, tiny_sd: Path, pictures: Path) -> None:
    """Under diffusers' names for the options, with dashes as with underscores."""
    given = ("--pretrained_model_name_or_path", tiny_sd, "--train_data_dir", pictures, "--output_dir", tmp_path / "out")
    more = ("--kind", "sobel", "--x0-loss", "laplacian", "--normalize_by_area", "--train_batch_size", 2)
    code, out, err = run(*given, *more, "--device", "cpu", "--max-train-steps", 1)
    assert code == 0, err
    assert out.endswith(f"Adapter written to {tmp_path / 'out'}\n")
    assert err.startswith("step 1 of 1: loss ")
    made = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (made["settings"]["x0_loss"], made["settings"]["normalize_by_area"]) == ("laplacian", True)
    code, _, err = run(*given, *more, "--device", "cpu", "--max_train_steps", 2)
    assert code == 2
    assert "--resume" in err
    code, _, err = run(*given, *more, "--device", "cpu", "--max_train_steps", 2, "--resume")
    assert (code, err.split(":")[0]) == (0, "step 2 of 2")
    assert list(load(tiny_sd, adapters={"sobel": tmp_path / "out"}).adapters) == ["sobel"]


@pytest.mark.parametrize(
    ("data", "more", "about"),
    [
        ("nowhere", (), "no folder"),
        (None, ("--seed", "-1"), "--seed is -1"),
        (None, ("--kind", "depth"), '--kind is "depth"; choose one of canny, sobel, color'),
        (None, ("--mask", "some"), '--mask is "some"'),
        (None, ("--masked", "some"), '--masked is "some"'),
        (None, ("--x0_loss", "some"), '--x0_loss is "some"'),
        (None, ("--x0_schedule", "some"), '--x0_schedule is "some"'),
        (None, ("--timesteps", "some"), '--timesteps is "some"'),
        (None, ("--x0_weight", "-1"), "--x0_weight is -1.0"),
        (None, ("--x0_weight", "nan"), "--x0_weight is nan"),
        (None, ("--num_res_blocks", "0"), "--num_res_blocks is 0"),
        (None, ("--proportion_empty_prompts", "2"), "--proportion_empty_prompts is 2.0"),
        (None, ("--base", "nowhere"), "nowhere"),
        (None, ("--adapter_model_name_or_path", "nowhere"), 'no adapter "nowhere"'),
        (None, ("--resume_from_checkpoint", "nowhere"), "not a training checkpoint"),
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
