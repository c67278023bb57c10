"""Routes of the page's unsent document."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from cloisonne.studio.refusals import Refusal
from cloisonne.studio.routes.answers import Changed, Document, answered
from cloisonne.studio.routes.common import body, json_of, studio_of
from cloisonne.studio.scenes import check_json
from cloisonne.studio.schema import DocumentRequest

router = APIRouter(prefix="/v1", tags=["documents"])


@router.get("/document", responses=answered(Document))
async def document(request: Request) -> dict[str, Any]:
    """The page's unsent document and the time of its last change; both null where there is none."""
    studio = studio_of(request)
    content, changed = await studio.db(studio.store.document)
    return {"document": content, "changed": changed}


@router.put("/document", responses=answered(Changed), openapi_extra=body(DocumentRequest))
async def save(request: Request) -> dict[str, Any]:
    """Replace the page's unsent document."""
    studio = studio_of(request)
    limits = studio.settings.limits
    if len(await request.body()) > limits.document_bytes:
        most = f"{limits.document_bytes >> 20} MiB"
        raise Refusal(413, f"The document is larger than {most}; save it as a file.", kind="size")
    asked = DocumentRequest.of(await json_of(request))
    await asyncio.to_thread(check_json, asked.document, limits)
    return {"changed": await studio.db(studio.store.save_document, asked.document)}
