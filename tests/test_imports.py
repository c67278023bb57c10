"""Imports point one way: every import statement of the package is read, and any other arrow fails.

``python tests/test_imports.py`` (``make imports``) prints the parts of the package by floors, the highest first.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "cloisonne").rglob("*.py"))
}

LAYERS = {
    "errors": set(),
    "cache_folder": set(),
    "product_rates": set(),
    "extras": {"errors"},
    "scene": {"errors"},
    "core": {"errors"},
    "models": {"errors", "cache_folder", "product_rates", "scene", "core"},
    "methods": {"errors", "scene", "core", "models"},
    "world": {"errors", "cache_folder", "scene"},
    "eval": {"errors", "extras", "scene", "core", "models", "methods", "world"},
    "train": {"errors", "product_rates", "scene", "core", "models", "methods", "world", "eval"},
    "pipelines": {"errors", "extras", "scene", "core", "models", "methods", "eval"},
    "studio": {"errors", "scene", "models", "methods", "pipelines"},
    "bench": {"errors", "scene", "core", "models", "methods", "world", "eval", "train", "pipelines"},
}
"""What each part may import from the others."""

KNOW_EVERYTHING = {"cli", "__main__", ""}
"""What may import any part, "" being the package's own __init__; none of the parts may import these."""

TENSOR_LIBRARIES = {"torch", "diffusers", "transformers", "accelerate", "peft"}


def imported(module: str, source: str, is_package: bool) -> Iterator[str]:
    """The full names that ``source``, the text of ``module``, imports: everywhere, in functions and for types too."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            origin = ".".join(part for part in (above, node.module) if part)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, source: str, is_package: bool = False) -> list[str]:
    """The imports in ``source`` that ``module`` may not have."""
    return [name for name in imported(module, source, is_package) if not allowed(module, name)]


def allowed(module: str, name: str) -> bool:
    """Whether ``module``, such as cloisonne.scene.region, may import ``name``, such as cloisonne.errors.SceneError."""
    layer, file = (*module.split(".")[1:], "", "")[:2]
    library, _, inside = name.partition(".")
    if layer in KNOW_EVERYTHING:
        return True
    if library != "cloisonne":
        return third_party_allowed(layer, library)
    target, target_file = (*inside.split("."), "")[:2]
    if target != layer:
        return target in LAYERS[layer]
    if layer == "methods":
        return method_allowed(file, target_file)
    return True


def third_party_allowed(layer: str, library: str) -> bool:
    """The scene knows no tensors, and the core knows nothing but torch and the shapes of its tensors."""
    if layer == "scene":
        return library not in TENSOR_LIBRARIES
    if layer == "core":
        return library in ("torch", "jaxtyping") or library in sys.stdlib_module_names
    return True


def method_allowed(file: str, target_file: str) -> bool:
    """A method or condition stands alone on what all share; only the package, the table and its readers see others."""
    shared = ("base", "context", "contribution", "encoder", "layout", "answers")
    return target_file in shared or file in ("", "kinds", "compile", "region_options", "baselines")


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    path = MODULES[module]
    assert wrong_arrows(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cloisonne.scene.shapes.masks", "import torch"),
        ("cloisonne.scene.shapes.masks", "def f():\n    from transformers import CLIPModel"),
        ("cloisonne.scene.shapes.masks", "from cloisonne.core.plan import View"),
        ("cloisonne.scene.region", "from ..core import plan"),
        ("cloisonne.scene.shapes.masks", "from cloisonne import Scene"),
        ("cloisonne.core.plan", "import numpy"),
        ("cloisonne.core.plan", "from cloisonne.scene import Scene"),
        ("cloisonne.models.unet.denoiser", "from cloisonne.methods import base"),
        ("cloisonne.methods.reco", "from cloisonne.methods.control import edges"),
        ("cloisonne.methods.reco", "from .baselines import words"),
        ("cloisonne.methods.reco", "from . import control"),
        ("cloisonne.methods.reco", "import cloisonne.world.draw"),
        ("cloisonne.world.draw", "from cloisonne.core import noise"),
        ("cloisonne.eval.judge", "from cloisonne.train import loop"),
        ("cloisonne.eval.judge", "from cloisonne.pipelines.generate import generate"),
        ("cloisonne.errors", "import cloisonne.scene"),
    ],
)
def test_wrong_arrow_is_found(module: str, source: str) -> None:
    assert len(wrong_arrows(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "cloisonne.scene.shapes.masks",
            "import numpy\nfrom PIL import Image\nfrom cloisonne.errors import SceneError",
        ),
        ("cloisonne.scene.region", "from . import values\nfrom ..errors import SceneError"),
        ("cloisonne.core.plan", "import math\nimport torch.nn.functional as F\nfrom cloisonne.core.noise import Noise"),
        ("cloisonne.methods.reco", "from cloisonne.methods.base import Method\nfrom cloisonne.models import load"),
        ("cloisonne.methods.baselines", "from .reco import Reco"),
        ("cloisonne.train.loop", "import torch\nfrom cloisonne.world import draw"),
        (
            "cloisonne.cli.main",
            "from cloisonne.pipelines.generate import generate\nfrom cloisonne import __version__, eval",
        ),
        ("cloisonne", "from cloisonne.pipelines.generate import generate"),
    ],
)
def test_right_arrow_passes(module: str, source: str) -> None:
    assert wrong_arrows(module, source) == []


def test_package_init_resolves_its_own_relative_imports() -> None:
    assert list(imported("cloisonne.scene", "from .region import f", is_package=True)) == ["cloisonne.scene.region.f"]
    assert wrong_arrows("cloisonne.methods", "from .reco import Reco", is_package=True) == []


def module_of(name: str) -> str | None:
    """The module of the package in which an imported name lies."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def test_no_circle() -> None:
    """Imports inside functions and for types count, too; a package's own __init__ is no module of it."""
    arrows: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        is_package = path.name == "__init__.py"
        found = imported(module, path.read_text(encoding="utf-8"), is_package)
        targets = {target for name in found if (target := module_of(name)) and target != module}
        arrows[module] = {target for target in targets if MODULES[target].name != "__init__.py"}
    while leaves := {module for module, targets in arrows.items() if not targets & arrows.keys()}:
        arrows = {module: targets for module, targets in arrows.items() if module not in leaves}
    while roots := arrows.keys() - {target for targets in arrows.values() for target in targets}:
        arrows = {module: targets for module, targets in arrows.items() if module not in roots}
    assert not arrows, f"these import one another: {sorted(arrows)}"


