"""The script that rebuilds the family calls commands that exist, in order, and replaces nothing that does not fit."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from cloisonne.cli.main import app
from cloisonne.models.builtin import BUILTIN
from cloisonne.train.builtin.family import finished

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rebuild() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rebuild", ROOT / "scripts" / "rebuild.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(rebuild: ModuleType, *words: str) -> Namespace:
    return rebuild.parser().parse_args(["--out", "there", "--minutes", "5", *words])


def understood(words: list[str]) -> dict[str, Any]:
    """What the command line makes of it; a usage error if it does not understand."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("cloisonne", words)
    args = [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        name, command, args = command.resolve_command(context, args)
        context = command.make_context(name, args, parent=context)
        args = [*getattr(context, "_protected_args", ()), *context.args]
    return context.params


def test_commands_are_understood(rebuild: ModuleType) -> None:
    asked = options(rebuild, "--device", "cuda", "--slice-minutes", "8", "--limit", "7", "--begin", "builtin")
    trained = understood(rebuild.training(asked)[3:])
    assert trained["minutes"] == 5
    assert trained["slice_minutes"] == 8
    assert trained["begin"] == "builtin"
    assert understood(rebuild.training(options(rebuild))[3:])["begin"] is None
    measured = [understood(command[3:]) for command in rebuild.measuring(asked)]
    assert len(measured) == len({str(one["out"]) for one in measured}) == 6
    assert all(one["limit"] == 7 and one["device"] == "cuda" for one in measured)
    assert understood(rebuild.measuring(options(rebuild))[0][3:])["limit"] is None


def test_only_a_finished_family_goes_into_the_package(rebuild: ModuleType, tmp_path: Path, monkeypatch) -> None:
    assert finished(BUILTIN)
    assert not finished(tmp_path)
    called: list[list[str]] = []
    monkeypatch.setattr(rebuild, "call", called.append)
    monkeypatch.setattr("sys.argv", ["rebuild.py", "--out", str(tmp_path), "--minutes", "5"])
    rebuild.main()
    assert [command[3:5] for command in called] == [["train", "family"]]


def test_a_family_that_is_too_large_replaces_nothing(rebuild: ModuleType, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.safetensors").write_bytes(b"12345678")
    (tmp_path / "weights").mkdir()
    monkeypatch.setattr(rebuild, "BUILTIN", tmp_path / "weights")
    monkeypatch.setattr(rebuild, "MOST_BYTES", 4)
    with pytest.raises(SystemExit, match="nothing was replaced"):
        rebuild.install(tmp_path / "new")
    monkeypatch.setattr(rebuild, "MOST_BYTES", 40)
    rebuild.install(tmp_path / "new")
    assert (tmp_path / "weights" / "a.safetensors").is_file()
