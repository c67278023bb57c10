"""The studio's page in Debian's Chromium."""

import importlib.util
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from studio_client import Process

CHROMIUM = Path("/usr/bin/chromium")
AXE = Path(__file__).parents[2] / "page" / "node_modules" / "axe-core" / "axe.min.js"
NO_AXE = pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed; run npm ci in page/")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
PATIENCE = 180_000
"""Milliseconds after which something does not come any more, on a busy machine too."""
NO_BROWSER = pytest.mark.skipif(
    not CHROMIUM.exists() or importlib.util.find_spec("playwright") is None,
    reason=f"{CHROMIUM} or playwright is not installed: the page is not tested in a browser",
)


@contextmanager
def browser() -> Iterator[Any]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield found
        found.close()


def is_fault(line: Any) -> bool:
    """Whether a line of the console is an error.

    A device that starts is none, nor is the preview of a job that has ended.
    """
    ended = "404" in line.text and "/preview" in line.location["url"]
    return line.type == "error" and "503" not in line.text and not ended


class Studio:
    """A page of a server, with its faults. A busy server (503, while its device starts) is none."""

    def __init__(self, page: Any, server: Process) -> None:
        self.page = page
        self.server = server
        self.sent = 0
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda line: is_fault(line) and self.faults.append(f"{line.text} {line.location}"))

    def open(self) -> "Studio":
        """Open the address that the server printed."""
        self.page.goto(f"{self.server.url}/#token={self.server.token}")
        return self.ready()

    def ready(self) -> "Studio":
        """Wait until the page knows the model."""
        self.page.wait_for_selector("#studio[data-ready]")
        self.page.wait_for_selector("#canvas[data-view]")
        self.page.get_by_text("128 × 128").wait_for()
        self.settle()
        self.sent = self._sent()
        return self

    def settle(self) -> None:
        """Wait until all that was done is drawn and saved in the browser."""
        self.page.wait_for_selector("html[data-saved=yes]", state="attached")
        self.page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        self.page.wait_for_selector("html[data-saved=yes]", state="attached")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A pixel of the canvas on the screen."""
        scale, left, top = map(float, self.page.get_attribute("#canvas", "data-view").split())
        box = self.page.locator("#canvas").bounding_box()
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        """Drag the mouse along pixels of the canvas."""
        mouse, (first, *rest) = self.page.mouse, points
        mouse.move(*self.at(*first))
        mouse.down()
        for point in rest:
            mouse.move(*self.at(*point), steps=4)
        mouse.up()
        self.settle()

    def region(self, key: str, *points: tuple[float, float], phrase: str) -> None:
        """Draw a region with the tool of a key, and describe it."""
        self.page.locator("#canvas").focus()
        self.page.keyboard.press("Escape")
        self.page.keyboard.press(key)
        self.drag(*points)
        self.page.keyboard.type(phrase)
        self.settle()

    def doc(self) -> dict[str, Any]:
        """The document that the browser has saved."""
        self.settle()
        return json.loads(self.page.evaluate("localStorage.getItem('cloisonne.doc')"))

    def regions(self) -> list[dict[str, Any]]:
        return self.doc()["scene"]["regions"]

    def generate(self) -> None:
        """Press Ctrl+Enter and wait for the picture."""
        with self.page.expect_response(lambda one: one.url.endswith("/v1/jobs") and one.status == 202):
            self.page.keyboard.press("Control+Enter")
        self.wait()

    def wait(self) -> None:
        """Wait until a job has been sent and no job waits or runs; one may end before its progress is drawn."""
        self.page.wait_for_selector(f'.generate:not([data-sent="{self.sent}"])', state="attached")
        self.page.wait_for_selector("#progress", state="detached")
        self.sent = self._sent()
        self.settle()

    def _sent(self) -> int:
        """The number of jobs that the page has sent."""
        return int(self.page.get_attribute(".generate", "data-sent"))

    def violations(self) -> list[str]:
        """What axe finds wrong with the page as it is."""
        self.page.evaluate(AXE.read_text())
        return [_violation(found) for found in self.page.evaluate("axe.run(document)")["violations"]]

    def drop(self, data: bytes, name: str, kind: str = "image/png") -> None:
        """Drop a file on the page."""
        self.page.evaluate(
            """([bytes, name, type]) => {
                const files = new DataTransfer();
                files.items.add(new File([new Uint8Array(bytes)], name, { type }));
                document.querySelector(".app").dispatchEvent(
                    new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true }));
            }""",
            [list(data), name, kind],
        )
        self.page.wait_for_selector(".notice, .picture-field img")
        self.settle()

    def pixel(self, x: int, y: int, layer: int = 0) -> list[int]:
        """What a layer of the canvas, 0 is the lowest, shows in the middle of a pixel of the picture, RGBA."""
        box, (left, top) = self.page.locator("#canvas").bounding_box(), self.at(x + 0.5, y + 0.5)
        return self.page.evaluate(
            """([x, y, layer]) => {
                const canvas = document.querySelectorAll("#canvas canvas")[layer];
                const ratio = canvas.width / canvas.clientWidth;
                return [...canvas.getContext("2d").getImageData(x * ratio, y * ratio, 1, 1).data];
            }""",
            [left - box["x"], top - box["y"], layer],
        )


def _violation(found: dict[str, Any]) -> str:
    return f"{found['id']}: {found['help']}: {[node['html'][:150] for node in found['nodes']][:4]}"


def new_page(chromium: Any, process: Process, **context: Any) -> Studio:
    """The page of a server in a browser without memory, 1280 x 800 unless ``context`` says otherwise."""
    made = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **context})
    made.set_default_timeout(PATIENCE)
    return Studio(made.new_page(), process).open()


def forget_document(process: Process) -> None:
    """Let the server have no unsent document."""
    with process.client() as client:
        assert client.put("/v1/document", json={"document": None}).status_code == 200


def picture(studio: Studio, name: str) -> bytes:
    """The bytes of a picture of the server."""
    with studio.server.client() as client:
        return client.get(f"/v1/pictures/{name}").content


def jobs(studio: Studio) -> list[dict[str, Any]]:
    """The jobs of the server, the newest first."""
    with studio.server.client() as client:
        return client.get("/v1/jobs").json()["jobs"]


def pixels(png: bytes) -> np.ndarray:
    """[H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
