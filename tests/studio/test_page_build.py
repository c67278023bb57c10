"""What ships is built from ``page/``: the same sources and locked packages give the same bytes."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import openapi

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "page"
STATIC = ROOT / "src" / "cloisonne" / "studio" / "static"
NPM = shutil.which("npm")
MAX_BYTES = 600_000


def test_lock_file_names_every_package_by_its_hash_and_no_registry() -> None:
    locked = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    assert all("resolved" not in package for package in locked.values())
    assert all("integrity" in package for name, package in locked.items() if name)


def test_page_is_small_and_loads_nothing_from_elsewhere() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < MAX_BYTES
    html = (STATIC / "index.html").read_text()
    assert "http" not in html
    assert html.count("<script") == html.count('src="/static/') == 1
    assert "style=" not in html


def test_every_library_in_the_page_is_in_the_notice() -> None:
    """Their licences ask for it; signals-core is of signals."""
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8").lower()
    packages = json.loads((PAGE / "package.json").read_text())["dependencies"]
    names = {name.removesuffix("-preact").replace("@preact/", "preact ") for name in packages}
    assert [name for name in names if name not in notice] == []


def test_the_types_of_the_page_are_those_of_the_server() -> None:
    """Each answer in JSON is described; tests of the server compare what it answers with that (studio_client.py)."""
    described = json.loads(openapi.schema())
    assert json.loads((PAGE / "openapi.json").read_text())["components"] == described["components"]
    undescribed = [
        (path, method)
        for path, routes in described["paths"].items()
        for method, route in routes.items()
        for status, answer in route["responses"].items()
        if status.startswith("2") and "application/json" in answer.get("content", {})
        if "$ref" not in answer["content"]["application/json"]["schema"]
    ]
    assert undescribed == []


@pytest.mark.skipif(NPM is None, reason="npm is not installed: the page is not built again")
def test_build_gives_the_committed_bytes(tmp_path: Path) -> None:
    for file in [*PAGE.glob("*.*"), PAGE / "src", PAGE / "public", PAGE / "test"]:
        if file.is_dir():
            shutil.copytree(file, tmp_path / "page" / file.name)
        else:
            (tmp_path / "page").mkdir(exist_ok=True)
            shutil.copy(file, tmp_path / "page" / file.name)
    for command in (
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"],
        ["npm", "test"],
        ["npm", "run", "build"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path / "page", capture_output=True, text=True, env=os.environ | {"CI": "1"}, timeout=600
        )
        if command[1] == "ci" and "network" in done.stderr and done.returncode:
            pytest.skip("npm has no registry: the page is not built again")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    built = tmp_path / "src" / "cloisonne" / "studio" / "static"
    names = sorted(file.name for file in built.iterdir())
    assert names == sorted(file.name for file in STATIC.iterdir())
    assert [name for name in names if (built / name).read_bytes() != (STATIC / name).read_bytes()] == []
