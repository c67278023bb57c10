"""A replica of a model, without Ray: whenever its readers leave, it draws the next job."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from studio_client import SCENE

from cloisonne.models.builtin import BUILTIN
from cloisonne.models.model_spec import ModelSpec
from cloisonne.studio.cluster.replica import ModelReplica
from cloisonne.studio.storage.ids import new_id

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing"),
]
SPEC = ModelSpec("builtin").to_dict()


@pytest.fixture(scope="module")
async def replica() -> AsyncIterator[ModelReplica]:
    found = ModelReplica("builtin", {"source": "builtin", **SPEC}, "cpu")
    assert (await drawn(found, new_id()))[-1] == "done"
    yield found
    await found._device.close()


async def drawn(replica: ModelReplica, *jobs: str, steps: int = 2) -> list[str]:
    """The events of jobs that are drawn together."""
    scene = {**SCENE, "steps": steps}
    own: dict[str, Any] = {"verb": "generate", "model": "builtin", "spec": SPEC, "inputs": {}, "files": {}}
    asked = [{**own, "job": job, "scene": scene, "options": {}} for job in jobs]
    return [frame["event"] async for frame, _ in replica.draw(asked)]


@pytest.mark.parametrize("turns", [*range(12), 0.002, 0.01, 0.05, 0.2])
async def test_a_reader_that_leaves_does_not_stop_the_next_one(turns: float, replica: ModelReplica) -> None:
    """After so many turns of the event loop, or seconds; with another reader that waits, and leaves too."""
    first = asyncio.create_task(drawn(replica, new_id(), new_id(), steps=60))
    waiting = asyncio.create_task(drawn(replica, new_id()))
    for _ in range(int(turns)):
        await asyncio.sleep(0)
    await asyncio.sleep(turns % 1)
    for reader in (waiting, first):
        reader.cancel()
    for reader in (waiting, first):
        with pytest.raises(asyncio.CancelledError):
            await reader
    assert (await asyncio.wait_for(drawn(replica, new_id()), 60))[-1] == "done"


async def test_a_job_is_drawn_once_more_after_a_cancelling_that_came_too_late(replica: ModelReplica) -> None:
    """As where a server ends just after its job has."""
    job = new_id()
    assert (await drawn(replica, job))[-1] == "done"
    await replica._device.cancel(job)
    assert (await drawn(replica, job))[-1] == "done"
