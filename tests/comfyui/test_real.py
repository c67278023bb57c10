"""The nodes and the example workflows in ComfyUI itself, over its HTTP API.

    COMFYUI_PATH=folder COMFYUI_PYTHON=interpreter pytest -m slow tests/comfyui/test_real.py

COMFYUI_PATH is a checkout of ComfyUI, COMFYUI_PYTHON an interpreter that has ComfyUI's requirements and cloisonne. The
server runs on the CPU, on a free port of this machine, with a folder of its own for models and images.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_protocol import FOLDER, Nodes, graph_of
from PIL import Image

import cloisonne as cl

COMFYUI = os.environ.get("COMFYUI_PATH")
WORKFLOWS = sorted((FOLDER / "example_workflows").glob("*.json"))
PATIENCE = 600
"""Seconds until a start or a run has failed."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no checkout of ComfyUI"),
]


class Server:
    """A server that runs, and the folder of its images."""

    def __init__(self, port: int, folder: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.folder = folder
        self.log = log
        self.process = process

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer; with a body, of a POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def wait(self, done: Any) -> Any:
        """The first value of ``done()`` that is true."""
        end = time.monotonic() + PATIENCE
        while not (found := done()):
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < end, self.log.read_text()[-4000:]
            time.sleep(0.2)
        return found

    def queue(self, graph: dict[str, Any]) -> str:
        """Queue a graph. Returns its id."""
        return self.ask("/prompt", {"prompt": graph})["prompt_id"]

    def history(self, key: str) -> dict[str, Any]:
        """What became of a graph, when it has ended."""
        return self.wait(lambda: self.ask(f"/history/{key}").get(key))

    def running(self) -> bool:
        """Whether a graph is being executed."""
        return bool(self.ask("/queue")["queue_running"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("comfyui")
    (folder / "custom_nodes").mkdir()
    (folder / "page").mkdir()
    (folder / "page" / "index.html").write_text("")
    (folder / "custom_nodes" / "cloisonne").symlink_to(FOLDER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ("--cpu", "--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(folder))
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", *options, "--port", str(port)]
    command += ["--front-end-root", str(folder / "page")]
    log = folder / "log.txt"
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=COMFYUI, env=own, stdout=output, stderr=output) as process,
    ):
        started = Server(port, folder, log, process)
        try:
            started.wait(lambda: _answers(started))
            yield started
        finally:
            process.terminate()


def _answers(server: Server) -> bool:
    try:
        return bool(server.ask("/queue"))
    except OSError:
        return False


def graph(nodes: Nodes, name: str, **changes: Any) -> dict[str, Any]:
    """The graph of an example workflow, with values of its inputs changed wherever they occur."""
    made = graph_of(json.loads((FOLDER / "example_workflows" / f"{name}.json").read_text("utf-8")), nodes)
    for own in made.values():
        own["inputs"] |= {key: value for key, value in changes.items() if key in own["inputs"]}
    return made


def test_nodes_are_described_as_by_the_stand_in(server: Server, nodes: Nodes) -> None:
    for name, node in nodes.items():
        if name.startswith("Cloisonne"):
            found, schema = server.ask(f"/object_info/{name}")[name], node.define_schema()
            assert (found["display_name"], found["category"]) == (schema.display_name, schema.category)
            assert found["output"] == [slot.type for slot in schema.outputs]
            for kind in ("required", "optional"):
                wanted = [slot.id for slot in schema.inputs if slot.optional == (kind == "optional")]
                assert list(found["input"].get(kind, {})) == wanted


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run(server: Server, nodes: Nodes, path: Path) -> None:
    ended = server.history(server.queue(graph(nodes, path.stem, steps=2)))
    assert ended["status"]["status_str"] == "success", ended["status"]
    images = [image for output in ended["outputs"].values() for image in output.get("images", [])]
    assert images
    for image in images:
        with Image.open(server.folder / "output" / image["subfolder"] / image["filename"]) as saved:
            assert saved.size == (128, 128)


def test_the_image_is_the_librarys(server: Server, nodes: Nodes) -> None:
    ended = server.history(server.queue(graph(nodes, "regions", steps=2, batch_size=1, seed=7)))
    (image,) = next(iter(ended["outputs"].values()))["images"]
    boxes = {"donut": (0.05, 0.05, 0.45, 0.45, "a doughnut"), "cat": (0.5, 0.5, 0.95, 0.95, "a cat")}
    regions = [cl.Region(name=f"region-{i}", box=box, phrase=phrase) for i, (*box, phrase) in enumerate(boxes.values())]
    expected = cl.generate(cl.Scene(caption="on a beach", regions=regions), "builtin", seed=7, steps=2, progress=False)
    with Image.open(server.folder / "output" / image["subfolder"] / image["filename"]) as saved:
        difference = np.abs(np.asarray(saved, int) - np.asarray(expected.image, int))
    # ComfyUI's SaveImage rounds down, and its number of threads may be another one.
    assert difference.max() <= 2


def test_an_interrupt_ends_a_run_and_the_next_one_works(server: Server, nodes: Nodes) -> None:
    key = server.queue(graph(nodes, "regions", steps=900, seed=1))
    server.wait(server.running)
    time.sleep(2)
    server.ask("/interrupt", {})
    ended = server.history(key)
    kinds = [kind for kind, _ in ended["status"]["messages"]]
    assert "execution_interrupted" in kinds, ended["status"]
    again = server.history(server.queue(graph(nodes, "regions", steps=2, seed=2)))
    assert again["status"]["status_str"] == "success"


def test_an_error_is_the_librarys(server: Server, nodes: Nodes) -> None:
    made = graph(nodes, "regions", boxes="0.1,0.2: a cat")
    ended = server.history(server.queue(made))
    assert ended["status"]["status_str"] == "error"
    assert 'The line "0.1,0.2: a cat" is no box' in json.dumps(ended["status"], ensure_ascii=False).replace('\\"', '"')
