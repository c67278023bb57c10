"""A benchmark that is stopped keeps its items, and the message names the folder and how to resume."""

import sys
from pathlib import Path
from typing import Any

import pytest

from cloisonne.cli.main import main

BENCHMARKS = ("layouts", "control", "exemplars", "edits", "translations", "mixed")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_ctrl_c_names_the_folder_of_the_finished_items(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"cloisonne.bench.{name}.{name}", interrupted)
    monkeypatch.setattr(sys, "argv", ["cloisonne", "evaluate", name, "-o", str(tmp_path / "results")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    _, err = capsys.readouterr()
    assert f'Stopped; the finished items are kept in "{tmp_path / "results"}". Run the same command again' in err
    assert "Cancelled" not in err
