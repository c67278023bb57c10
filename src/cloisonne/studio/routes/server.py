"""Routes about the server: session, status, models, schema, dry runs."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from cloisonne.scene import Scene
from cloisonne.studio import verbs
from cloisonne.studio.refusals import Refusal
from cloisonne.studio.routes.answers import Explanation, Model, Models, Schema, ServerStatus, answered
from cloisonne.studio.routes.common import body, client_of, json_of, studio_of
from cloisonne.studio.schema import ExplainRequest, JobRequest, SessionRequest
from cloisonne.studio.security import SESSION_SECONDS

router = APIRouter(prefix="/v1", tags=["server"])


@router.post("/session", status_code=204, openapi_extra=body(SessionRequest))
async def begin(request: Request) -> Response:
    """Exchange the token for a cookie that scripts cannot read."""
    sessions = request.app.state.gate.sessions
    if not sessions.is_token(SessionRequest.of(await json_of(request)).token):
        raise Refusal(401, "The token is wrong; open the address that the server printed.", kind="token")
    answer = Response(status_code=204)
    answer.set_cookie(
        sessions.cookie, sessions.new(), max_age=SESSION_SECONDS, path="/", httponly=True, samesite="strict"
    )
    return answer


@router.delete("/session", status_code=204)
async def end(request: Request) -> Response:
    """End the session of the cookie."""
    sessions = request.app.state.gate.sessions
    kind, _, session = client_of(request).partition(":")
    if kind == "page":
        sessions.end(session)
    answer = Response(status_code=204)
    answer.delete_cookie(sessions.cookie, path="/", httponly=True, samesite="strict")
    return answer


@router.get("/status", responses=answered(ServerStatus))
async def status(request: Request) -> dict[str, Any]:
    """Devices and the queue."""
    studio = studio_of(request)
    devices = [{"name": device.name, "state": device.state} for device in studio.dispatcher.devices]
    return {"devices": devices, "queued": len(studio.ledger.queue), "retry_after": studio.dispatcher.retry_after()}


@router.get("/models", responses=answered(Models))
async def models(request: Request) -> dict[str, Any]:
    """Names of the models; ``details`` of those that were loaded."""
    studio = studio_of(request)
    names = list(studio.settings.models)
    own = {"object": "model", "created": 0, "owned_by": "operator"}
    data = [
        {"id": name, **own, "default": name == names[0], "details": studio.dispatcher.models.get(name)}
        for name in names
    ]
    return {"object": "list", "data": data}


@router.get("/models/{name}", responses=answered(Model))
async def model(request: Request, name: str) -> dict[str, Any]:
    """What a model can do; it is loaded for that."""
    studio = studio_of(request)
    if name not in studio.settings.models:
        raise Refusal(404, "This server has no model of this name; GET /v1/models lists them.", kind="missing")
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "operator",
        "details": await studio.dispatcher.describe(name),
    }


@router.get("/schema", responses=answered(Schema))
async def schema() -> dict[str, Any]:
    """JSON schemas of scenes and jobs, and the names that they use."""
    return {"scene": Scene.json_schema(), "job": JobRequest.model_json_schema(), **verbs.fields()}


@router.post("/explain", responses=answered(Explanation), openapi_extra=body(ExplainRequest))
async def explain(request: Request) -> JSONResponse:
    """Dry run: what is dropped, not supported or covered, by region, and what the scene costs."""
    asked = ExplainRequest.of(await json_of(request))
    return JSONResponse(await studio_of(request).explain(asked))
