"""Commands and snippets of pages, and command lines as the program parses them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from cloisonne.cli.main import app

PROGRAMS = (
    *("cloisonne", "make", "python", "pip", "pipx", "uv", "curl", "git", "ln", "kubectl", "accelerate", "torchrun"),
    "npm",
)
"""What a command on a page begins with, after a prompt and settings of its environment."""
SET = r"[A-Z_]+="
_COMMAND = re.compile(rf"(?:\$ )?((?:{SET}|(?:{'|'.join(PROGRAMS)}) ).*)")
_FENCE = re.compile(r"```(\w*)\s*$")
_MARK = re.compile(r"<!-- (not run|commands): (.+?) -->\s*$")


class Snippet(NamedTuple):
    """What a page prints to be run.

    language: "" for a command, "python" for a block. text: the command, or the block. output: the lines below a command
    with a prompt. not_run: the reason that the page gives for a block that cannot run. record: the record whose figures
    the command made.
    """

    language: str
    text: str
    output: tuple[str, ...] = ()
    not_run: str | None = None
    record: str | None = None


def understood(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line without its "cloisonne"; a usage error if it is not understood."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("cloisonne", words)
    args = [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        name, command, args = command.resolve_command(context, args)
        context = command.make_context(name, args, parent=context)
        args = [*getattr(context, "_protected_args", ()), *context.args]
    return context.params


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of a page in a language, "" for those without."""
    found = re.findall(r"^```(.*?)\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    return [block for own, block in found if own == language]


def command_lines(path: Path) -> list[str]:
    """The calls of our programs on a page: in blocks without a language, and indented."""
    lines = [one.text for one in snippets(path) if one.language == ""]
    return [line for line in lines if line.startswith(("cloisonne ", "make ", "python "))]


def inline_commands(path: Path) -> list[str]:
    """The calls of ``cloisonne`` in running text."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(found.split()) for found in re.findall(r"`(cloisonne [a-z][^`]*)`", text)]


def snippets(path: Path) -> Iterator[Snippet]:
    """The commands and Python blocks of a page, in its order."""
    marks: dict[str, str] = {}
    for language, lines in _parts(path.read_text(encoding="utf-8").splitlines()):
        if language == "text" and lines:
            found = _MARK.match(lines[0])
            marks = {found[1]: found[2]} if found else {} if lines[0].startswith("<!-- end") else marks
            if found is None and "not run" in marks:
                marks.pop("not run")
        elif language == "python":
            yield Snippet("python", "\n".join(lines) + "\n", not_run=marks.pop("not run", None))
        elif language == "":
            yield from _commands(lines, marks.get("commands"))


def _parts(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The lines of a page as fenced blocks by their language, indented lines ("") and lines of text ("text")."""
    waiting = iter(lines)
    for line in waiting:
        if fence := _FENCE.match(line):
            inside = []
            for inner in waiting:
                if inner.rstrip() == "```":
                    break
                inside.append(inner)
            yield fence[1], inside
        elif re.match(r" {4}\s*\S", line):
            yield "", [line.strip()]
        elif line.strip():
            yield "text", [line]


def _commands(lines: list[str], record: str | None) -> Iterator[Snippet]:
    """The commands in the lines of a block; one goes on while a quotation is open."""
    waiting, found = list(lines), None
    while waiting:
        line = waiting.pop(0)
        if start := _COMMAND.match(line):
            if found:
                yield found
            text = start[1]
            while _is_open(text) and waiting:
                text += "\n" + waiting.pop(0)
            found = Snippet("", text.strip(), record=record)
            if not line.startswith("$ "):
                yield found
                found = None
        elif found and line.strip():
            found = found._replace(output=(*found.output, line))
    if found:
        yield found


def _is_open(text: str) -> bool:
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return True
    return text.endswith("\\")
