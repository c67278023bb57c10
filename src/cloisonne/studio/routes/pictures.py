"""Routes of pictures: upload, read, delete."""

import asyncio
import io
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image
from starlette.datastructures import UploadFile

from cloisonne.errors import CloisonneError
from cloisonne.studio import intake
from cloisonne.studio.refusals import Refusal, missing
from cloisonne.studio.routes import imported
from cloisonne.studio.routes.answers import Picture as PictureAnswer
from cloisonne.studio.routes.answers import Upload, answered
from cloisonne.studio.routes.common import FILE, checked_id, files, studio_of
from cloisonne.studio.schema import picture_json
from cloisonne.studio.storage.store import Picture
from cloisonne.studio.studio import Studio

router = APIRouter(prefix="/v1/pictures", tags=["pictures"])
MAX_FIELDS = 32
FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
"""A picture never changes."""


async def form_of(request: Request, *names: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files and the other fields of a multipart body; ``names`` are the files that it may have. Raises Refusal."""
    if not request.headers["content-type"].lower().startswith("multipart/form-data"):
        raise Refusal(415, "This address takes files; send multipart/form-data.", kind="type")
    given: dict[str, bytes] = {}
    fields: dict[str, str] = {}
    async with request.form(max_files=len(names), max_fields=MAX_FIELDS, max_part_size=64 * 2**10) as form:
        for name, value in form.multi_items():
            if name in given or name in fields:
                raise Refusal(422, f"The field {name[:100]!a} is given twice; keep one.", kind="form")
            if isinstance(value, UploadFile):
                if name not in names:
                    raise Refusal(422, f"There is no file {name[:100]!a}; give {', '.join(names)}.", kind="form")
                given[name] = await value.read()
            else:
                fields[name] = value
    return given, fields


async def uploaded(studio: Studio, data: bytes, role: str) -> Picture:
    """Store a picture from outside. Raises ImageError, StorageFull."""
    async with studio.decoding:
        picture = await asyncio.to_thread(intake.stored, data, role, studio.store.files, studio.settings.limits)
    await studio.db(studio.store.add_picture, picture)
    return picture


@router.post("", status_code=201, responses=answered(Upload, 201), openapi_extra=files(file=FILE))
async def upload(request: Request) -> JSONResponse:
    """Store a PNG, JPEG or WebP picture, encoded again. The scene in its metadata comes back, with its pictures."""
    studio = studio_of(request)
    given, fields = await form_of(request, "file")
    if set(given) != {"file"} or fields:
        raise Refusal(422, 'The form has not one file "file"; give it, and nothing else.', kind="form")
    picture = await uploaded(studio, given["file"], "picture")
    answer = picture_json(picture) | await _restored(studio, given["file"])
    return JSONResponse(answer, status_code=201, headers={"location": f"/v1/pictures/{picture.id}"})


async def _restored(studio: Studio, data: bytes) -> dict[str, Any]:
    """The scene in a picture with ids in place of its pictures; ``scene_error``: why it cannot be used."""
    limits, files = studio.settings.limits, studio.store.files

    def restored() -> tuple[dict[str, Any] | None, list[Picture], list[str]]:
        found = imported.of_picture(data)
        if found is None:
            return None, [], []
        scene, pictures = imported.stored(found, files, limits, complete=True)
        return scene, pictures, list(found[1])

    try:
        async with studio.decoding:
            scene, pictures, warnings = await asyncio.to_thread(restored)
    except CloisonneError as error:
        return {"scene": None, "scene_error": str(error), "warnings": []}
    for picture in pictures:
        await studio.db(studio.store.add_picture, picture)
    return {"scene": scene, "scene_error": None, "warnings": warnings}


@router.get("/{picture}", response_class=Response)
async def one(
    request: Request,
    picture: str,
    side: Annotated[int | None, Query(ge=16, le=1024)] = None,
    download: bool = False,
) -> Response:
    """A picture as PNG; with ``side``, a WebP of at most that many pixels a side."""
    studio = studio_of(request)
    path = studio.store.files.path(checked_id("picture", picture))
    if not path.is_file():
        raise missing("picture", picture)
    if side is not None:
        async with studio.decoding:
            return Response(await asyncio.to_thread(_small, path, side), media_type="image/webp", headers=FOREVER)
    kind = "attachment" if download else "inline"
    return FileResponse(
        path, media_type="image/png", headers=FOREVER, filename=f"{picture}.png", content_disposition_type=kind
    )


def _small(path: Any, side: int) -> bytes:
    with Image.open(path, formats=["PNG"]) as image:
        small = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
    small.thumbnail((side, side))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=85, method=2)
    return file.getvalue()


@router.get("/{picture}/info", responses=answered(PictureAnswer))
async def info(request: Request, picture: str) -> dict[str, Any]:
    """Size, hash and origin of a picture."""
    studio = studio_of(request)
    try:
        return picture_json(await studio.db(studio.store.picture, checked_id("picture", picture)))
    except KeyError:
        raise missing("picture", picture) from None


@router.delete("/{picture}", status_code=204)
async def erase(request: Request, picture: str) -> Response:
    """Delete a picture that no waiting or running job needs."""
    studio = studio_of(request)
    try:
        await studio.db(studio.store.picture, checked_id("picture", picture))
    except KeyError:
        raise missing("picture", picture) from None
    if not await studio.db(studio.store.erase_picture, picture):
        raise Refusal(409, "A job needs this picture; wait for its end, or cancel it first.", kind="state")
    return Response(status_code=204)
