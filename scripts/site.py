"""Builds the documentation site into build/site, offline: `make site`.

    python scripts/site.py           # a warning is an error

The pages are those of docs/, CHANGELOG.md and CONTRIBUTING.md, and two that are made here: the reference of the command
line from the commands' own help, and that of Python from the docstrings of what ``cloisonne`` exports.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer

import cloisonne
from cloisonne import errors
from cloisonne.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
ROOT_PAGES = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
"""Pages of the site, and the files at the root that they show."""

FUNCTIONS = (
    "load",
    "generate",
    "generate_many",
    "inpaint",
    "edit",
    "translate",
    "batch",
    "sweep",
    "explain",
    "compile",
)
"""In the order of the page; other exported functions follow."""

STYLE = re.compile(r"\x1b\[[\d;]*m")
"""Colours of a terminal."""
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def assemble(out: Path) -> None:
    """Write all pages into a folder, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT / "docs", out, ignore=shutil.ignore_patterns("*.py"))
    for page, file in ROOT_PAGES.items():
        (out / page).write_text((ROOT / file).read_text("utf-8").replace("](docs/", "]("), "utf-8")
    (out / "reference").mkdir()
    (out / "reference" / "command-line.md").write_text(command_line(), "utf-8")
    (out / "reference" / "python.md").write_text(python(), "utf-8")
    for page in out.rglob("*.md"):
        page.write_text(LINK.sub(partial(_within, page=page, out=out), page.read_text("utf-8")), "utf-8")


def _within(found: re.Match[str], page: Path, out: Path) -> str:
    """A link, or what it names in place of one to a file of the repository, which the site does not have."""
    text, target, _ = found.groups()
    if "://" in target or (page.parent / target).exists():
        return found[0]
    own = next((one for one, file in ROOT_PAGES.items() if Path(target).name == file), None)
    return (
        f"[{text}]({'../' * (len(page.relative_to(out).parts) - 1)}{own})"
        if own
        else f"{text} (`{target.lstrip('./')}`)"
    )


def command_line() -> str:
    """The help of every command, one section each."""
    lines = ["# Command line", "", "`cloisonne COMMAND --help` prints the same.", ""]
    for name, command in commands(typer.main.get_command(app), "cloisonne"):
        context = command.make_context(name, [], resilient_parsing=True, terminal_width=100, max_content_width=100)
        lines += [f"## {name}", "", "```text", STYLE.sub("", command.get_help(context)).rstrip(), "```", ""]
    return "\n".join(lines)


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and those below it, with their full names; hidden ones are left out."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for own, below in command.commands.items():
        if not below.hidden:
            yield from commands(below, f"{name} {own}")


def python() -> str:
    """What ``cloisonne`` exports, by kind."""
    exported = [name for name in cloisonne.__all__ if not name.startswith("_")]
    functions = [name for name in exported if callable(getattr(cloisonne, name)) and name[0].islower()]
    functions.sort(key=lambda name: (FUNCTIONS.index(name) if name in FUNCTIONS else len(FUNCTIONS), name))
    failures = [name for name in exported if hasattr(errors, name)]
    values = [name for name in exported if name not in functions and name not in failures]
    lines = [
        "# Python",
        "",
        "`import cloisonne as cl`. Everything that is not on this page may change without notice.",
        "",
    ]
    for title, names in (("Functions", functions), ("Values", values), ("Errors and warnings", failures)):
        lines += [f"## {title}", "", *(f"::: cloisonne.{name}\n" for name in names)]
    return "\n".join(lines)


def build(out: Path) -> int:
    """Assemble the pages and build the site below a folder, in ``site``; a warning is an error. The exit code."""
    assemble(out / "docs")
    config = (
        (ROOT / "mkdocs.yml")
        .read_text("utf-8")
        .replace("build/", "")
        .replace("paths: [src]", f"paths: [{ROOT / 'src'}]")
    )
    (out / "mkdocs.yml").write_text(config.replace("scripts/site_roles", f"{ROOT / 'scripts' / 'site_roles'}"), "utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(out / "mkdocs.yml")]
    return subprocess.run(command, cwd=out, check=False).returncode


def main() -> None:
    """Assemble the pages and build the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder of docs and site (build)")
    sys.exit(build(parser.parse_args().out.resolve()))


if __name__ == "__main__":
    main()
