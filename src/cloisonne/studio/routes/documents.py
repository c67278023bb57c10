"""Routes of documents that are not sent yet: the page's own, and layouts of other tools."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from cloisonne.errors import SceneError
from cloisonne.scene.io import elements
from cloisonne.scene.scene import Scene
from cloisonne.studio.refusals import Refusal
from cloisonne.studio.routes.common import body, json_of, studio_of
from cloisonne.studio.scenes import check_json, check_sizes
from cloisonne.studio.schema import DocumentRequest, ElementsRequest, SceneRequest

router = APIRouter(prefix="/v1", tags=["documents"])


@router.get("/document")
async def document(request: Request) -> dict[str, Any]:
    """The page's unsent document and the time of its last change; both null where there is none."""
    studio = studio_of(request)
    content, changed = await studio.db(studio.store.document)
    return {"document": content, "changed": changed}


@router.put("/document", openapi_extra=body(DocumentRequest))
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


@router.post("/elements/read", openapi_extra=body(ElementsRequest))
async def read(request: Request) -> dict[str, Any]:
    """The scene of ComfyUI's elements, and a sentence for each that has no box."""
    limits, asked = studio_of(request).settings.limits, ElementsRequest.of(await json_of(request))

    def made() -> dict[str, Any]:
        check_json(asked.elements, limits)
        if isinstance(asked.elements, dict) and not elements.is_elements(asked.elements):
            raise SceneError("The object has no elements; give the JSON that ComfyUI's nodes exchange.")
        warnings: list[str] = []
        fields = elements.scene_fields(asked.elements, warnings.append)
        check_sizes(fields, limits)
        return {"scene": Scene(**fields).to_dict(), "warnings": warnings}

    return await asyncio.to_thread(made)


@router.post("/elements/write", openapi_extra=body(SceneRequest))
async def write(request: Request) -> dict[str, Any]:
    """A scene as ComfyUI's elements, and a sentence for each part that they cannot hold."""
    asked = SceneRequest.of(await json_of(request))
    found, warnings = await studio_of(request).elements(asked.scene)
    return {"elements": found, "warnings": list(warnings)}
