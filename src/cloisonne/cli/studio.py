"""``cloisonne studio`` and ``cloisonne serve``: the studio, by this process or on a Ray cluster. Imports are inside."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from cloisonne.errors import SceneError
from cloisonne.extras import check_extra

Host: TypeAlias = Annotated[
    str, typer.Option(help="Address to listen on; others than this machine's need --token-file.")
]
Port: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port to listen on. Default: 7788, or a free one if it is taken."),
]
Data: TypeAlias = Annotated[
    Path | None, typer.Option(help="Folder for jobs and pictures. Default: the user's data folder.")
]
Models: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="[NAME=]SPEC",
        help='Model that requests may name: "builtin", a folder, a .safetensors file, a hub id, or a model spec '
        "(a .json file or a JSON object). The first is the default. Repeatable. Default: builtin.",
    ),
]
TokenFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="File with the token that requests need. Default: a new random one.")
]
AllowHost: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:PORT]", help="Further name of this server in addresses, as behind a proxy. Repeatable."
    ),
]
KeepDays: TypeAlias = Annotated[
    float | None, typer.Option(min=0, help="Delete finished jobs and their pictures after this many days.")
]
Batch: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Largest number of queued jobs that share their forward passes. Default: 8 on a GPU, 1 on a CPU.",
    ),
]


def studio(
    host: Host = "127.0.0.1",
    port: Port = None,
    data: Data = None,
    model: Models = None,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Device to run on, each in a process of its own. Repeatable. Default: the first model's."),
    ] = None,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    keep_days: KeepDays = None,
    batch: Batch = None,
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


def serve(
    ray: Annotated[
        str, typer.Option(metavar="ADDRESS|local", help="Ray cluster to serve on; local starts one on this machine.")
    ],
    host: Host = "127.0.0.1",
    port: Port = None,
    data: Data = None,
    model: Models = None,
    device: Annotated[
        str | None, typer.Option(help="Device of the replicas: cpu, or cuda for a GPU each. Default: each model's.")
    ] = None,
    min_replicas: Annotated[
        int, typer.Option(min=0, help="Fewest replicas of each model. With 0, the first job waits for one.")
    ] = 1,
    max_replicas: Annotated[
        int, typer.Option(min=1, help="Most replicas of each model, which are started while jobs wait.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of each replica.")] = 1,
    servers: Annotated[
        int, typer.Option(min=1, help="Processes that answer requests, on this machine, which has the data folder.")
    ] = 2,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    keep_days: KeepDays = None,
    batch: Batch = None,
) -> None:
    """Serve the studio on a Ray cluster. Prints the address.

    Each model has replicas, which are started while jobs wait. A hang-up signal (SIGHUP) replaces all processes, a
    few at a time; no job is lost.
    """
    check_extra("studio", "The server")
    check_extra("ray", "The server")
    if min_replicas > max_replicas:
        raise SceneError(f"--min-replicas is {min_replicas}, more than --max-replicas {max_replicas}; give fewer.")
    from cloisonne.studio.cluster.serving import serve as run
    from cloisonne.studio.serve import data_folder
    from cloisonne.studio.settings import Settings, check_exposure, models_of, new_token

    models = models_of(model or [])
    if device is not None:
        models = {name: replace(spec, device=device) for name, spec in models.items()}
    token = None if token_file is None else _token(token_file)
    check_exposure(host, token, allow_host or [])
    settings = Settings(
        data=(data or data_folder()).absolute(),
        models=models,
        devices=(),
        host=host,
        names=tuple(name.lower() for name in allow_host or ()),
        keep_days=keep_days,
        batch=batch,
        token=token or new_token(),
    )
    scale = {"servers": servers, "least": min_replicas, "most": max_replicas, "threads": threads}
    run(settings, ray, port, typer.echo, **scale)


def _token(file: Path) -> str:
    """The token in a file. Raises SceneError."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SceneError(f'The token file "{file}" cannot be read ({error}); give a text file.') from None
