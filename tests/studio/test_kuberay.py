"""The manifest for Kubernetes: its doors are closed, and its command is one that the command line takes."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from cloisonne.cli.main import app
from cloisonne.models.model_spec import ModelSpec
from cloisonne.studio.cluster.serving import FLOOR

FILE = Path(__file__).parents[2] / "deploy" / "kuberay.yaml"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all(FILE.read_text())}


def test_rays_doors_are_closed(documents: dict[str, Any]) -> None:
    spec = documents["RayCluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["include-dashboard"] == "false"
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert tuple(map(int, spec["rayVersion"].split("."))) >= FLOOR.release
    policy = documents["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"]["ray.io/cluster"] == documents["RayCluster"]["metadata"]["name"]
    outside = [rule for rule in policy["ingress"] if "namespaceSelector" in str(rule)]
    assert [rule["ports"] for rule in outside] == [[{"protocol": "TCP", "port": 7788}]]


def test_the_command_is_one_that_is_taken(documents: dict[str, Any]) -> None:
    (head,) = documents["RayCluster"]["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    (script,) = head["args"]
    words = shlex.split(script.partition("exec ")[2].replace("\\\n", " "))
    assert words[:2] == ["cloisonne", "serve"]
    command: Any = get_command(app)
    given = command.commands["serve"].make_context("serve", words[2:]).params
    assert (given["ray"], given["host"], str(given["data"])) == ("auto", "0.0.0.0", "/data")
    assert given["token_file"]
    assert given["allow_host"]
    assert ModelSpec.from_json(given["model"][0]).device == "cuda"
    mounts = {mount["mountPath"] for mount in head["volumeMounts"]}
    assert {str(given["data"]), str(given["token_file"].parent)} == mounts
    groups = documents["RayCluster"]["spec"]["workerGroupSpecs"]
    assert given["max_replicas"] == sum(group["maxReplicas"] for group in groups)
