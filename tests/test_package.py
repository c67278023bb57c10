"""The package: what it depends on, what its extras hold, and what the wheel contains."""

import ast
import hashlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

import cloisonne.extras
from cloisonne.cli.main import app
from cloisonne.errors import CapabilityError
from cloisonne.eval.detection.annotations import read_object
from cloisonne.eval.metrics.quality import Mixture
from cloisonne.extras import EXTRAS, check_extra

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "cloisonne"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "pydantic_core": "pydantic",
}
"""Packages by module, where the names differ."""
NOT_IMPORTED = {"ray", "h11", "python-multipart", "scipy", "gguf", "psd-tools"}
"""Imported by name alone, by uvicorn, by fastapi and by transformers."""


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, lines)}


BASE = requirements(PROJECT["dependencies"])
OPTIONAL = {extra: requirements(lines) for extra, lines in PROJECT["optional-dependencies"].items()}
PINS = requirements(
    [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
)


def third_party(path: Path) -> set[str]:
    """The packages that a module of cloisonne imports: everywhere, in functions and for types too."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    libraries = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"cloisonne"}
    return {canonicalize_name(PACKAGES.get(library, library)) for library in libraries}


IMPORTED = {path.relative_to(SOURCE).as_posix(): third_party(path) for path in sorted(SOURCE.rglob("*.py"))}
"""By file of cloisonne: the packages that it imports."""


def part(module: str) -> str:
    """The folder of a file; a file of its own is its own part."""
    return module.partition("/")[0]


@pytest.mark.parametrize("module", [module for module, packages in IMPORTED.items() if packages - BASE.keys()])
def test_what_is_imported_is_declared(module: str) -> None:
    """A part named as an extra may import what the extra holds, every other part the base alone."""
    assert IMPORTED[module] - BASE.keys() <= OPTIONAL.get(part(module), {}).keys()


@pytest.mark.parametrize("package", BASE)
def test_the_base_has_no_package_of_an_extra_alone(package: str) -> None:
    users = {part(module) for module, packages in IMPORTED.items() if package in packages}
    assert users - {"train", "eval", "bench", "studio", "world"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_extras_hold_what_they_need(extra: str) -> None:
    held = OPTIONAL[extra].keys()
    assert {canonicalize_name(package) for package in EXTRAS[extra].values()} == held
    used = {package for module, packages in IMPORTED.items() if part(module) == extra for package in packages}
    assert held - NOT_IMPORTED <= used
    assert not held & BASE.keys()


def test_every_extra_but_those_of_developers_is_in_the_table() -> None:
    assert {*EXTRAS, "docs", "dev"} == OPTIONAL.keys()


@pytest.mark.parametrize(
    "package", sorted({*BASE, *(name for extra in OPTIONAL.values() for name in extra)} - {"cloisonne"})
)
def test_every_dependency_is_pinned_inside_its_bounds(package: str) -> None:
    wanted = next(one[package] for one in (BASE, *OPTIONAL.values()) if package in one)
    (pin,) = PINS[package].specifier
    assert pin.operator == "=="
    assert wanted.specifier.contains(pin.version)


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_an_error_with_the_command(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = list(EXTRAS[extra])[-1]
    monkeypatch.setattr(cloisonne.extras, "find_spec", lambda module: None if module == gone else object())
    package = EXTRAS[extra][gone]
    expected = rf'^This needs {package}, which is not installed; run: pip install "cloisonne\[{extra}\]"$'
    with pytest.raises(CapabilityError, match=expected):
        check_extra(extra, "This")
    check_extra(extra, "This", *[module for module in EXTRAS[extra] if module != gone][:1] or ["another"])


COMMANDS = {
    "studio": ("studio", "--no-browser"),
    "train": ("train", "reco", "--base", "builtin", "--data", "world", "--output", "trained"),
}


@pytest.mark.parametrize("extra", COMMANDS)
def test_commands_name_their_missing_extra(extra: str, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloisonne.extras, "find_spec", lambda module: None if module in EXTRAS[extra] else object())
    refused = CliRunner().invoke(app, COMMANDS[extra]).exception
    assert isinstance(refused, CapabilityError)
    assert str(refused).endswith(f'run: pip install "cloisonne[{extra}]"')
    assert not (workdir / "trained").exists()


@pytest.mark.parametrize(
    "evaluated",
    [
        pytest.param(lambda folder: read_object(folder / "layouts.yaml", "layouts"), id="YAML"),
        pytest.param(lambda folder: Mixture.fit(np.zeros((8, 2))), id="quality"),
    ],
)
def test_evaluations_name_their_missing_extra(
    evaluated: Callable[[Path], object], workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workdir / "layouts.yaml").write_text("{}")
    monkeypatch.setattr(cloisonne.extras, "find_spec", lambda module: None)
    with pytest.raises(CapabilityError, match=r'run: pip install "cloisonne\[eval\]"$'):
        evaluated(workdir)


def test_versions_agree() -> None:
    """The changelog begins with the version, dated if it is a release; the nodes of ComfyUI have it, and need it."""
    version = PROJECT["version"]
    release = version.partition(".dev")[0]
    heading = next(line for line in (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines() if line.startswith("## "))
    assert re.fullmatch(rf"## {re.escape(release)} \((\d{{4}}-\d\d-\d\d|unreleased)\)", heading)
    assert heading.endswith("(unreleased)") == (version != release)
    nodes = tomllib.loads((ROOT / "comfyui" / "pyproject.toml").read_text("utf-8"))["project"]
    assert nodes["version"] == release
    assert nodes["dependencies"] == (ROOT / "comfyui" / "requirements.txt").read_text("utf-8").split()
    assert Requirement(nodes["dependencies"][0]).specifier.contains(version, prereleases=True)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it; with the tools of this environment, offline."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.slow
def test_the_wheel_is_the_package_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        found = {name: digest(archive.read(name)) for name in archive.namelist()}
    about = {name for name in found if ".dist-info/" in name}
    assert {name.partition("/")[2] for name in about} >= {"METADATA", "licenses/LICENSE", "licenses/NOTICE"}
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    expected = {path.relative_to(SOURCE.parent).as_posix(): digest(path.read_bytes()) for path in files}
    assert {name: value for name, value in found.items() if name not in about} == expected
    for needed in ("py.typed", "studio/static/index.html", "models/weights/family.json", "world/glyphs.txt"):
        assert f"cloisonne/{needed}" in found


@pytest.mark.slow
def test_the_wheel_names_the_extras(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        about = Parser().parsestr(archive.read(name).decode())
    assert about["Version"] == PROJECT["version"]
    assert about["License-Expression"] == "Apache-2.0"
    assert set(about.get_all("Provides-Extra", [])) == OPTIONAL.keys()
    lines = map(Requirement, about.get_all("Requires-Dist", []))
    assert {canonicalize_name(line.name) for line in lines if line.marker is None} == BASE.keys()


@pytest.mark.slow
def test_the_sdist_has_the_tests_and_the_source_of_the_page(dist: Path) -> None:
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "constraints.txt", "LICENSE", "NOTICE", "Makefile", "tests/test_package.py"} <= names
    assert {"page/package.json", "page/src/main.tsx"} <= names
    assert not [
        name for name in names if name.startswith((".venv", ".font", ".ci", "dist", "runs", "page/node_modules"))
    ]