def arrows_of_parts() -> dict[str, set[str]]:
    """The parts of the package and what each imports of the others; "cloisonne" is the package's own __init__."""
    arrows: dict[str, set[str]] = {}
    for module, path in MODULES.items():
        part = (*module.split("."), "")[1] or "cloisonne"
        names = imported(module, path.read_text(encoding="utf-8"), path.name == "__init__.py")
        inside = [name.split(".")[1:] for name in names if name.split(".")[0] == "cloisonne"]
        targets = {own[0] if own and own[0] in {*LAYERS, *KNOW_EVERYTHING} else "cloisonne" for own in inside}
        arrows.setdefault(part, set()).update(targets - {part})
    return arrows


def floors(arrows: dict[str, set[str]]) -> list[list[str]]:
    """The parts by floors, the lowest first: each stands on the one above the highest that it imports.

    Raises ValueError for parts that import one another, which have no floor.
    """
    found: list[list[str]] = []
    left = dict(arrows)
    while left:
        below = {part for floor in found for part in floor}
        floor = sorted(part for part, targets in left.items() if targets <= below)
        if not floor:
            raise ValueError(f"These import one another: {', '.join(sorted(left))}.")
        found.append(floor)
        left = {part: targets for part, targets in left.items() if part not in floor}
    return found


def picture() -> str:
    """The floors, the highest first, and what each part imports."""
    arrows = arrows_of_parts()
    lines = [
        f"{number}  {part:10} -> {' '.join(sorted(arrows[part])) or 'nothing'}"
        for number, floor in reversed(list(enumerate(floors(arrows), 1)))
        for part in floor
    ]
    return "\n".join(lines)


def test_the_docs_have_the_picture_of_the_imports() -> None:
    page = (ROOT.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert f"```\n{picture()}\n```" in page


def test_a_way_back_has_no_floor() -> None:
    assert floors({"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}}) == [["a"], ["b", "d"], ["c"]]
    with pytest.raises(ValueError, match=r"import one another: b, c\."):
        floors({"a": set(), "b": {"c"}, "c": {"b", "a"}})


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}), ids=lambda path: path.name)
def test_folders_are_small(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= 21


def test_every_part_has_its_place() -> None:
    """A new part of the package is put into LAYERS on purpose."""
    parts = {module.split(".")[1] for module in MODULES if "." in module}
    assert parts <= LAYERS.keys() | KNOW_EVERYTHING


def test_scene_runs_without_torch() -> None:
    heavy = f"sorted({TENSOR_LIBRARIES!r} & sys.modules.keys())"
    program = f"import sys, cloisonne.scene; sys.exit(' '.join({heavy}) or None)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, f"import cloisonne.scene imports {run.stderr}"


if __name__ == "__main__":
    print(picture())
