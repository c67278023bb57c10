"""Worker processes run no file of the folder in which they are started."""

import asyncio
from pathlib import Path

import pytest

from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.batches.process import WorkerProcess
from cloisonne.studio.device import Device


@pytest.fixture(autouse=True)
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder has a file with the name of a module that torch imports."""
    (tmp_path / "grp.py").write_text('raise RuntimeError("a file of the working folder was run")')
    monkeypatch.chdir(tmp_path)


def test_a_worker_of_the_studio_starts() -> None:
    async def state() -> str:
        device = Device("cpu")
        await device.open()
        found = device.state
        await device.close()
        return found

    assert asyncio.run(state()) == "ready"


def test_a_worker_of_a_batch_starts(tmp_path: Path) -> None:
    worker = WorkerProcess(spec=ModelSpec.of("builtin").to_dict(), folder=tmp_path, threads=1, place=0)
    try:
        assert worker.open().model
    finally:
        worker.close()
