"""Runs a server: binds its address, prints it once it answers, and opens the browser."""

import asyncio
import logging
import socket
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

from cloisonne.errors import OutputError
from cloisonne.studio.app import create_app
from cloisonne.studio.settings import PORT, Settings
from cloisonne.studio.storage.store import Store

STOP_SECONDS = 3
"""Seconds that open connections get at the end."""
KEEP_ALIVE = 75
"""Seconds that an idle connection stays open; when it is short, clients meet one that is just closing."""
CONNECTIONS = 2048
"""Open connections; more are answered by 503."""


def data_folder() -> Path:
    """The folder for data of programs, in the place that the system has for it."""
    from platformdirs import user_data_path

    return user_data_path("cloisonne", appauthor=False) / "studio"


def bound(host: str, port: int | None) -> socket.socket:
    """A listening socket. port: None tries PORT and then any free one. Raises OutputError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (PORT, 0) if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
        except OSError as error:
            listener.close()
            if port is not None or candidate == 0:
                reason = error.strerror or error
                raise OutputError(
                    f"Nothing can listen on {host}, port {candidate} ({reason}); choose another."
                ) from None
        else:
            listener.listen(CONNECTIONS)
            return listener
    raise AssertionError("the last candidate was bound or refused")


def serve(settings: Settings, port: int | None, *, browser: bool, announce: Callable[[str], None] = print) -> None:
    """Serve until interrupted. announce: receives the address, once the server answers."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s: %(message)s")
    allow_connections()
    Store(settings.data).close()  # refuses before anything is bound
    listener = bound(settings.host, port)
    settings = replace(settings, port=listener.getsockname()[1])
    config = uvicorn.Config(
        create_app(settings),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    asyncio.run(_serve(_Server(config, settings, browser=browser, announce=announce), listener))


def allow_connections() -> None:
    """Allow this process the file descriptors of CONNECTIONS, where the system lets it."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(2 * CONNECTIONS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, which reports when it answers."""

    def __init__(
        self, config: uvicorn.Config, settings: Settings, *, browser: bool, announce: Callable[[str], None]
    ) -> None:
        super().__init__(config)
        self._settings = settings
        self._browser = browser
        self._announce = announce

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start, and print the address where that went well."""
        await super().startup(sockets)
        if self.started:
            self._announce(self._settings.address)
            if self._browser:
                await asyncio.to_thread(webbrowser.open, self._settings.address)
