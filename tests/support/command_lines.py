"""Command lines as the program parses them."""

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
