"""Speed of the studio's page in Chromium, with the built-in model on this machine.

``python benchmarks/studio_page.py [--rounds 5]`` starts a server and prints a report as JSON:

- first paint and the first content, in milliseconds after the address is opened;
- from the key to the picture: Ctrl+Enter to the decoded picture on the canvas, over the seconds that the report of the
  same picture gives for the drawing itself;
- previews: the share of a step's time that making, sending and storing them takes in the worker;
- frames: 25 regions, one of them a brush mask, on a canvas of 2048 x 2048 pixels, while that mask is dragged.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from studio_client import server

from studio_page import Studio, browser, new_page

FRAMES = """() => {
    window.frameTimes = [];
    let last = performance.now();
    const tick = (now) => {
        window.frameTimes.push(now - last);
        last = now;
        window.ticking = requestAnimationFrame(tick);
    };
    window.ticking = requestAnimationFrame(tick);
}"""
PICTURE = """() => new Promise((resolve) => {
    const canvas = document.querySelector("#canvas");
    const old = canvas.getAttribute("data-picture");
    let began = 0;
    window.addEventListener("keydown", () => (began = performance.now()), { capture: true, once: true });
    new MutationObserver(() => {
        const now = canvas.getAttribute("data-picture");
        if (now && now !== old) requestAnimationFrame(() => resolve(performance.now() - began));
    }).observe(canvas, { attributes: true, attributeFilter: ["data-picture"] });
})"""


def spread(values: list[float]) -> dict[str, float]:
    """Median and extremes."""
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


def paints(chromium: Any, process: Any, rounds: int) -> dict[str, Any]:
    """Milliseconds from the navigation to the first paint and the first content, each time in a new browser profile."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        studio = new_page(chromium, process)
        read = "performance.getEntriesByType('paint').map((one) => [one.name, one.startTime])"
        for name, start in studio.page.evaluate(read):
            found.setdefault(name, []).append(start)
        studio.page.context.close()
    return {name: spread(values) for name, values in found.items()}


def key_to_picture(studio: Studio, rounds: int) -> dict[str, Any]:
    """Seconds of both, and their ratio. The first picture, which loads the model, is not counted."""
    studio.drag((20, 30), (80, 100))
    studio.page.keyboard.type("a cat")
    studio.generate()
    whole, drawing = [], []
    for _ in range(rounds):
        waiting = studio.page.evaluate_handle(f"() => {{ window.arrived = ({PICTURE})(); }}")
        studio.page.keyboard.press("Control+Enter")
        whole.append(studio.page.evaluate("window.arrived") / 1000)
        waiting.dispose()
        studio.settle()
        with studio.server.client() as client:
            drawing.append(client.get("/v1/jobs?limit=1").json()["jobs"][0]["report"]["seconds"])
    ratios = [one / own for one, own in zip(whole, drawing, strict=True)]
    return {"key_to_picture_s": spread(whole), "drawing_s": spread(drawing), "ratio": spread(ratios)}


def previews(rounds: int) -> dict[str, Any]:
    """The share of a run that the worker spends on previews: one at every step, and as the studio limits them."""
    from cloisonne.models.load import load
    from cloisonne.pipelines.generate import generate
    from cloisonne.scene import Scene
    from cloisonne.studio.drawing import reported
    from cloisonne.studio.worker import PREVIEW_SHARE, Progress

    model = load("builtin")
    scene = Scene.from_dict({"seed": 1, "regions": [{"name": "r", "box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}]})

    def share(most: float) -> tuple[float, int, int]:
        """The share, and the numbers of previews and of steps."""
        sent: list[bytes] = []
        progress, spent = Progress(lambda fields, data=b"": sent.append(data), lambda: True, most), 0.0

        def timed(fields: dict[str, Any], preview: Any) -> None:
            nonlocal spent
            began = time.perf_counter()
            progress(fields, preview)
            spent += time.perf_counter() - began

        began = time.perf_counter()
        result = generate(scene, model, on_step=reported(timed))
        return spent / (time.perf_counter() - began), sum(map(bool, sent)), result.scene.steps or 0

    found: dict[str, Any] = {}
    share(1.0)  # the first one of a process is slower
    for name, most in (("at_every_step", 1.0), ("as_limited", PREVIEW_SHARE)):
        runs = [share(most) for _ in range(rounds)]
        per_step = sum(made for _, made, _ in runs) / sum(steps for _, _, steps in runs)
        found[name] = spread([one for one, _, _ in runs]) | {"previews_per_step": round(per_step, 2)}
    return found


def frames(studio: Studio) -> dict[str, Any]:
    """Milliseconds of the frames while a mask is dragged among 24 other regions."""
    regions = [
        {
            "name": f"box {index}",
            "phrase": "a cat",
            "box": [(index % 6) / 6, index // 6 / 4, (index % 6 + 1) / 6, (index // 6 + 1) / 4],
        }
        for index in range(24)
    ]
    scene = {"width": 2048, "height": 2048, "regions": regions}
    studio.drop(json.dumps(scene).encode(), "scene.json", "application/json")
    studio.page.get_by_text("2048 × 2048").wait_for()
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.press("Escape")
    studio.page.keyboard.press("b")
    for _ in range(6):
        studio.page.keyboard.press("]")
    studio.drag((300, 300), (1700, 500), (400, 900), (1700, 1500), (500, 1700))
    assert "rle" in studio.regions()[0], "the brush made a mask"
    studio.page.locator("#canvas").focus()
    studio.page.keyboard.press("v")
    mouse = studio.page.mouse
    mouse.move(*studio.at(300, 300))
    mouse.down()
    studio.page.evaluate(FRAMES)
    for step in range(180):
        mouse.move(*studio.at(300 + 4 * (step % 90), 300 + 3 * (step % 60)))
    times = studio.page.evaluate("() => { cancelAnimationFrame(window.ticking); return window.frameTimes; }")
    mouse.up()
    times = sorted(times[2:])
    at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return (
        {"frames": len(times)}
        | {n: round(times[int(len(times) * f)], 1) for n, f in at.items()}
        | {"most": round(times[-1], 1)}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "data") as process, browser() as chromium:
        report: dict[str, Any] = {"paint_ms": paints(chromium, process, rounds)}
        studio = new_page(chromium, process)
        report |= key_to_picture(studio, rounds)
        report["frames_ms"] = frames(studio)
        assert studio.faults == [], studio.faults
    report["previews"] = previews(rounds)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
