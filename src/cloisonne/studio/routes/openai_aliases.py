"""OpenAI-shaped routes: ``/v1/images/generations`` and ``/v1/images/edits``.

They wait for the pictures. A client that hangs up cancels its job. Where the mask of an edit is transparent, the
picture is changed; where it is opaque, every pixel stays.
"""

import asyncio
import base64
import re
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from cloisonne.errors import SceneError
from cloisonne.scene.values import brief
from cloisonne.studio.refusals import Refusal
from cloisonne.studio.routes.answers import Images, answered
from cloisonne.studio.routes.common import FILE, body, client_of, files, json_of, studio_of
from cloisonne.studio.routes.pictures import form_of, uploaded
from cloisonne.studio.scenes import ID
from cloisonne.studio.schema import ImagesRequest, JobRequest
from cloisonne.studio.storage.store import FINAL, Job

router = APIRouter(prefix="/v1/images", tags=["images"])
LOOK = 0.5
"""Seconds between two checks whether the client is still there."""
_SIZE = re.compile(r"(\d{2,4})x(\d{2,4})", re.ASCII)
_TEXT = {"type": "string"}


@router.post("/generations", responses=answered(Images), openapi_extra=body(ImagesRequest))
async def generations(request: Request) -> JSONResponse:
    """Generate pictures from a prompt."""
    asked = ImagesRequest.of(await json_of(request))
    scene: dict[str, Any] = {"caption": asked.prompt}
    if asked.size not in (None, "auto"):
        found = _SIZE.fullmatch(asked.size or "")
        if found is None:
            raise SceneError(f'size is {brief(asked.size)}; give "auto", or width x height as in "512x512".')
        scene |= {"width": int(found[1]), "height": int(found[2])}
    job = JobRequest(verb="generate", scene=scene, arguments={"num_images": asked.n or 1}, model=asked.model)
    return await _answered(request, job, asked.response_format)


@router.post(
    "/edits",
    responses=answered(Images),
    openapi_extra=files(
        image=FILE, mask=FILE, **dict.fromkeys(("prompt", "model", "n", "size", "response_format"), _TEXT)
    ),
)
async def edits(request: Request) -> JSONResponse:
    """Repaint a picture by a prompt where its mask, or without one the picture itself, is transparent."""
    given, texts = await form_of(request, "image", "mask")
    fields: dict[str, Any] = dict(texts)
    if fields.get("n", "1").isdecimal():
        fields["n"] = int(fields.get("n", "1"))
    asked = ImagesRequest.of(fields)
    if "image" not in given:
        raise SceneError("image is missing; give the picture to change.")
    if asked.size not in (None, "auto"):
        raise SceneError(f'size is {brief(asked.size)}, but the picture keeps its size; leave it out, or give "auto".')
    studio = studio_of(request)
    image = await uploaded(studio, given["image"], "image")
    mask = image if "mask" not in given else await uploaded(studio, given["mask"], "mask")
    arguments = {"image": {ID: image.id}, "mask": {ID: mask.id}, "mask_channel": "transparency", "phrase": asked.prompt}
    job = JobRequest(verb="inpaint", arguments=arguments | {"num_images": asked.n or 1}, model=asked.model)
    return await _answered(request, job, asked.response_format)


async def _answered(request: Request, asked: JobRequest, form: str | None) -> JSONResponse:
    """Submit a job, wait for it, and answer in OpenAI's shape."""
    studio = studio_of(request)
    job = await studio.submit(asked, client_of(request))
    channel = studio.ledger.channels.get(job.id)
    try:
        while channel is not None and channel.final is None:
            await channel.wait(channel.version, LOOK)
            if studio.closing or await request.is_disconnected():
                await studio.cancel(job.id)
                raise Refusal(503, "The request was given up.", kind="stopping")
    except asyncio.CancelledError:
        await asyncio.shield(studio.cancel(job.id))
        raise
    return JSONResponse(await _data(request, await studio.job(job.id), form))


async def _data(request: Request, job: Job, form: str | None) -> dict[str, Any]:
    if job.status not in FINAL or job.status == "cancelled":
        raise Refusal(409, "The job was cancelled.", kind="cancelled")
    if job.error is not None:
        status = 422 if job.error["kind"] in ("SceneError", "ImageError", "CapabilityError") else 500
        raise Refusal(status, job.error["message"], kind=job.error["kind"], region=job.error["region"])
    store, data = studio_of(request).store, []
    for picture in job.pictures:
        if form == "url":
            data.append({"url": f"{str(request.base_url).rstrip('/')}/v1/pictures/{picture.id}"})
        else:
            png = await asyncio.to_thread(store.files.read, picture.id)
            data.append({"b64_json": base64.b64encode(png).decode("ascii")})
    return {"created": int(job.created), "data": data}
