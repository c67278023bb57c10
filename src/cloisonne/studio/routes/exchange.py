"""Routes of other tools' files: a scene from one, and a scene as one."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import UploadFile

from cloisonne.studio.refusals import Refusal
from cloisonne.studio.routes import imported
from cloisonne.studio.routes.answers import Exported, Imported, answered
from cloisonne.studio.routes.common import FILE, body, files, json_of, studio_of
from cloisonne.studio.schema import ExportRequest

router = APIRouter(prefix="/v1", tags=["documents"])
_FIELDS = ("image_id", "prompt_only")


@router.post(
    "/import",
    responses=answered(Imported),
    openapi_extra=files(
        file={"type": "array", "items": FILE}, mask=FILE, image_id={"type": "string"}, prompt_only={"type": "boolean"}
    ),
)
async def read(request: Request) -> dict[str, Any]:
    """The scene in a file of any format that ``cloisonne import`` reads, or in the PNG layers of an image."""
    studio = studio_of(request)
    limits, store = studio.settings.limits, studio.store
    given, options = await _form(request, limits.regions + 1)

    def made() -> tuple[dict[str, Any], list[Any], list[str]]:
        found = imported.of_files(given, options, limits)
        return *imported.stored(found, store.files, limits, complete=False), list(found[1])

    async with studio.decoding:
        scene, pictures, warnings = await asyncio.to_thread(made)
    for picture in pictures:
        await studio.db(store.add_picture, picture)
    return {"scene": scene, "warnings": warnings}


@router.post("/export", responses=answered(Exported), openapi_extra=body(ExportRequest))
async def write(request: Request) -> dict[str, Any]:
    """A scene as COCO annotations or ComfyUI's elements, and a sentence for each part that they cannot hold."""
    found, warnings = await studio_of(request).exported(ExportRequest.of(await json_of(request)))
    return {"data": found, "warnings": list(warnings)}


async def _form(request: Request, most: int) -> tuple[list[tuple[str, bytes]], imported.Options]:
    """The files of a multipart body by their names, and the options of the import. Raises Refusal."""
    if not request.headers["content-type"].lower().startswith("multipart/form-data"):
        raise Refusal(415, "This address takes files; send multipart/form-data.", kind="type")
    given: list[tuple[str, bytes]] = []
    mask: bytes | None = None
    fields: dict[str, str] = {}
    async with request.form(max_files=most + 1, max_fields=len(_FIELDS), max_part_size=64 * 2**10) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name == "file":
                given.append((value.filename or "file", await value.read()))
            elif isinstance(value, UploadFile) and name == "mask" and mask is None:
                mask = await value.read()
            elif isinstance(value, str) and name in _FIELDS and name not in fields:
                fields[name] = value
            else:
                raise Refusal(422, f"The field {name[:100]!a} is unknown or given twice; see docs/api.md.", kind="form")
    if not given:
        raise Refusal(422, 'The form has no file "file"; give one, or the layers of an image.', kind="form")
    if fields.get("prompt_only", "false") not in ("true", "false"):
        raise Refusal(422, "prompt_only is neither true nor false; give one of them.", kind="form")
    return given, imported.Options(fields.get("image_id"), mask, fields.get("prompt_only") != "true")
