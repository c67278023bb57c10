"""Options shared by several commands, and what they load."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import typer
from lora_files import lora_weights, peft_file
from PIL import Image
from tiny import write_exemplar
from typer.testing import CliRunner

from cloisonne.cli.grouped import grouped
from cloisonne.cli.main import app
from cloisonne.cli.options import Drawing, Loading
from cloisonne.errors import CapabilityError, SceneError, on_command_line
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene


def test_groups_are_spread_into_options() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Two:
        first: Annotated[int, typer.Option(help="One.")] = 1
        second: Annotated[str | None, typer.Option("--other")] = None

    seen: list[object] = []
    small = typer.Typer()

    @small.command()
    @grouped
    def run(name: Annotated[str, typer.Argument()], two: Two, last: bool = False) -> None:
        """Record the arguments."""
        seen.append((name, two, last))

    result = CliRunner().invoke(small, ["x", "--first", "3", "--other", "y", "--last"])
    assert result.exit_code == 0, result.output
    assert CliRunner().invoke(small, ["x"]).exit_code == 0
    assert seen == [("x", Two(first=3, second="y"), True), ("x", Two(), False)]
    assert "--two" not in CliRunner().invoke(small, ["--help"]).output


@pytest.mark.parametrize("name", ["generate", "edit", "fill", "paint", "translate", "sweep", "explain"])
def test_every_command_that_draws_has_the_options_of_drawing(name: str) -> None:
    """Under both of their names, those of diffusers included."""
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    found = {option for parameter in command.params for option in parameter.opts}
    assert {f"--{field.name.replace('_', '-')}" for field in fields(Drawing)} <= found


def test_loading_hands_everything_on(tiny_sd: Path) -> None:
    model = Loading(dtype="bfloat16", vae_tiling=True).load(str(tiny_sd))
    assert model.dtype == torch.bfloat16
    assert model.vae.module.use_tiling


def test_regional_loras_have_names(tiny_sd: Path, tmp_path: Path) -> None:
    file = peft_file(tmp_path / "x=1.safetensors", lora_weights(tiny_sd))
    assert list(Loading(regional_lora=[f"ink={file}"]).load(str(tiny_sd)).net.loras) == ["ink"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "int8"}, '--dtype is "int8"; choose one of float32'),
        ({"prediction": "x"}, '--prediction is "x"'),
        ({"adapter": ["canny"]}, '--adapter is "canny"; give the kind of control and a path, as in canny=folder'),
        ({"regional_lora": ["=x"]}, '--regional-lora is "=x"; give a name .* and a path, as in ink=file'),
    ],
)
def test_unknown_values_are_refused(tiny_sd: Path, given: dict[str, Any], message: str) -> None:
    with on_command_line(), pytest.raises((SceneError, CapabilityError), match=message):
        Loading(**given).load(str(tiny_sd))


def test_paint_writes_an_image_that_generates_again(workdir: Path) -> None:
    write_exemplar(workdir / "pbe")
    Image.new("RGB", (64, 64), "green").save("photo.png")
    Image.new("RGB", (30, 20), "red").save("cat.png")
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 56, 56))
    mask.save("hole.png")
    given = ["photo.png", "--mask", "hole.png", "--exemplar", "cat.png", "--similarity", "3", "--seed", "1"]
    result = CliRunner().invoke(app, ["paint", *given, "--model", "pbe", "--steps", "2", "-o", "out.png"])
    assert result.exit_code == 0, result.output
    result = CliRunner().invoke(app, ["generate", "out.png", "--model", "pbe", "-o", "again.png"])
    assert result.exit_code == 0, result.output
    assert Path("out.png").read_bytes() == Path("again.png").read_bytes()
    raw = CliRunner().invoke(
        app, ["paint", *given, "--model", "pbe", "--steps", "2", "--no-composite", "-o", "raw.png"]
    )
    assert raw.exit_code == 0, raw.output
    assert Image.open("raw.png").getpixel((0, 0)) != (0, 128, 0)
    assert Image.open("out.png").getpixel((0, 0)) == (0, 128, 0)


def test_control_writes_a_map(workdir: Path) -> None:
    photo = Image.new("RGB", (64, 48))
    photo.paste((255, 255, 255), (16, 8, 40, 40))
    photo.save("photo.png")
    for kind, mode in {"canny": "L", "sobel": "L", "color": "RGB"}.items():
        result = CliRunner().invoke(app, ["control", "photo.png", "--kind", kind, "-o", f"{kind}.png"])
        assert result.exit_code == 0, result.output
        with Image.open(f"{kind}.png") as drawn:
            assert (drawn.size, drawn.mode) == ((64, 48), mode)
            assert kind != "canny" or np.unique(np.asarray(drawn)).tolist() == [0, 255]
    refused = CliRunner().invoke(app, ["control", "photo.png", "--kind", "depth", "-o", "depth.png"])
    assert isinstance(refused.exception, SceneError)
    again = CliRunner().invoke(app, ["control", "photo.png", "-o", "canny.png"])
    assert "canny.png" in str(again.exception)


def test_adapters_are_given_by_kind(tiny_sd: Path) -> None:
    with pytest.raises(SceneError, match='--adapter is "canny"; give the kind of control and a path'):
        Loading(adapter=["canny"]).load(str(tiny_sd))


def test_a_model_spec_generates_as_its_options_do(workdir: Path, tiny_sd: Path) -> None:
    peft_file(workdir / "ink.safetensors", lora_weights(tiny_sd))
    Path("models").mkdir()
    Path("models/inked.json").write_text(json.dumps({"source": str(tiny_sd), "lora": [["../ink.safetensors", 0.5]]}))
    given = ["generate", "--caption", "a cat", "--seed", "1", "--steps", "2", "--width", "64", "--height", "64"]
    ways = {
        "json": ["--model", "models/inked.json"],
        "options": ["--model", str(tiny_sd), "--lora", "ink.safetensors:0.5"],
    }
    for name, options in ways.items():
        result = CliRunner().invoke(app, [*given, *options, "-o", f"{name}.png"])
        assert result.exit_code == 0, result.output
    ours = load(tiny_sd, lora=("ink.safetensors", 0.5))
    generate(Scene.load("json.png"), ours).save("python.png")
    assert len({Path(f"{name}.png").read_bytes() for name in (*ways, "python")}) == 1
