"""``cloisonne studio``: serve the studio. Heavy imports happen inside."""

from pathlib import Path
from typing import Annotated

import typer

from cloisonne.errors import SceneError
from cloisonne.extras import check_extra


def studio(
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's need --token-file.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on. Default: 7788, or a free one if it is taken."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder for jobs and pictures. Default: the user's data folder.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SPEC",
            help='Model that requests may name: "builtin", a folder, a .safetensors file, a hub id, or a model spec '
            "(a .json file or a JSON object). The first is the default. Repeatable. Default: builtin.",
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device to run on, each in a process of its own. Repeatable. Default: the first model's."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that requests need. Default: a new random one.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PORT]", help="Further name of this server in addresses, as behind a proxy. Repeatable."
        ),
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0, help="Delete finished jobs and their pictures after this many days.")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Largest number of queued jobs that share their forward passes. Default: 8 on a GPU, 1 on a CPU.",
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the browser.")] = False,
) -> None:
    """Serve the studio: a page to draw regions on, and an HTTP API. Prints the address."""
    check_extra("studio", "The studio")
    from cloisonne.models.checkpoints.sources import check_device
    from cloisonne.studio.serve import data_folder, serve
    from cloisonne.studio.settings import Settings, check_exposure, models_of, new_token

    models = models_of(model or [])
    devices = tuple(dict.fromkeys(device or [next(iter(models.values())).device]))
    for name in devices:
        check_device(name)
    token = None if token_file is None else _token(token_file)
    check_exposure(host, token, allow_host or [])
    settings = Settings(
        data=data or data_folder(),
        models=models,
        devices=devices,
        host=host,
        names=tuple(name.lower() for name in allow_host or ()),
        keep_days=keep_days,
        batch=batch,
        token=token or new_token(),
    )
    serve(settings, port, browser=not no_browser, announce=lambda address: typer.echo(address))


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f'The token file "{file}" cannot be read ({error}); give a text file.') from None
