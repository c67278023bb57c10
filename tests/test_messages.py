"""In whose words sentences are: none speaks to a user of Python of options, or to one of the command line of calls."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "cloisonne"
MODULES = sorted(ROOT.rglob("*.py"))

COMMAND_LINE = {"cli", "bench", "train", "studio"}
"""Parts that only the command line reaches."""

OPTION = re.compile(r"(?<![\w-])--[a-z]")
CALL = re.compile(r"\b[a-z_.]+\((\.\.\.|\w+=)")


def is_command_line(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] in COMMAND_LINE


def sentences(tree: ast.AST) -> Iterator[tuple[int, str, str | None]]:
    """Texts of a module but docstrings: line, text, and "python" or "option" where they are spelt for that surface."""
    spelled: dict[int, str] = {}
    silent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "spelled":
            for surface, argument in zip(("python", "option"), node.args, strict=True):
                spelled |= {id(part): surface for part in ast.walk(argument)}
        if isinstance(node, ast.Call):
            parts = [(word.arg, word.value) for word in node.keywords if word.arg in ("python", "option")]
            spelled |= {id(part): surface for surface, value in parts for part in ast.walk(value)}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            parts = [(key.value, value) for key, value in pairs if isinstance(key, ast.Constant)]
            spelled |= {id(part): k for k, v in parts if k in ("python", "option") for part in ast.walk(v)}
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(id(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent:
            yield node.lineno, node.value, spelled.get(id(node))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_sentences_are_in_the_words_of_their_surface(path: Path) -> None:
    wrong = []
    for line, text, surface in sentences(ast.parse(path.read_text(encoding="utf-8"))):
        if "pydantic" in text or "errors.pydantic.dev" in text:
            wrong.append((line, text))
        if OPTION.search(text) and surface != "option" and not is_command_line(path):
            wrong.append((line, text))
        if CALL.search(text) and surface != "python" and path != ROOT / "scene" / "values.py":
            wrong.append((line, text))
    assert wrong == []
