"""The application: routes behind the gate, and the page's files."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cloisonne.errors import CloisonneError
from cloisonne.studio.refusals import Refusal, StorageFull, refusal_of
from cloisonne.studio.routes import documents, exchange, jobs, openai_aliases, pictures, server
from cloisonne.studio.security import Gate
from cloisonne.studio.settings import Settings
from cloisonne.studio.studio import Studio

log = logging.getLogger("cloisonne.studio")


def create_app(settings: Settings, studio: Callable[[Settings], Studio] = Studio) -> Gate:
    """The application of a server, as an ASGI callable. Its ``app`` is the FastAPI application.

    studio: makes what answers; by default that of this process alone.
    """
    api = FastAPI(
        title="cloisonne studio",
        description="Region-controlled image generation: jobs, events and pictures.",
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their scripts come from elsewhere
        redoc_url=None,
        lifespan=_with_studio(studio),
        redirect_slashes=False,
    )
    api.state.settings = settings
    gate = Gate(api, settings)
    api.state.gate = gate
    kinds = (CloisonneError, Refusal, StorageFull, RequestValidationError, HTTPException, ClientDisconnect, Exception)
    for kind in kinds:
        api.add_exception_handler(kind, _refused)
    for module in (jobs, pictures, documents, exchange, server, openai_aliases):
        api.include_router(module.router)
    index = settings.page / "index.html"

    @api.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(index, media_type="text/html", headers={"cache-control": "no-cache"})

    api.mount("/static", StaticFiles(directory=settings.page), name="static")
    return gate


def _with_studio(make: Callable[[Settings], Studio]) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with make(api.state.settings) as studio:
            api.state.studio = studio
            api.state.gate.sessions.ended = studio.ledger.ended_sessions()
            yield

    return lifespan


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Answer every failure in one shape."""
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        name, wish = first["loc"][-1], first["msg"][:1].lower() + first["msg"][1:]
        error = Refusal(422, f"{name} cannot be used: {wish}.", kind="query")
    elif isinstance(error, ClientDisconnect):
        error = Refusal(400, "The client hung up in the middle of its request.", kind="http")  # nobody reads it
    elif isinstance(error, HTTPException):
        error = Refusal(error.status_code, _sentence(request, error), kind="http", headers=error.headers)
    refusal = refusal_of(error)
    if refusal.status == 500 and not isinstance(error, Refusal):
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers)


def _sentence(request: Request, error: HTTPException) -> str:
    known: dict[int, Any] = {
        404: "There is nothing at this address; GET /v1/openapi.json lists all.",
        405: f"{request.method} does nothing at this address; GET /v1/openapi.json lists what does.",
        400: "The body cannot be read; send it again.",
    }
    return known.get(error.status_code, str(error.detail))
