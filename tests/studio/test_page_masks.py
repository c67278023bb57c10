"""The masks of the page are those of the scene, pixel for pixel: its module runs in Node on the same shapes."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloisonne.studio
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.rle import Rle

MASKS = Path(cloisonne.studio.__file__).parent / "static" / "masks.mjs"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed: the page's masks are not compared")

PROGRAM = """
import { softPatch, cropped, encoded } from %s;
let text = "";
for await (const part of process.stdin) text += part;
const answers = JSON.parse(text).map(({ shape, feather, width, height }) => {
  const patch = softPatch(shape, feather, width, height);
  const bits = new Uint32Array(cropped(patch, 0, 0, width, height).data.buffer);
  return { bits: Array.from(bits), rle: encoded(patch, width, height) };
});
process.stdout.write(JSON.stringify(answers));
"""

SIZES = [(128, 128), (97, 61), (33, 200)]
FEATHERS = [0.0, 0.07, 0.5]


def shapes(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Shapes of every kind, with sides on centres and edges of pixels, on and off the canvas' edge."""
    found: list[dict[str, Any]] = [{"box": [0, 0, 1, 1]}, {"box": [0, 0.25, 0.5, 1]}, {"ellipse": [0, 0, 1, 1]}]
    for _ in range(6):
        x0, x1 = sorted(rng.uniform(0, 1, 2))
        y0, y1 = sorted(rng.uniform(0, 1, 2))
        box = [float(x0), float(y0), float(min(1, x1 + 0.1)), float(min(1, y1 + 0.1))]
        found += [{"box": box}, {"ellipse": box}]
    found += [{"polygon": rng.uniform(0, 1, (int(n), 2)).round(5).tolist()} for n in rng.integers(3, 30, 6)]
    found += [{"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}, {"polygon": [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5]]}]
    for height, width in ((128, 128), (17, 40), (300, 7)):
        hard = rng.uniform(0, 1, (height, width)) < 0.5
        hard[height // 4 : height // 2, width // 3 :] = True
        rle = Rle.of(hard)
        found.append({"rle": {"size": list(rle.size), "counts": list(rle.counts)}})
    return found


def test_masks_are_those_of_the_scene() -> None:
    asked = [
        {"shape": shape, "feather": feather, "width": width, "height": height}
        for shape in shapes(np.random.default_rng(0))
        for width, height in SIZES
        for feather in FEATHERS
    ]
    command = [str(NODE), "--input-type=module", "-e", PROGRAM % json.dumps(MASKS.as_uri())]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == len(asked)
    for one, answer in zip(asked, answers, strict=True):
        mask = Region(name="a", phrase="a", feather=one["feather"], **one["shape"]).soft_mask(
            one["height"], one["width"]
        )
        own = np.array(answer["bits"], np.uint32).view(np.float32).reshape(mask.shape)
        np.testing.assert_array_equal(own, mask, err_msg=str(one)[:300])
        again = Rle(**answer["rle"]).pixels()
        np.testing.assert_array_equal(again, mask > 0, err_msg=str(one)[:300])
