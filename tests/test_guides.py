"""The commands of the start page and of the guides run as they are printed, one after the other in one folder."""

import shlex
from pathlib import Path

import pytest
from command_lines import command_lines
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.models.builtin import BUILTIN

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "guides").glob("*.md"))]
ELSEWHERE = ("path/to/", "cloisonne studio", "cloisonne doctor")
"""What needs a checkpoint of one's own or serves until it is stopped; ``doctor`` has tests of its own."""


@pytest.mark.slow
@pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run_as_printed(page: Path, workdir: Path) -> None:
    (workdir / "examples").symlink_to(ROOT / "examples")
    lines = [line for line in command_lines(page) if line.startswith("cloisonne ")]
    assert lines
    for line in lines:
        if not any(part in line for part in ELSEWHERE):
            _, *words = shlex.split(line, comments=True)
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{line}: {result.output}"
