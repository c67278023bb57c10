"""A worker whose images are noise, without a model: ``simulated_worker.py [SECONDS [FATAL [NEVER]]]``.

It answers as the real one, after SECONDS for each image, and ends itself by SIGKILL for scenes whose caption has the
word FATAL. Worker number NEVER ends itself whenever it starts.
"""

import functools
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.errors import CheckpointError
from cloisonne.pipelines.batches.worker import serve
from cloisonne.scene import Record, Scene
from cloisonne.scene.io.content_hash import content_hash
from cloisonne.scene.io.output import png_bytes

SIDE = 16


class Simulated:
    """Noise in place of images."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        *,
        threads: int,
        place: int,
        seconds: float = 0.0,
        fatal: str | None = None,
        never: int = -1,
    ) -> None:
        if place == never:
            os.kill(os.getpid(), signal.SIGKILL)
        if spec["source"] == "absent":
            raise CheckpointError("There is no model.")
        self._spec = spec
        self._threads = threads
        self._seconds = seconds
        self._fatal = fatal

    def maker(self) -> dict[str, Any]:
        return {
            "model": f"simulated {self._spec['source']}",
            "device": self._spec.get("device", "cpu"),
            "dtype": self._spec.get("dtype", "float32"),
            "threads": self._threads,
        }

    def generate(self, requests: Sequence[Mapping[str, Any]], folder: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
        for request in requests:
            scene = Scene.from_dict(request["scene"])
            if self._fatal is not None and self._fatal in scene.caption:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(self._seconds)
            if "refused" in scene.caption:
                yield {"error": "This scene is refused."}, b""
                continue
            width, height = scene.width or SIDE, scene.height or SIDE
            rng = np.random.default_rng([scene.seed or 0, int(content_hash(scene)[:8], 16)])
            image = Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8))
            png = png_bytes(image, record=Record(scene=scene.to_dict(complete=True)))
            yield {"width": width, "height": height, "dropped": [], "warnings": []}, png


if __name__ == "__main__":
    seconds, fatal, never = (*sys.argv[1:], *("0", None, "-1")[len(sys.argv) - 1 :])
    serve(functools.partial(Simulated, seconds=float(seconds), fatal=fatal, never=int(never)))
