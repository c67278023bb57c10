"""What the routes share: the studio of a request, its client, and its JSON."""

import asyncio
from typing import Any

from fastapi import Request

from cloisonne.scene.io import json_text as wire
from cloisonne.studio.refusals import Refusal, missing
from cloisonne.studio.security import CLIENT
from cloisonne.studio.storage.ids import is_id
from cloisonne.studio.studio import Studio


def studio_of(request: Request) -> Studio:
    """The studio that answers a request."""
    return request.app.state.studio


def client_of(request: Request) -> str:
    """The client's name, which the gate has put there."""
    return request.scope[CLIENT]


async def json_of(request: Request) -> dict[str, Any]:
    """The JSON object of a request's body. Raises SceneError or Refusal."""
    if request.headers["content-type"].partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "This address takes JSON; send application/json.", kind="type")
    return await asyncio.to_thread(wire.parse, await request.body())


def checked_id(what: str, text: str) -> str:
    """An id in a path. Raises Refusal for anything that cannot be one."""
    if not is_id(text):
        raise missing(what, "of this name")
    return text


def body(model: Any) -> dict[str, Any]:
    """OpenAPI's description of a JSON body."""
    content = {"application/json": {"schema": model.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def files(**fields: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI's description of a multipart body."""
    content = {"multipart/form-data": {"schema": {"type": "object", "properties": fields}}}
    return {"requestBody": {"required": True, "content": content}}


FILE = {"type": "string", "format": "binary"}
