"""The server on a real Ray cluster of this machine, with the built-in family. Runs only where Ray is installed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import ray_nodes_serving
import ray_serving
from ray_batches import descendants
from studio_client import serving, until
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.studio.storage.shared import SharedStore

INSTALLED = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not INSTALLED, reason="Ray is not installed")


def printed(script: ModuleType, folder: Path) -> dict[str, Any]:
    """What happened in a process with a cluster of its own."""
    support = str(Path(str(script.__file__)).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([support, *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script.__file__), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return printed(ray_serving, tmp_path_factory.mktemp("serving"))


@needs_ray
@pytest.mark.slow
def test_without_the_token_nobody_submits_a_job(found: dict[str, Any]) -> None:
    """Neither to this API nor to Ray's, which does not listen; the proxy's own answers have no content."""
    strangers = found["strangers"]
    assert [strangers[name] for name in ("jobs", "submit", "wrong", "ray", "host")] == [401, 401, 401, 401, 421]
    assert strangers["healthz"] == "success"
    assert strangers["routes"] == '{"/":"cloisonne"}'
    assert strangers["dashboard"] != 0
    assert found["stranger"] != 0


@needs_ray
@pytest.mark.slow
def test_nothing_answers_other_machines_without_the_token(found: dict[str, Any]) -> None:
    """Ports that are not on the loopback interface are those of replicas; with the token the call is merely wrong."""
    assert found["doors"]
    assert set(found["doors"]) == {"UNAUTHENTICATED"}
    assert "UNAUTHENTICATED" not in found["with token"]


@needs_ray
@pytest.mark.slow
def test_a_job_has_events_and_the_pixels_of_the_command_line(found: dict[str, Any]) -> None:
    last, stages = found["events"]
    assert last == "done"
    assert "sampling" in stages
    assert found["same"]
    assert found["explain"]


@needs_ray
@pytest.mark.slow
def test_a_running_job_is_cancelled_and_the_next_one_drawn(found: dict[str, Any]) -> None:
    assert found["cancelled"]["status"] == "cancelled"
    assert found["cancelled"]["after"] == "done"


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("name", "jobs"), [("replica", 4), ("server", 4), ("restarted", 6)])
def test_no_job_is_lost(name: str, jobs: int, found: dict[str, Any]) -> None:
    """When a replica or a server is killed, and when all processes are replaced in turn."""
    outcome = found[name]
    assert outcome["statuses"] == {"done": jobs}, outcome
    assert outcome["pictures"] == [1]
    assert outcome["seeds"] == jobs


@needs_ray
@pytest.mark.slow
def test_a_cluster_that_serves_already_is_refused(found: dict[str, Any]) -> None:
    assert "Ray Serve runs on this cluster already" in found["second"]


@needs_ray
@pytest.mark.slow
def test_no_job_is_listed_twice(found: dict[str, Any]) -> None:
    assert found["listed"] == 1 + 2 + 4 + 4 + 6


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the command", "to its process group"])
def test_sigterm_ends_all_and_the_job_waits(send: Callable[[int, int], None], tmp_path: Path) -> None:
    """The group has the processes of Ray too, which then do not answer any more."""
    with serving(tmp_path / "data", prefix=("setsid",)) as server, server.client() as client:
        job = ray_serving.submit(client, ray_serving.LONG)
        until(lambda: client.get(f"/v1/jobs/{job}/preview").status_code == 200)
        own = descendants(server.process.pid)
        assert len(own) > 8
        send(server.process.pid, signal.SIGTERM)
        assert server.process.wait(60) == 0
        until(lambda: not any(is_alive(process) for process in own))
    with closing(SharedStore(tmp_path / "data")) as store:
        assert [(one.id, one.status) for one in store.unfinished()] == [(job, "queued")]


def is_alive(process: int) -> bool:
    """Whether a process runs: it is there, and no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@needs_ray
@pytest.mark.slow
def test_an_operators_cluster_serves_again_and_loses_a_node(tmp_path: Path) -> None:
    happened = printed(ray_nodes_serving, tmp_path)
    assert happened["ended"] == 0
    assert happened["statuses"] == ["done", "done"], happened
    assert happened["pictures"] == [1, 1]


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_the_error_says_how_to_install_it() -> None:
    refused = CliRunner().invoke(app, ["serve", "--ray", "local"])
    assert 'pip install "cloisonne[ray]"' in str(refused.exception)


@needs_ray
def test_replicas_are_counted() -> None:
    given = ["serve", "--ray", "local", "--min-replicas", "3", "--max-replicas", "2"]
    assert "--min-replicas is 3, more than --max-replicas 2" in str(CliRunner().invoke(app, given).exception)
