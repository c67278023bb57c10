"""The toy of docs/mixing.md runs, and its numbers support the claims of the page."""

import runpy
from pathlib import Path

from PIL import Image

TOY = Path(__file__).resolve().parents[1] / "docs" / "toy.py"


def test_fusing_estimates_equals_fusing_steps_and_preserves_the_noise(tmp_path: Path) -> None:
    numbers = runpy.run_path(str(TOY))["main"](tmp_path / "toy.png")
    assert numbers["apart"] < 1e-4
    assert numbers["off"] < 1e-5
    assert abs(numbers["one"] - 1) < 0.05
    assert abs(numbers["fused"] - 0.5**0.5) < 0.05
    with Image.open(tmp_path / "toy.png") as figure:
        assert figure.size == (1560, 575)
