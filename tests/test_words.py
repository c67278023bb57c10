"""Names and messages speak the field's language: words of a private one are not used, in Python and in the page."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
ROOT = TOP / "src" / "cloisonne"
MODULES = sorted([*ROOT.rglob("*.py"), *(TOP / "benchmarks").rglob("*.py"), *(TOP / "scripts").rglob("*.py")])
PAGE = sorted([*(TOP / "page" / "src").rglob("*.ts"), *(TOP / "page" / "src").rglob("*.tsx")])
WORDS = (
    *("told", "tell", "tells", "heard", "hear", "hears", "said", "spoken", "unsaid", "shown", "looked", "walk"),
    *("walks", "walked", "walker", "beside", "alike", "wordless", "lesson", "lessons", "telling", "mute", "deaf"),
    *("dial", "dials", "spelt", "tidied", "sees", "obeys"),
)
"""Nouns of diffusers and the papers take their place: conditioning, prompt, denoising step, image prompt, option."""
VAGUE = ("kept", "ahead", "looks", "around")
"""No names, though sentences may have them."""
ALLOWED = {
    ("world/words.py", "beside"),
    ("cli/inspect.py", "dial"),
    ("cli/editing.py", "looks"),
    ("cli/editing.py", "_refuse_looks"),
    ("eval/edits.py", "shown"),
    ("eval/metrics/edits.py", "shown"),
    ("eval/metrics/edits.py", "kept"),
}
"""Captions of the training data, keys of reports and records, which are a contract, and an option that is refused."""
DISPLAYED = ("shown",)
"""What is on the screen, in the page."""


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


def place(path: Path) -> str:
    """A file below the package, or below the repository."""
    return path.relative_to(ROOT if path.is_relative_to(ROOT) else TOP).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_no_private_words(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = place(path)
    found = [
        (line, name)
        for line, name in names(tree)
        for word in set(parts(name)) & {*WORDS, *VAGUE}
        if (own, word) not in ALLOWED
    ]
    found += [
        (line, text)
        for line, text in sentences(tree)
        for word in set(re.findall(r"[a-z]+", text.lower())) & set(WORDS)
        if (own, word) not in ALLOWED
    ]
    assert not found


COMMENT = re.compile(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", re.S)


def page_words(source: str) -> set[str]:
    """The words of all names and texts of TypeScript, without its comments."""
    return {word for name in re.findall(r"[A-Za-z_]+", COMMENT.sub("", source)) for word in parts(name)}


@pytest.mark.parametrize("path", PAGE, ids=place)
def test_no_private_words_in_the_page(path: Path) -> None:
    assert not page_words(path.read_text(encoding="utf-8")) & (set(WORDS) - set(DISPLAYED))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("const toldText = 1", True),
        ('warn("a word that is heard")', True),
        ("// what the server said\nconst text = 1", False),
        ("/* told */ const text = 'https://said.example'", True),
        ("const tolding = 1", False),
    ],
)
def test_words_of_the_page_are_found(source: str, found: bool) -> None:
    assert bool(page_words(source) & set(WORDS)) == found
