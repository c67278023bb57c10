"""Small annotated images, and the setup of training runs in this process."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cloisonne.cli import main as cli


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps its choices for the whole process, and a process is one run."""
    yield
    if state := sys.modules.get("accelerate.state"):
        state.AcceleratorState._reset_state(reset_partial_state=True)
        state.GradientState._reset_state()


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of 96 x 64 pixels, each with a red box on the left and a blue one on the right, captioned."""
    folder = tmp_path_factory.mktemp("pictures")
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for k in range(6):
        rgb = np.full((64, 96, 3), 40 * k, np.uint8)
        rgb[8 + k : 40 + k, 8:40] = (255, 0, 0)
        rgb[16:48, 50 + k : 82 + k] = (0, 0, 255)
        rgb = np.clip(rgb + rng.normal(0, 4, rgb.shape), 0, 255).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f"{k}.png")
        images.append(
            {"id": k, "file_name": f"{k}.png", "width": 96, "height": 64, "caption": "a red square on the left"}
        )
        annotations += [
            {"image_id": k, "bbox": [8, 8 + k, 32, 32], "caption": "red left"},
            {"image_id": k, "bbox": [50 + k, 16, 32, 32], "category_id": 1},
        ]
    coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "blue"}]}
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


@pytest.fixture
def run(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run the module's ``COMMAND`` with more arguments in this process: (exit code, stdout, stderr)."""
    command: tuple[str, ...] = request.module.COMMAND

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cloisonne", *command, *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out = capsys.readouterr()
        return code, out.out, out.err

    return called
