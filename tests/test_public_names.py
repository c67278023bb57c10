"""What ``import cloisonne`` gives, and what it costs."""

import inspect
import pydoc
import subprocess
import sys
import typing
from pathlib import Path
from types import FunctionType

import pytest
import torch
from torch import Tensor

import cloisonne
from cloisonne.models.builtin import BUILTIN

PUBLIC = {name: getattr(cloisonne, name) for name in cloisonne.__all__}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if isinstance(value, FunctionType)}
VALUES = ("Evaluation", "Explanation", "Progress", "Result")
"""Classes whose fields and properties users read."""


@pytest.mark.parametrize("name", cloisonne.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(cloisonne, name).__name__ == name
    assert name in dir(cloisonne)
    assert inspect.getdoc(getattr(cloisonne, name))


def test_names_are_sorted_and_no_others_appear() -> None:
    assert cloisonne.__all__ == sorted(cloisonne.__all__)
    with pytest.raises(AttributeError, match="no attribute 'upscale'"):
        cloisonne.upscale  # noqa: B018


@pytest.mark.parametrize("first", ["", "from cloisonne import Scene, generate; import cloisonne.world.draw;"])
def test_dir_holds_the_public_names_alone(first: str) -> None:
    program = f"import cloisonne; {first} print(*dir(cloisonne))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in shown if not name.startswith("__")] == cloisonne.__all__
    assert all(name.endswith("__") for name in shown if name.startswith("_"))


@pytest.mark.parametrize("value", [cloisonne.Scene, cloisonne.Region])
def test_help_of_values_names_fields_and_plain_types(value: type) -> None:
    signature = inspect.signature(value)
    assert list(signature.parameters) == list(value.model_fields)  # type: ignore[attr-defined]
    assert "0x" not in str(signature)
    assert "Validator" not in str(signature)


def classes(hint: object) -> set[type]:
    """The classes in an annotation; of typed keywords, those of their values."""
    if typing.is_typeddict(hint):
        return {
            one for value in typing.get_type_hints(hint, localns={"torch": torch}).values() for one in classes(value)
        }
    found = {hint} if isinstance(hint, type) and not typing.get_args(hint) else set()
    origin = typing.get_origin(hint)
    found |= {origin} if isinstance(origin, type) else set()
    for argument in typing.get_args(hint):
        parts = argument if isinstance(argument, list) else [argument]
        found |= {one for part in parts for one in classes(part)}
    return found


def hints() -> dict[str, object]:
    """Annotations of the public functions, and of what users read of their results, by place."""
    found: dict[str, object] = {}
    for name, function in FUNCTIONS.items():
        found |= {f"{name}({key})": hint for key, hint in typing.get_type_hints(function).items()}
    known = PUBLIC | {"Tensor": Tensor}
    for name in VALUES:
        own = typing.get_type_hints(PUBLIC[name], localns=known)
        found |= {f"{name}.{key}": hint for key, hint in own.items() if not key.startswith("_")}
        for key, value in vars(PUBLIC[name]).items():
            if isinstance(value, property) and not key.startswith("_"):
                found[f"{name}.{key}"] = typing.get_type_hints(value.fget, localns=known).get("return")
    return found


@pytest.mark.parametrize(("place", "hint"), hints().items(), ids=hints())
def test_types_of_public_signatures_are_exported(place: str, hint: object) -> None:
    own = [one for one in classes(hint) if one.__module__.split(".")[0] == "cloisonne"]
    assert [one for one in own if PUBLIC.get(one.__name__) is not one] == []


def test_signatures_name_classes_of_the_package() -> None:
    """The law above is about something."""
    named = {one.__name__ for hint in hints().values() for one in classes(hint)}
    assert {"Scene", "Model", "Result", "Progress", "Sampler", "Refine", "Concept", "AttentionMaps"} <= named


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_model_follows_what_it_works_on(name: str) -> None:
    names = list(inspect.signature(FUNCTIONS[name]).parameters)
    if "model" in names:
        assert names[: names.index("model")] in (["scene"], ["scenes"], ["image", "mask"], ["source", "reference"])


def test_help_begins_with_an_example() -> None:
    text = pydoc.plain(pydoc.render_doc(cloisonne))
    assert text.index("import cloisonne as cl") < text.index("CLASSES") < text.index("FUNCTIONS")
    assert len(example().splitlines()) <= 6


def example() -> str:
    """The code of the module's docstring."""
    lines = inspect.getdoc(cloisonne).splitlines()  # type: ignore[union-attr]
    return "\n".join(line.strip() for line in lines if line.startswith("    "))


@pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")
def test_the_example_of_help_runs(workdir: Path) -> None:
    exec(compile(example(), "cloisonne", "exec"), {})
    assert cloisonne.Scene.from_png("out.png").regions[0].name == "cat"


@pytest.mark.parametrize(
    "statement", ["import cloisonne", "from cloisonne import SceneError", "from cloisonne import Scene, Region"]
)
def test_scenes_and_errors_need_no_networks(statement: str) -> None:
    program = f"import sys; {statement}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_import_alone_needs_next_to_nothing() -> None:
    """Nothing but ``typing`` is imported: not even the package's own errors."""
    program = (
        "import sys, typing; before = set(sys.modules); import cloisonne; "
        "sys.exit(' '.join(sys.modules.keys() - before - {'cloisonne'}) or None)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
