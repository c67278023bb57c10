"""An evaluation that ends itself by SIGKILL while it judges image number COUNT: ``killed_evaluation.py OUT COUNT``."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.detection.evaluate import evaluate_detected
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, interleaved
from cloisonne.scene import Scene

METHODS = ("bounded", "caption")
IMAGES = 2


def layout_list() -> LayoutList:
    """Eight layouts of COCO-MIG's form, of 2 to 5 objects."""
    colours = ("red", "blue", "green")
    layouts = []
    for k in range(8):
        instances = tuple(
            Instance(label="cat", phrase="a cat", box=(0.1 * j, 0, 0.1 * j + 0.2, 1), colour=colours[(j + k) % 3])
            for j in range(2 + k % 4)
        )
        layouts.append(BoxLayout(index=0, caption=f"a photo of scene {k}", instances=instances))
    return LayoutList(name="coco-mig", layouts=interleaved(layouts), classes=("cat", "dog"), side=16)


def generate(scene: Scene, method: str, seed: int) -> np.ndarray:
    """Noise that depends on all arguments."""
    key = [seed, len(method), len(scene.caption), len(scene.regions)]
    return np.random.default_rng(key).integers(0, 255, (16, 16, 3), np.uint8)


def judge(rgb: np.ndarray, layout: BoxLayout) -> dict[str, Any]:
    """Figures that are read from the image's pixels."""
    regions = []
    for k in range(len(layout.instances)):
        value = int(rgb[k, 0, 0])
        found, colour = value % 2 == 0, value % 3 == 0
        right = colour if found else None
        overlap = (128 + value // 2) / 256 if found else value / 1024
        regions.append(
            {
                "found": found,
                "iou": overlap,
                "crop": value % 5 == 0,
                "colour": right,
                "success": found and colour,
                "mig_iou": 0.0 if right is False else overlap,
                "leakage": value / 2550,
                "somewhere": found,
            }
        )
    return {"regions": regions}


def run(out: Path, **options: Any) -> Any:
    """Evaluate all layouts."""
    settings: dict[str, Any] = {"methods": METHODS, "images": IMAGES, "report": lambda line: None} | options
    return evaluate_detected(settings.pop("generate", generate), judge, layout_list(), out, **settings)


def main() -> None:
    """Run until the given image is generated, and end there as by ``kill -9``."""
    left = [int(sys.argv[2])]

    def fatal(scene: Scene, method: str, seed: int) -> np.ndarray:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return generate(scene, method, seed)

    run(Path(sys.argv[1]), generate=fatal)


if __name__ == "__main__":
    main()
