"""Routes of jobs: submit, list, watch, cancel, repeat, erase."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse

from cloisonne.studio.events import event, stream
from cloisonne.studio.refusals import Refusal, missing
from cloisonne.studio.routes.answers import Job, Jobs, answered
from cloisonne.studio.routes.common import body, checked_id, client_of, json_of, studio_of
from cloisonne.studio.schema import JobRequest, job_json

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.post("", status_code=202, responses=answered(Job, 202), openapi_extra=body(JobRequest))
async def submit(request: Request) -> JSONResponse:
    """Accept a job. Answers at once; the job's events say how it goes."""
    studio = studio_of(request)
    job = await studio.submit(JobRequest.of(await json_of(request)), client_of(request))
    answer = job_json(job, studio.position(job.id))
    return JSONResponse(answer, status_code=202, headers={"location": f"/v1/jobs/{job.id}"})


@router.get("", responses=answered(Jobs))
async def listed(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
) -> dict[str, Any]:
    """The newest jobs; ``before`` the number of the last one gives the next page."""
    studio = studio_of(request)
    jobs = await studio.ledger.jobs(limit, before)
    return {"jobs": [job_json(job, studio.position(job.id)) for job in jobs]}


@router.get("/{job}", responses=answered(Job))
async def one(request: Request, job: str) -> dict[str, Any]:
    """A job: its status, its pictures, its report or its error."""
    studio = studio_of(request)
    return job_json(await studio.job(checked_id("job", job)), studio.position(job))


@router.get("/{job}/events", response_class=Response)
async def events(request: Request, job: str) -> Response:
    """Server-sent events of a job: progress, and at its end done, failed or cancelled."""
    studio, client = studio_of(request), client_of(request)
    record = await studio.job(checked_id("job", job))
    channel = await studio.ledger.channel(job)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    if channel is None:
        record = await studio.job(job)  # it may have ended since
        ended = event(record.status, job_json(record), 0)
        return Response(ended, media_type=EventSourceResponse.media_type, headers=headers)
    limits = studio.settings.limits
    if studio.streams.total() >= limits.streams or studio.streams[client] >= limits.streams_per_client:
        raise Refusal(503, "Too many event streams are open; close some.", kind="busy", headers={"retry-after": "5"})
    gate = request.app.state.gate

    async def sent() -> AsyncIterator[bytes]:
        studio.streams[client] += 1
        try:
            async for one in stream(channel, lambda: not studio.closing and gate.allows(request.scope)):
                yield one
        finally:
            studio.streams[client] -= 1
            if not studio.streams[client]:
                del studio.streams[client]

    return EventSourceResponse(sent(), headers=headers)


@router.get("/{job}/preview", response_class=Response)
async def preview(request: Request, job: str) -> Response:
    """The newest preview of a running job, as WebP."""
    found = await studio_of(request).ledger.preview(checked_id("job", job))
    if found is None:
        raise missing("preview of the job", job)
    return Response(found, media_type="image/webp")


@router.post("/{job}/again", status_code=202, responses=answered(Job, 202))
async def again(request: Request, job: str) -> JSONResponse:
    """Run a finished job once more, as a new job; the body is an empty object."""
    studio = studio_of(request)
    await json_of(request)
    new = await studio.again(checked_id("job", job), client_of(request))
    answer = job_json(new, studio.position(new.id))
    return JSONResponse(answer, status_code=202, headers={"location": f"/v1/jobs/{new.id}"})


@router.delete("/{job}", responses=answered(Job))
async def cancel(request: Request, job: str) -> dict[str, Any]:
    """Cancel a job that waits or runs, before its next step. A finished one stays as it is."""
    studio = studio_of(request)
    return job_json(await studio.cancel(checked_id("job", job)))


@router.delete("/{job}/record", status_code=204)
async def erase(request: Request, job: str) -> Response:
    """Delete a finished job and its pictures."""
    studio = studio_of(request)
    record = await studio.job(checked_id("job", job))
    if not await studio.db(studio.store.erase_job, job):
        raise Refusal(409, f"The job {job} is {record.status}; cancel it first.", kind="state")
    return Response(status_code=204)
