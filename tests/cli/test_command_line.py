"""The command line in this process: options next to scene files, help, warnings, and the wording of refusals."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

import cloisonne as cl
from cloisonne.cli.main import app
from cloisonne.errors import CloisonneError, SceneError, on_command_line, spelled

DATA = {
    "version": 1,
    "caption": "on the beach",
    "seed": 3,
    "steps": 1,
    "regions": [{"name": "pet", "box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}],
}
Run = Callable[..., Result]


@pytest.fixture
def run(workdir: Path, tiny_family: Path) -> Run:
    """Run a command with the tiny family, in a folder with a scene, a photo and a mask."""
    Path("scene.json").write_text(json.dumps(DATA))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save("photo.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save("mask.png")

    def called(*arguments: Any) -> Result:
        own = ["--model", str(tiny_family)] if arguments[0] in ("generate", "fill", "paint", "sweep", "explain") else []
        return CliRunner().invoke(app, [*map(str, arguments), *own])

    return called


def report(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def commands() -> list[tuple[str, ...]]:
    """The names of all commands."""

    def below(group: Any, names: tuple[str, ...]) -> list[tuple[str, ...]]:
        found = [names]
        for name, command in getattr(group, "commands", {}).items():
            found += below(command, (*names, name))
        return found

    return below(typer.main.get_command(app), ())


@pytest.mark.parametrize("names", commands())
def test_help_is_whole_in_80_columns(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(app, [*names, "--help"]).output
    command: Any = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "..." not in text.partition("\nCommands:")[2]
    spaced = " ".join(text.split())
    for parameter in command.params:
        if getattr(parameter, "hidden", False) or parameter.param_type_name != "option":
            continue
        assert all(name in text for name in parameter.opts)
        # Broken at hyphens, too.
        assert re.sub(r"\s", "", parameter.help) in re.sub(r"\s", "", spaced)


def test_a_box_is_a_mask(run: Run) -> None:
    """Of the same pixels."""
    given = ["photo.png", "--phrase", "a cat", "--seed", 1, "--steps", 1]
    assert run("fill", *given, "--mask", "mask.png", "-o", "mask-out.png").exit_code == 0
    assert run("fill", *given, "--box", "0.25,0.25,0.75,0.75", "-o", "box-out.png").exit_code == 0
    boxed, masked = (np.asarray(Image.open(f"{name}-out.png")) for name in ("box", "mask"))
    source = np.asarray(Image.open("photo.png"))
    outside = np.asarray(Image.open("mask.png")) == 0
    for result in (boxed, masked):
        assert (result[outside] == source[outside]).all()
        assert (result != source).any()


@pytest.mark.parametrize("command", ["fill", "paint"])
@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        ([], "neither --mask nor --box"),
        (["--mask", "mask.png", "--box", "0,0,1,1"], "both --mask and --box"),
        (["--box", "0,0,1"], '--box is "0,0,1"; give "x0,y0,x1,y1" with fractions of the image'),
        (["--box", "0,0,40,40"], "reaches outside the canvas"),
    ],
)
def test_one_shape_is_given(run: Run, command: str, shape: list[str], wrong: str) -> None:
    what = ["--phrase", "a cat"] if command == "fill" else ["--exemplar", "photo.png"]
    refused = run(command, "photo.png", *what, *shape, "-o", "out.png")
    assert isinstance(refused.exception, SceneError)
    assert wrong in str(refused.exception)


def test_a_range_of_seeds_gives_one_image_each(run: Run) -> None:
    several = report(run("generate", "scene.json", "--seed", "4-6", "-o", "several", "--json"))
    assert [one["seed"] for one in several["outputs"]] == [4, 5, 6]
    assert run("generate", "scene.json", "--seed", 5, "-o", "one.png").exit_code == 0
    assert Path("one.png").read_bytes() == Path("several/0001.png").read_bytes()
    filled = run("fill", "photo.png", "--mask", "mask.png", "--phrase", "x", "--steps", 1, "--seed", "1-2", "-o", "f")
    assert filled.exit_code == 0
    assert len(list(Path("f").iterdir())) == 2


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (["--seed", "x"], '--seed is "x"; give a whole number, or a range'),
        (["--seed", "5-4"], '--seed is "5-4"'),
        (["--seed", "1-99999"], "of at most 10000"),
        (["--seed", "-3"], '--seed is "-3"'),
        (["--seed", "1-3", "--num-images", "2"], "--seed 1-3 is 3 images, but --num-images is 2; leave one"),
    ],
)
def test_other_seeds_are_refused(run: Run, given: list[str], wrong: str) -> None:
    refused = run("generate", "scene.json", *given, "-o", "out")
    assert isinstance(refused.exception, SceneError)
    assert wrong in str(refused.exception)


@pytest.mark.parametrize("command", [["explain"], ["sweep", "-o", "x.png", "--sweep", "steps=1"]])
def test_a_range_of_seeds_is_refused_where_one_is_taken(run: Run, command: list[str]) -> None:
    refused = run(*command, "scene.json", "--seed", "1-3")
    assert "this command takes a single seed" in str(refused.exception)


def test_size_background_and_strength_without_a_file(run: Run) -> None:
    sized = report(run("generate", "scene.json", "--width", 72, "--height", 80, "-o", "sized.png", "--json"))
    assert (sized["scene"]["width"], sized["scene"]["height"]) == (72, 80)
    given = ["--caption", "at night", "--background", "photo.png", "--strength", 0.5, "--steps", 4]
    whole = report(run("generate", *given, "-o", "whole.png", "--json"))
    assert whole["forwards"] == 2
    boxed = report(run("generate", "scene.json", "--background", "photo.png", "-o", "boxed.png", "--json"))
    assert boxed["identical_outside"] is True


ALIASES = [
    ("steps", "num_inference_steps", 2),
    ("guidance", "guidance_scale", 3.0),
    ("negative", "negative_prompt", "x"),
]


@pytest.mark.parametrize(("field", "alias", "value"), ALIASES)
def test_names_of_diffusers_are_options(run: Run, field: str, alias: str, value: object) -> None:
    for name in (f"--{field}", f"--{alias}", f"--{alias.replace('_', '-')}"):
        made = report(run("generate", "scene.json", name, value, "-o", "out.png", "--overwrite", "--json"))
        assert made["scene"][field] == value
    both = run("generate", "scene.json", f"--{field}", value, f"--{alias}", value, "-o", "out.png", "--overwrite")
    assert isinstance(both.exception, SceneError)
    assert field in str(both.exception)


def test_a_line_with_the_seconds_ends_a_run(run: Run) -> None:
    for command in (
        ["generate", "scene.json", "-o", "a.png"],
        ["generate", "scene.json", "-o", "b.png", "--json"],
        ["fill", "photo.png", "--mask", "mask.png", "--phrase", "x", "--steps", 1, "-o", "c.png"],
        ["sweep", "scene.json", "-o", "d.png", "--sweep", "seed=1"],
    ):
        result = run(*command)
        assert result.exit_code == 0, result.output
        assert re.fullmatch(r"Done in \d+\.\d s\.", result.stderr.splitlines()[-1])
        assert "Done in" not in result.stdout


def test_warnings_are_printed_once(run: Run) -> None:
    long = {"name": "long", "box": [0, 0, 0.3, 1], "phrase": " ".join(["car"] * 50)}
    Path("crowded.json").write_text(json.dumps({**DATA, "regions": [long, {**long, "name": "lost"}]}))
    for command in (["generate", "-o", "out.png"], ["sweep", "-o", "sheet.png", "--sweep", "seed=1,2"]):
        result = run(*command, "crowded.json")
        assert result.exit_code == 0, result.output
        assert result.stderr.count('Warning: Region "lost" is left out, because it does not fit') == 1
        assert result.stderr.count("lost") == 1


def test_advice_names_options_or_arguments_of_its_surface(run: Run) -> None:
    assert spelled("overwrite=True", "--overwrite") == "overwrite=True"
    with on_command_line():
        assert spelled("overwrite=True", "--overwrite") == "--overwrite"
    assert run("generate", "scene.json", "-o", "out.png").exit_code == 0
    again = str(run("generate", "scene.json", "-o", "out.png").exception)
    assert "--overwrite" in again
    scene, model = "scene.json", cl.load("builtin")
    with pytest.raises(CloisonneError, match=r"overwrite=True") as caught:
        cl.generate(scene, model).save("out.png")
    assert "--" not in str(caught.value)


@pytest.mark.parametrize(
    "field", [{"exemplar": "photo.png"}, {"control": {"kind": "canny", "image": "photo.png"}}, {"lora": "ink"}]
)
def test_what_to_load_is_named_as_on_its_surface(run: Run, tiny_family: Path, field: dict[str, Any]) -> None:
    region = DATA["regions"][0] | field
    Path("asks.json").write_text(json.dumps({**DATA, "regions": [region]}))
    option = str(run("generate", "asks.json", "-o", "out.png").exception)
    assert re.search(r"--(exemplar-model|adapter|regional-lora)", option)
    assert "load(" not in option
    with pytest.raises(CloisonneError, match=r"load\(\.\.\., (exemplar|adapters|regional_lora)=") as caught:
        cl.generate("asks.json", tiny_family)
    assert "--" not in str(caught.value)
