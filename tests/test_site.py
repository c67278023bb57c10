"""The documentation site is built without a warning, and its plots are those of the records."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cloisonne

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "site.py", "--out", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "site"


def test_every_page_is_built(site: Path) -> None:
    listed = re.findall(r": ([\w/-]+)\.md$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert [page for page in listed if not (site / f"{page}.html").is_file()] == []


def test_links_within_the_site_resolve(site: Path) -> None:
    """Images, styles and pages of the built files, not of their sources; anchors by the builder's own check."""
    missing: list[tuple[str, str]] = []
    for page in site.rglob("*.html"):
        if page.name != "404.html":
            targets = re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8"))
            own = [target for target in targets if not re.match(r"[a-z]+:", target) and target != "."]
            missing += [(page.name, target) for target in own if not (page.parent / target).resolve().exists()]
    assert missing == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r'<(?:script|img)[^>]+src="https?:', text) == []
        assert re.findall(r'<link[^>]+rel="stylesheet"[^>]+href="https?:', text) == []


def test_the_references_have_every_name(site: Path) -> None:
    python = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert [name for name in cloisonne.__all__ if f'id="cloisonne.{name}"' not in python] == []
    assert ":class:" not in python
    assert ":func:" not in python
    commands = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert all(f"cloisonne {name}" in commands for name in ("generate", "train reco", "evaluate layouts"))


def test_plots_are_those_of_the_records() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "plots.py", "check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
