"""The pages docs/security.md and docs/api.md are complete and true; dependencies have the floors that they name."""

import re
import tomllib
from pathlib import Path

import pytest
from studio_client import settings_in

from cloisonne.studio.app import create_app

ROOT = Path(__file__).resolve().parents[2]
SECURITY = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", SECURITY, re.M)
FLOORS = {
    "torch": (2, 11),
    "transformers": (5, 3),
    "starlette": (1, 0, 1),
    "python-multipart": (0, 0, 27),
    "h11": (0, 16),
}


def test_every_attack_case_has_its_row() -> None:
    assert [int(number) for number, *_ in ROWS] == list(range(1, 33))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_names_tests_that_exist(row: tuple[str, str, str, str]) -> None:
    named = re.findall(r"`([^`]+)`", row[3])
    assert named
    file = ""
    for one in named:
        own, _, test = one.partition("::")
        file = own or file
        path = ROOT / file if file.startswith("tests/") else ROOT / "tests" / "studio" / file
        assert path.exists(), one
        assert not test or re.search(rf"^(async )?def {test}\(", path.read_text(encoding="utf-8"), re.M), one


def requirements() -> dict[str, tuple[int, ...]]:
    """The lowest version of each dependency, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *project["optional-dependencies"]["studio"]]
    found = (re.match(r"([\w-]+)>=([\d.]+)", text) for text in texts)
    return {match[1]: tuple(map(int, match[2].split("."))) for match in found if match}


@pytest.mark.parametrize("name", FLOORS)
def test_floors_of_dependencies(name: str) -> None:
    assert requirements()[name] >= FLOORS[name]
    pinned = re.search(rf"^{name}==([\d.]+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned is not None
    assert tuple(map(int, pinned[1].split("."))) >= FLOORS[name]


def test_the_server_needs_few_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {re.split(r"[>=<\[]", text)[0] for text in project["optional-dependencies"]["studio"]}
    assert names == {"fastapi", "starlette", "python-multipart", "uvicorn", "h11", "itsdangerous", "platformdirs"}


def test_every_route_has_a_call_in_the_docs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    calls = [line for line in page.splitlines() if line.startswith("curl")]
    for path, methods in create_app(settings_in(tmp_path)).app.openapi()["paths"].items():  # type: ignore[attr-defined]
        address = re.escape("$URL" + path.replace("{name}", "builtin")) + r"(?![\w/])"
        address = address.replace(r"\{job\}", r"\$JOB").replace(r"\{picture\}", r"\$(PICTURE|MASK)")
        found = [line for line in calls if re.search(address, line)]
        for method in methods:
            marks = {"get": "", "delete": "-X DELETE", "post": r"-d |-F ", "put": "-X PUT"}[method]
            own = [line for line in found if re.search(marks, line)] if marks else found
            own = own if marks else [line for line in own if not re.search(r"-X| -d | -F ", line)]
            assert own, (method, path)
