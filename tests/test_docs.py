"""The documentation is valid: its Python runs, its links and paths resolve, its pages name their commands."""

import re
from collections import Counter
from pathlib import Path

import pytest

from cloisonne.models.builtin import BUILTIN

ROOT = Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
LINK = re.compile(r"\]\(([^)\s]+)\)")
TOP = "src|tests|docs|scripts|benchmarks|examples"
ROOMS = "|".join(sorted(path.parent.name for path in (ROOT / "src" / "cloisonne").glob("*/__init__.py")))
PATH = re.compile(rf"`((?:{TOP}|{ROOMS})/[\w./-]*)")
"""A file or folder of the repository, or one below src/cloisonne."""

RUN = [ROOT / "README.md", ROOT / "docs" / "scenes.md", ROOT / "docs" / "inversion.md"]
"""Pages whose Python needs only the built-in family."""

builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


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


@builtin
@pytest.mark.parametrize("path", RUN, ids=name)
def test_python_runs_as_printed(path: Path, workdir: Path) -> None:
    """All blocks of a page, one after the other in one namespace, with examples/ in the working directory."""
    (workdir / "examples").symlink_to(ROOT / "examples")
    namespace: dict[str, object] = {}
    for block in blocks(path, "python"):
        exec(compile(block, name(path), "exec"), namespace)


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
        assert target.exists(), link
        if anchor:
            assert anchor in [one for _, one in anchors(target)], link


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=name)
def test_paths_exist(path: Path) -> None:
    named = PATH.findall(path.read_text(encoding="utf-8"))
    assert [one for one in named if not ((ROOT / one).exists() or (ROOT / "src" / "cloisonne" / one).exists())] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


def test_the_readme_links_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in LINK.findall((ROOT / "README.md").read_text())}
    assert [name(page) for page in DOCS if page not in linked] == []


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "methods").glob("*.md")), ids=name)
def test_methods_name_their_commands(path: Path) -> None:
    commands = "\n".join(blocks(path, ""))
    assert re.search(r"^cloisonne (generate|paint|edit|translate|control) ", commands, re.M)
    assert re.search(r"^cloisonne evaluate ", commands, re.M)


def test_results_have_contents() -> None:
    page = ROOT / "docs" / "results.md"
    contents = re.findall(r"^ *- \[[^\]]*\]\(#([^)]*)\)$", page.read_text(encoding="utf-8"), re.M)
    assert contents == [anchor for level, anchor in anchors(page) if level in (2, 3)]
