"""The example workflows fit the schemas, run, and need no file of the user's; the folder is a standard node package."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from comfy_protocol import FOLDER, Nodes, check, graph_of, run
from packaging.requirements import Requirement

from cloisonne.models.builtin import BUILTIN

WORKFLOWS = sorted((FOLDER / "example_workflows").glob("*.json"))
ROOT = FOLDER.parent


def workflow(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_fit_the_schemas(nodes: Nodes, path: Path) -> None:
    own = workflow(path)
    check(graph_of(own, nodes), nodes)
    ids = [node["id"] for node in own["nodes"]]
    assert own["last_node_id"] == max(ids)
    assert len(set(ids)) == len(ids)
    for node in own["nodes"]:
        schema = nodes[node["type"]].define_schema()
        assert [(slot["name"], slot["type"]) for slot in node["outputs"]] == [
            (slot.id, slot.type) for slot in schema.outputs
        ]
        for place, slot in enumerate(node["outputs"]):
            assert slot["links"] == [link[0] for link in own["links"] if link[1:3] == [node["id"], place]]


@pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is missing")
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in ("control", "inpaint") else pytest.mark.slow) for path in WORKFLOWS],
    ids=lambda path: path.stem,
)
def test_workflows_run(nodes: Nodes, path: Path) -> None:
    """With one step in place of the model's usual number."""
    graph = graph_of(workflow(path), nodes)
    for own in graph.values():
        if "steps" in own["inputs"]:
            own["inputs"]["steps"] = 1
    done = run(graph, nodes)
    saved = [done[key][0] for key, own in graph.items() if own["class_type"] == "SaveImage"]
    assert saved
    for images in saved:
        assert images.dtype == torch.float32
        assert images.shape[1:] == (128, 128, 3)
        assert images.min() >= 0
        assert images.max() <= 1
        assert images.std() > 0.01


def test_every_node_is_in_a_workflow_but_those_that_need_files(nodes: Nodes) -> None:
    used = {node["type"] for path in WORKFLOWS for node in workflow(path)["nodes"]}
    ours = {name for name in nodes if name.startswith("Cloisonne")}
    needs_files = {"CloisonneAddLora", "CloisonneAddControl"}
    assert ours - used == needs_files | {"CloisonneSceneFromMasks", "CloisonneSceneToJson"}


def test_the_package_is_that_of_a_node() -> None:
    about = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))
    own = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert about["project"]["version"] == own["version"].partition(".dev")[0]
    assert about["project"]["license"] == {"file": "LICENSE"}
    assert {"PublisherId", "DisplayName"} <= about["tool"]["comfy"].keys()
    listed = (FOLDER / "requirements.txt").read_text("utf-8").split()
    assert listed == about["project"]["dependencies"]
    assert [Requirement(line).name for line in listed] == ["cloisonne"]
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
