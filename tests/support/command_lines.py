"""Command lines of pages, and as the program parses them."""

import re
from pathlib import Path
from typing import Any

import typer

from cloisonne.cli.main import app


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
    text = path.read_text(encoding="utf-8")
    indented = re.findall(r"^ {4}(\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    lines = [*indented, *"\n".join(blocks(path, "")).splitlines()]
    return [found[1] for line in lines if (found := re.match(r"(?:\$ )?((?:cloisonne|make|python) .*)", line))]
