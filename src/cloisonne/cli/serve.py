"""``cloisonne serve``: serve the studio on a Ray cluster. Heavy imports happen inside."""

from dataclasses import replace
from typing import Annotated

import typer

from cloisonne.cli.studio import (
    AllowHost,
    Batch,
    Data,
    Host,
    KeepDays,
    Models,
    Port,
    TokenFile,
    token_of,
)
from cloisonne.errors import SceneError
from cloisonne.extras import check_extra


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
    """Serve the studio's page and API from a Ray cluster, with replicas of each model. Prints the address.

    A hang-up signal (SIGHUP) replaces all processes, a few at a time. No job is lost.
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
    token = None if token_file is None else token_of(token_file)
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
