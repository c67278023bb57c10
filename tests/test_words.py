"""Names and messages speak the field's language: words of a private one are not used."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "cloisonne"
MODULES = sorted(ROOT.rglob("*.py"))
WORDS = (
    *("told", "tell", "tells", "heard", "hear", "hears", "said", "spoken", "unsaid", "shown", "looked", "walk"),
    *("walks", "walked", "walker", "beside", "alike", "wordless", "lesson", "lessons", "telling", "mute", "deaf"),
    *("dial", "dials", "spelt", "tidied", "sees", "obeys"),
)
"""Nouns of diffusers and the papers take their place: conditioning, prompt, denoising step, image prompt, option."""
ALLOWED = {
    ("world/words.py", "beside"),
    ("cli/inspect.py", "dial"),
    ("eval/edits.py", "shown"),
    ("eval/metrics/edits.py", "shown"),
}
"""Captions of the training data, and keys of reports and records, which are a contract."""


def parts(name: str) -> list[str]:
    """The words of an identifier."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Everything that a module names: modules apart, functions, classes, arguments, variables, fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """All texts but docstrings."""
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_private_words(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = path.relative_to(ROOT).as_posix()
    found = [
        (line, name)
        for line, name in names(tree)
        for word in set(parts(name)) & set(WORDS)
        if (own, word) not in ALLOWED
    ]
    found += [
        (line, text)
        for line, text in sentences(tree)
        for word in set(re.findall(r"[a-z]+", text.lower())) & set(WORDS)
        if (own, word) not in ALLOWED
    ]
    assert not found
