"""A kind of condition is named in its own files and in the tables, nowhere else: a new one needs no others."""

import ast
from pathlib import Path

import pytest

from cloisonne.scene.conditions.kinds import CONDITIONS

ROOT = Path(__file__).resolve().parents[2] / "src" / "cloisonne"
ROOMS = ("scene", "core", "methods", "pipelines", "cli")
TABLES = {"scene/conditions/kinds.py", "methods/kinds.py", "scene/region.py"}
"""The tables, and the declared fields of a region."""
FURTHER = {
    "edit": {
        "scene/conditions/translation.py",  # not both in one scene
        "scene/before_after.py",
        "scene/io/mrgd_layout.py",
        "pipelines/editing/",
        "pipelines/prepare.py",  # Prepared.edit, of the background
        "pipelines/progress.py",  # a verb
    },
    "concept": {
        "scene/conditions/translation.py",
        "pipelines/translation/",
        "pipelines/result.py",  # what was learned
        "cli/translate.py",
    },
    "exemplar": {
        "scene/values.py",  # names of other tools
        "scene/inpainting.py",  # an argument of inpaint
        "scene/io/interchange/gligen.py",  # images of GLIGEN's demo
        "methods/ip_adapter.py",
        "methods/references.py",
        "cli/draw.py",  # the command paint
        "cli/options.py",  # options of the model
        "cli/train.py",
    },
    "control": {
        "scene/values.py",
        "scene/tags.py",  # the group of a regular expression
        "pipelines/control_warnings.py",
        "cli/evaluate.py",
        "cli/train.py",
    },
    "lora": {
        "scene/before_after.py",  # edits refuse it
        "methods/answers.py",  # also an option of the others
        "pipelines/prompt_syntax.py",  # its tags
        "scene/io/interchange/invokeai.py",  # a list of its metadata
        "pipelines/attention_maps/token_spans.py",  # texts that it splits cannot be read
        "cli/options.py",
    },
}
"""Files of one kind besides those that have its name, by kind."""


def own(kind: str) -> set[str]:
    """The files in which a kind may be named besides the tables."""
    return {f"scene/conditions/{kind}.py", f"methods/{kind}.py"} | FURTHER.get(kind, set())


def modules_that_name(kind: str) -> set[str]:
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return {path.relative_to(ROOT).as_posix() for path in paths if names(path.read_text(encoding="utf-8"), kind)}


def names(source: str, kind: str) -> bool:
    """Whether a module reads this field of a region, or has its name as a text."""
    owners = ("region", "found", "owner", "self")
    return any(
        (isinstance(node, ast.Attribute) and node.attr == kind and owner(node.value) in owners)
        or (isinstance(node, ast.Constant) and node.value == kind)
        for node in ast.walk(ast.parse(source))
    )


def owner(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@pytest.mark.parametrize("kind", CONDITIONS)
def test_kinds_are_named_in_their_own_files(kind: str) -> None:
    allowed = tuple(TABLES | own(kind))
    assert {module for module in modules_that_name(kind) if not module.startswith(allowed)} == set()


@pytest.mark.parametrize("kind", FURTHER)
def test_the_lists_name_no_more_than_needed(kind: str) -> None:
    found = modules_that_name(kind)
    assert {file for file in FURTHER[kind] if not any(module.startswith(file) for module in found)} == set()


@pytest.mark.parametrize(
    "source", ["region.exemplar", "p.region.exemplar.strength", 'getattr(region, "exemplar")', 'kind == "exemplar"']
)
def test_a_name_is_found(source: str) -> None:
    assert names(source, "exemplar")


@pytest.mark.parametrize("source", ["model.exemplar", "import exemplar", '"an exemplar"'])
def test_a_model_has_other_fields(source: str) -> None:
    assert not names(source, "exemplar")
