"""The documentation is valid: its snippets run or are checked, its links and paths resolve, its pages name commands."""

import ast
import inspect
import json
import re
import shlex
from collections import Counter
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from command_lines import blocks, command_lines, understood

import cloisonne
from cloisonne.cli.options import Drawing
from cloisonne.models.builtin import BUILTIN
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.scene import MethodName, SamplerName

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOP = "src|tests|docs|scripts|benchmarks|examples"
ROOMS = "|".join(sorted(path.parent.name for path in (ROOT / "src" / "cloisonne").glob("*/__init__.py")))
PATH = re.compile(rf"`((?:{TOP}|{ROOMS})/[\w./-]*)")
"""A file or folder of the repository, or one below src/cloisonne."""

MADE_PAGES = [
    ROOT / "docs" / page
    for page in ("reference/command-line.md", "reference/python.md", "changelog.md", "contributing.md")
]
"""Pages of the site that ``scripts/site.py`` makes."""

NOT_RUN = re.compile(r"<!-- not run: .+ -->\n$")
"""Stands before Python that cannot run here, with the reason; the calls in it are checked against signatures."""
LANGUAGES = {"", "python", "json"}

builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> list[tuple[int, str]]:
    """(level, anchor) of each heading, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    seen: Counter[str] = Counter()
    found = []
    for marks, title in re.findall(r"^(#{1,6}) (.*)$", text, re.M):
        anchor = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        found.append((len(marks), f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor))
        seen[anchor] += 1
    return found


def python(path: Path) -> list[tuple[str, bool]]:
    """The Python blocks of a page, and whether each can run."""
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S)
    return [(block[1], NOT_RUN.search(text, 0, block.start()) is None) for block in found]


def calls(block: str) -> list[tuple[str, list[str], int]]:
    """(name in cloisonne, keywords, positional arguments) of each call of it."""
    found = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    return [
        (call.func.attr, [keyword.arg for keyword in call.keywords if keyword.arg], len(call.args))
        for call in found
        if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "cl"
    ]


@builtin
@pytest.mark.parametrize("path", [page for page in PAGES if any(runs for _, runs in python(page))], ids=name)
def test_python_runs_as_printed(path: Path, workdir: Path) -> None:
    """All blocks of a page, one after the other in one namespace, with examples/ in the working directory."""
    (workdir / "examples").symlink_to(ROOT / "examples")
    namespace: dict[str, object] = {}
    for block, runs in python(path):
        if runs:
            exec(compile(block, name(path), "exec"), namespace)


@pytest.mark.parametrize("path", [page for page in PAGES if any(not runs for _, runs in python(page))], ids=name)
def test_python_that_cannot_run_fits_the_signatures(path: Path) -> None:
    checked = [call for block, runs in python(path) if not runs for call in calls(block)]
    assert checked
    for function, keywords, count in checked:
        inspect.signature(getattr(cloisonne, function)).bind(*range(count), **dict.fromkeys(keywords))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_command_lines_are_understood(path: Path) -> None:
    """Every ``cloisonne`` line is parsed, with its options; ``make`` has the target; scripts are there."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    for line in command_lines(path):
        program, *words = shlex.split(line.removesuffix(" ..."), comments=True)
        if program == "cloisonne":
            understood(words)
        elif program == "make":
            assert [word for word in words if "=" not in word and word not in targets] == [], line
        elif words[:2] == ["-m", "pytest"]:
            paths = [word.partition("::")[0] for word in words if word.startswith("tests/")]
            assert paths, line
            assert all((ROOT / path).exists() for path in paths), line
        else:
            assert (ROOT / words[0]).is_file(), line


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_json_is_json(path: Path) -> None:
    for block in blocks(path, "json"):
        json.loads(block)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_blocks_have_a_language_that_is_checked(path: Path) -> None:
    fences = re.findall(r"^```(.*)$", path.read_text(encoding="utf-8"), re.M)
    assert set(fences) <= LANGUAGES
    assert len(fences) % 2 == 0


@builtin
def test_the_inversion_of_its_page_is_exact(workdir: Path) -> None:
    (workdir / "examples").symlink_to(ROOT / "examples")
    namespace: dict = {}
    exec(blocks(ROOT / "docs" / "inversion.md", "python")[0], namespace)
    assert float((namespace["back"] - namespace["latents"]).abs().max()) == 0


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_resolve(path: Path) -> None:
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = path if not file else (path.parent / file).resolve()
        if target in MADE_PAGES:
            continue
        assert target.exists(), link
        if anchor:
            assert anchor in [one for _, one in anchors(target)], link


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_paths_exist(path: Path) -> None:
    named = PATH.findall(path.read_text(encoding="utf-8"))
    assert [one for one in named if not ((ROOT / one).exists() or (ROOT / "src" / "cloisonne" / one).exists())] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


def test_the_site_has_every_page() -> None:
    listed = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    assert sorted(ROOT / "docs" / page for page in listed) == sorted([*DOCS, *MADE_PAGES])


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=name)
def test_methods_name_their_commands(path: Path) -> None:
    commands = "\n".join(blocks(path, ""))
    assert re.search(r"^cloisonne (generate|paint|edit|translate|control) ", commands, re.M)
    assert re.search(r"^cloisonne evaluate ", commands, re.M)


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("scenes.md", get_args(SamplerName)),
        ("scenes.md", get_args(MethodName)),
        ("scenes.md", tuple(CONDITIONS)),
        ("checkpoints.md", get_args(SamplerName)),
    ],
)
def test_a_page_has_every_name(page: str, names: tuple[str, ...]) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize(("option", "names"), [("sampler", get_args(SamplerName)), ("method", get_args(MethodName))])
def test_the_help_has_every_name(option: str, names: tuple[str, ...]) -> None:
    """The command line starts without reading the scene's types, so its help is written by hand."""
    (_, found) = get_args(get_type_hints(Drawing, include_extras=True)[option])
    assert re.split(", | or ", found.help.partition(": ")[2].rstrip(".")) == list(names)


def test_results_have_contents() -> None:
    page = ROOT / "docs" / "results.md"
    contents = re.findall(r"^ *- \[[^\]]*\]\(#([^)]*)\)$", page.read_text(encoding="utf-8"), re.M)
    assert contents == [anchor for level, anchor in anchors(page) if level in (2, 3)]
