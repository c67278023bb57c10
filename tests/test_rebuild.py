"""The script that rebuilds the family calls commands that exist, in order, and replaces nothing that does not fit."""

import importlib
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
from command_lines import understood

import tables
from cloisonne.models.builtin import BUILTIN
from cloisonne.train.builtin.family import finished

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rebuild() -> ModuleType:
    return importlib.import_module("rebuild")


def options(rebuild: ModuleType, *words: str) -> Namespace:
    return rebuild.parser().parse_args(["--out", "there", "--minutes", "5", *words])


def test_commands_are_understood(rebuild: ModuleType) -> None:
    asked = options(rebuild, "--device", "cuda", "--slice-minutes", "8", "--limit", "7", "--begin", "builtin")
    trained = understood(rebuild.training(asked)[3:])
    assert trained["minutes"] == 5
    assert trained["slice_minutes"] == 8
    assert trained["begin"] == "builtin"
    assert understood(rebuild.training(options(rebuild))[3:])["begin"] is None
    measured = tables.parser().parse_args(rebuild.measuring(asked)[2:])
    assert (measured.verb, measured.limit, measured.device) == ("run", 7, "cuda")
    measured = tables.parser().parse_args(rebuild.measuring(options(rebuild))[2:])
    assert (measured.out, measured.limit, measured.device) == (Path("there/tables"), None, "")
    assert {"layouts", "exemplars", "mixed"} <= set(measured.only), "what depends on the weights"
    assert not {"regions", "checkpoints-sd15"} & set(measured.only), "times of networks of any weights"


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
