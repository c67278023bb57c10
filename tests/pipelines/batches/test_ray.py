"""Batches on Ray give the images of batches without it. Most of it runs only where Ray is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import ray_batches

from cloisonne.errors import CapabilityError
from cloisonne.pipelines.batches.ray_cluster import check_version, connect

INSTALLED = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not INSTALLED, reason="Ray is not installed")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What batches in a process with a cluster of its own gave."""
    folder = tmp_path_factory.mktemp("ray")
    support = str(Path(ray_batches.__file__).parent)
    path = os.pathsep.join([support, *sys.path])
    command = [sys.executable, ray_batches.__file__, str(folder)]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # Ray prints lines of its own.
    return json.loads(next(line for line in run.stdout.splitlines() if line.startswith("{")))


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "five", "killed"])
def test_images_are_those_without_ray(name: str, found: dict[str, Any]) -> None:
    assert found[name] == [ray_batches.SCENES, [], True]
    assert found["again"] == ray_batches.SCENES
    assert found["kills"] >= 2


@needs_ray
@pytest.mark.slow
def test_a_refused_model_is_the_error(found: dict[str, Any]) -> None:
    assert found["refused"] == "There is no model."


@needs_ray
@pytest.mark.slow
def test_the_cluster_is_closed(found: dict[str, Any]) -> None:
    """No dashboard; nothing listens to other machines; a random token, without which nobody connects."""
    assert not found["dashboard"]
    assert found["listening"]
    assert all(ip_address(address).is_loopback for address, _ in found["listening"])
    assert found["token"] == ["token", 64]
    assert found["stranger"] != 0


@pytest.mark.skipif(INSTALLED, reason="Ray is installed")
def test_without_ray_the_error_says_how_to_install_it() -> None:
    with pytest.raises(CapabilityError, match=r'pip install "cloisonne\[ray\]"'):
        connect("local", cpus=1, label="--ray")


@pytest.mark.parametrize("version", ["2.9.3", "2.51.1", "2.53.0"])
def test_versions_with_open_doors_are_refused(version: str) -> None:
    with pytest.raises(CapabilityError, match=f"version {version}, .* install 2.54 or newer"):
        check_version(version)
    check_version("2.54.0")
    check_version("3.0")
