"""Results stay the same: bit for bit in an environment whose digests are recorded, coarsely everywhere.

``python tests/regression/test_same_pictures.py`` records them anew; a commit that changes pictures explains why.
"""

import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from pictures_before import CASES

RECORD = Path(__file__).with_name("pictures.json")
SIDE = 6
TOLERANCE = 4
"""Grey levels that the mean of a cell may differ by between processors."""


def environment() -> str:
    """What decides the last bits."""
    import diffusers
    import torch
    import transformers

    cpu = torch.backends.cpu.get_cpu_capability()
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}"
    return f"{platform.machine()} {_model()}, {cpu}, {versions}, numpy {np.__version__}"


def _model() -> str:
    info = Path("/proc/cpuinfo")
    found = (
        [line for line in info.read_text().splitlines() if line.startswith(("cpu family", "model\t"))]
        if info.is_file()
        else []
    )
    return " ".join(line.split(":")[1].strip() for line in found[:2])


def digest(images: Sequence[Image.Image]) -> str:
    """SHA-256 of sizes and pixels."""
    total = hashlib.sha256()
    for image in images:
        total.update(f"{image.size} {image.mode}".encode())
        total.update(np.asarray(image).tobytes())
    return total.hexdigest()


def coarse(images: Sequence[Image.Image]) -> list[list[int]]:
    """Means of cells of each picture, RGB."""
    small = [image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX) for image in images]
    return [np.asarray(image).flatten().tolist() for image in small]


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_the_same(name: str, tmp_path: Path) -> None:
    record = json.loads(RECORD.read_text())[name]
    images = CASES[name](tmp_path)
    np.testing.assert_allclose(coarse(images), record["coarse"], atol=TOLERANCE)
    if known := record["sha256"].get(environment()):
        assert digest(images) == known


def test_every_case_is_recorded() -> None:
    assert set(json.loads(RECORD.read_text())) == set(CASES)


def _record() -> None:
    import torch

    torch.set_num_threads(1)
    before = json.loads(RECORD.read_text()) if RECORD.is_file() else {}
    made = {}
    for name, function in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            images = function(Path(folder))
        known = before.get(name, {}).get("sha256", {})
        kept = known if known.get(environment()) == digest(images) else {}
        made[name] = {"coarse": coarse(images), "sha256": kept | {environment(): digest(images)}}
        print(f"{name}: {digest(images)[:12]}{'' if kept else ' (new)'}", flush=True)
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in made.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    _record()
