"""How results and scenes appear in notebooks, and what ``--show`` opens."""

import builtins
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import cloisonne as cl
from cloisonne.cli.main import app
from cloisonne.models.model import Model
from cloisonne.pipelines.output.progress_bar import with_bar

SCENE = cl.Scene(
    caption="on <the> beach",
    seed=3,
    steps=2,
    regions=[
        cl.Region(name="pet", box=(0.0, 0.0, 0.5, 0.5), phrase="a <cat>"),
        cl.Region(name="sky", box=(0.5, 0.0, 1.0, 0.5), exemplar=Image.new("RGB", (64, 64), "blue")),
    ],
)


def images_in(html: str) -> list[Image.Image]:
    return [Image.open(BytesIO(b64decode(one))) for one in re.findall(r"base64,([^\"]+)", html)]


def test_a_result_is_its_image_with_its_regions(tiny: Model) -> None:
    result = cl.generate(SCENE.replace(regions=SCENE.regions[:1]), tiny)
    png, html = result._repr_png_(), result._repr_html_()
    assert png is not None
    assert Image.open(BytesIO(png)).convert("RGB").tobytes() == result.image.tobytes()
    plain, drawn = images_in(html)
    assert plain.convert("RGB").tobytes() == result.image.tobytes()
    assert drawn.convert("RGB").resize(plain.size, Image.Resampling.NEAREST).tobytes() != plain.tobytes()
    assert "<th>pet</th><td>a &lt;cat&gt;</td>" in html
    assert "<th>seed</th><td>3</td>" in html


def test_latents_have_no_image(tiny: Model) -> None:
    result = cl.generate(SCENE.replace(regions=()), tiny, output_type="latent")
    assert result._repr_png_() is None
    assert images_in(result._repr_html_()) == []


@pytest.mark.parametrize(("size", "aspect"), [({}, 1.0), ({"width": 512, "height": 256}, 2.0)])
def test_a_scene_is_its_shapes_and_what_they_are_given(size: dict[str, int], aspect: float) -> None:
    scene = SCENE.replace(**size)
    html = scene._repr_html_()
    (canvas,) = images_in(html)
    assert Image.open(BytesIO(scene._repr_png_())).tobytes() == canvas.tobytes()
    assert canvas.width / canvas.height == aspect
    colours = canvas.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 2
    assert "on &lt;the&gt; beach" in html
    assert "<th>sky</th><td>exemplar</td>" in html


@pytest.mark.parametrize(("shell", "bar"), [("ZMQInteractiveShell", True), ("TerminalInteractiveShell", False)])
def test_a_notebook_has_a_bar_without_a_terminal(monkeypatch: pytest.MonkeyPatch, shell: str, bar: bool) -> None:
    monkeypatch.setattr(builtins, "get_ipython", type(shell, (), {}), raising=False)
    with with_bar({}) as options:
        assert ("on_step" in options) is bar


@pytest.mark.parametrize("code", [0, 1])
def test_only_show_opens_a_viewer(tiny_family: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", lambda path: opened.append(path) or code)
    line = ["generate", "--caption", "x", "--model", str(tiny_family), "--steps", "1", "-o"]
    assert CliRunner().invoke(app, [*line, "a.png"]).exit_code == 0
    assert opened == []
    shown = CliRunner().invoke(app, [*line, "b.png", "--show"])
    assert shown.exit_code == 0
    assert opened == ["b.png"]
    assert ("has no viewer" in shown.output) is bool(code)
