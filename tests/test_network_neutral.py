"""core, methods and pipelines know no network family: no UNet, no CLIP, no sizes or constants of Stable Diffusion."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "src" / "cloisonne"
MODULES = [path for room in ("core", "methods", "pipelines") for path in sorted((ROOT / room).rglob("*.py"))]
WORDS = re.compile(r"UNet|(?<![a-z])unet|CLIP(?!Seg)|Clip[A-Z]|(up|down|mid)_blocks?|betas|alphas_cumprod")
"""Names and texts; CLIPSeg is a network of its own, whatever the denoiser."""
NUMBERS = {"4", "8", "0.18215"}
"""Channels, pixels to a latent pixel, and scale of Stable Diffusion's latents."""

ALLOWED = {
    ("core/schedule.py", "betas"): "betas define a diffusion schedule; flow schedules have their own file",
    ("core/schedule.py", "alphas_cumprod"): "as above",
    ("core/samplers.py", "4"): "PNDM takes the last four noises",
    ("core/attention/joint.py", "8"): "widths of heads are multiples of it in fused kernels",
    ("methods/mrgd/losses.py", "0.18215"): "the published weights of the losses are for this scale of latents",
    ("methods/mrgd/losses.py", "4"): "the published weights are for latents of 4 x 64 x 64",
    ("pipelines/editing/losses.py", "4"): "a quarter of the steps",
    ("pipelines/attention_maps/overlay.py", "4"): "pixels of a legend",
    ("methods/references.py", "8"): "the longest side of a reference in shorter ones",
    ("pipelines/batch.py", "8"): "the most scenes of a batch",
    ("pipelines/batches/pool.py", "8"): "the most scenes of a batch",
    ("pipelines/batches/layoutsam.py", "4"): "numbers of a box",
    ("pipelines/output/contact_sheet.py", "8"): "pixels between the images of a sheet",
    ("pipelines/mask_warnings.py", "4"): "pixels of a speck",
    ("pipelines/mask_warnings.py", "8"): "OpenCV's neighbours of a pixel",
}
"""What is no assumption about a network, and why."""


def found(path: Path) -> Iterator[tuple[int, str]]:
    """(line, word or number) of every finding in the code of a module; docstrings may mention families."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and str(node.value) in NUMBERS:
            yield node.lineno, str(node.value)
        for text in texts(node, docstrings):
            yield from ((getattr(node, "lineno", 0), match[0]) for match in WORDS.finditer(text))


def texts(node: ast.AST, docstrings: set[int]) -> Iterator[str]:
    """The identifiers and string constants of one node."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
        yield node.value
    for field in ("id", "attr", "name", "arg", "module"):
        if isinstance(value := getattr(node, field, None), str):
            yield value


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_network_is_assumed(path: Path) -> None:
    own = path.relative_to(ROOT).as_posix()
    assert [(line, what) for line, what in found(path) if (own, what) not in ALLOWED] == []


def test_every_exception_is_needed() -> None:
    needed = {(path.relative_to(ROOT).as_posix(), what) for path in MODULES for _, what in found(path)}
    assert ALLOWED.keys() <= needed


@pytest.mark.parametrize(
    "source",
    [
        "from cloisonne.models.unet.denoiser import UNetDenoiser",
        "x = model.net.unet",
        "size = width // 8",
        "z = torch.zeros(1, 4, height, width)",
        "SCALE = 0.18215",
        "def f(alphas_cumprod): ...",
        'raise ValueError("load a UNet")',
    ],
)
def test_an_assumption_is_found(source: str, tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert list(found(path))
