"""Jobs that are drawn together, as on a GPU: here on a CPU, where each scene of a batch keeps its own bytes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from studio_client import SCENE, WHERE, Process, finished, reached, served, serving, settings_in

import cloisonne as cl
from cloisonne.models.builtin import BUILTIN

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing"),
]


@pytest.fixture(scope="module", params=WHERE)
def one_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process | None]:
    """One server on Ray: another one would take the jobs that wait for the replica. None for one in this process."""
    if request.param is None:
        yield None
        return
    with serving(tmp_path_factory.mktemp("ray") / "data", "--servers", "1", "--batch", "4") as found:
        yield found


@pytest.fixture(scope="module")
async def client(
    tmp_path_factory: pytest.TempPathFactory, one_server: Process | None
) -> AsyncIterator[httpx.AsyncClient]:
    settings = settings_in(tmp_path_factory.mktemp("batches"), devices=("cpu",), batch=4)
    async with reached(one_server) if one_server else served(settings) as client:
        while (await client.get("/v1/status")).json()["devices"][0]["state"] != "ready":
            await asyncio.sleep(0.05)
        yield client


async def queued(client: httpx.AsyncClient, *scenes: dict[str, Any]) -> list[str]:
    """Ids of jobs that all wait until the job before them is cancelled."""
    body = {"verb": "generate", "scene": SCENE | {"steps": 200, "width": 256, "height": 256}}
    first = (await client.post("/v1/jobs", json=body)).json()["id"]
    while (await client.get(f"/v1/jobs/{first}/preview")).status_code == 404:
        await asyncio.sleep(0.01)
    answers = [await client.post("/v1/jobs", json={"verb": "generate", "scene": scene}) for scene in scenes]
    assert {answer.status_code for answer in answers} == {202}, [answer.text for answer in answers]
    await client.delete(f"/v1/jobs/{first}")
    return [answer.json()["id"] for answer in answers]


async def same_as_alone(client: httpx.AsyncClient, job: dict[str, Any], scene: dict[str, Any], folder: Path) -> bool:
    """Whether a job has the bytes that Python draws of its scene."""
    path = folder / f"{job['id']}.png"
    cl.generate(scene, "builtin").save(path)
    return (await client.get(job["pictures"][0]["url"])).content == path.read_bytes()


async def test_compatible_jobs_run_together_and_have_their_own_bytes(client: httpx.AsyncClient, tmp_path: Path) -> None:
    scenes = [SCENE | {"seed": seed, "caption": f"{seed} cats"} for seed in (1, 2)]
    scenes += [SCENE | {"seed": 3, "regions": []}, SCENE | {"seed": 4, "steps": 3}]
    jobs = [await finished(client, job) for job in await queued(client, *scenes)]
    assert [job["status"] for job in jobs] == ["done"] * 4
    together, alone = jobs[:3], jobs[3]
    assert max(job["started"] for job in together) < min(job["finished"] for job in together)
    assert alone["started"] >= max(job["finished"] for job in together), "it has other steps"
    for job, scene in zip(jobs, scenes, strict=True):
        assert job["report"]["scene"]["seed"] == scene["seed"]
        assert await same_as_alone(client, job, scene, tmp_path)


async def test_one_of_them_is_cancelled_and_the_others_go_on(client: httpx.AsyncClient, tmp_path: Path) -> None:
    scenes = [SCENE | {"seed": seed, "steps": 60} for seed in range(3)]
    names = await queued(client, *scenes)
    while (await client.get(f"/v1/jobs/{names[1]}/preview")).status_code == 404:
        await asyncio.sleep(0.01)
    await client.delete(f"/v1/jobs/{names[1]}")
    jobs = [await finished(client, job) for job in names]
    assert [job["status"] for job in jobs] == ["done", "cancelled", "done"]
    assert jobs[1]["finished"] < jobs[0]["finished"], "it does not wait for the others"
    for place in (0, 2):
        assert await same_as_alone(client, jobs[place], scenes[place], tmp_path)


async def test_all_of_them_are_cancelled(client: httpx.AsyncClient) -> None:
    names = await queued(client, *(SCENE | {"seed": seed, "steps": 199} for seed in range(2)))
    while (await client.get(f"/v1/jobs/{names[1]}/preview")).status_code == 404:
        await asyncio.sleep(0.01)
    for job in names:
        await client.delete(f"/v1/jobs/{job}")
    assert [(await finished(client, job))["status"] for job in names] == ["cancelled"] * 2


async def test_one_that_fails_fails_alone(client: httpx.AsyncClient, tmp_path: Path) -> None:
    unsupported = {"name": "line", "box": [0, 0, 1, 1], "lora": "ink", "phrase": "a cat"}
    scenes = [SCENE | {"seed": 7}, SCENE | {"seed": 8, "regions": [unsupported]}]
    jobs = [await finished(client, job) for job in await queued(client, *scenes)]
    assert [job["status"] for job in jobs] == ["done", "failed"]
    assert jobs[1]["error"]["kind"] == "CapabilityError"
    assert jobs[1]["error"]["region"] == "line"
    assert await same_as_alone(client, jobs[0], scenes[0], tmp_path)
