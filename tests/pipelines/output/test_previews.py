from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.errors import Cancelled, OutputError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.output.previews import Previews, preview_path
from cloisonne.scene import Region, Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
SCENE = Scene(caption="on the beach", seed=3, steps=6, regions=(CAT,))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize(("every", "done"), [(1, [1, 2, 3, 4, 5, 6]), (2, [2, 4, 6]), (4, [4]), (7, [])])
def test_every_nth_step_has_one_as_large_as_the_canvas(
    tiny: Model, tmp_path: Path, every: int, done: list[int]
) -> None:
    previews = Previews(out=tmp_path / "a.png", every=every)
    plain = generate(SCENE, tiny)
    seen = generate(SCENE, tiny, on_step=previews)
    assert names(tmp_path) == [f"a.preview-{k:03d}.png" for k in done]
    assert all(size(tmp_path / name) == seen.image.size for name in names(tmp_path))
    assert seen.image.tobytes() == plain.image.tobytes()


def test_a_given_picture_shows_its_window(tiny: Model, tmp_path: Path) -> None:
    scene = SCENE.replace(background=np.zeros((300, 500, 3), np.uint8))
    result = generate(scene, tiny, on_step=Previews(out=tmp_path / "a.png", every=6))
    assert size(tmp_path / "a.preview-006.png") == (result.scene.width, result.scene.height)


@pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")
def test_the_last_one_is_near_the_picture(tmp_path: Path) -> None:
    model = load("builtin")
    scene = Scene.load(Path(__file__).parents[3] / "examples" / "beach.json").replace(steps=4)
    result = generate(scene, model, on_step=Previews(out=tmp_path / "a.png", every=1))
    small = np.asarray(result.image.resize((16, 16), Image.Resampling.BOX), float)

    def distance(done: int) -> float:
        preview = Image.open(preview_path(tmp_path / "a.png", done)).resize((16, 16), Image.Resampling.BOX)
        return float(np.abs(np.asarray(preview, float) - small).mean())

    assert distance(4) < 15
    assert distance(4) < 0.5 * distance(1)


def test_earlier_ones_are_refused_or_replaced(tiny: Model, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    generate(SCENE, tiny, on_step=Previews(out=out, every=1))
    unrelated = tmp_path / "a.preview-mine.png"
    unrelated.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"a\.preview-001\.png.*overwrite=True"):
        Previews(out=out, every=3).check()
    again = Previews(out=out, every=3, overwrite=True)
    again.check()
    generate(SCENE, tiny, on_step=again)
    assert names(tmp_path) == ["a.preview-003.png", "a.preview-006.png", "a.preview-mine.png"]


def test_they_stay_when_the_run_is_cancelled(tiny: Model, tmp_path: Path) -> None:
    previews = Previews(out=tmp_path / "new", every=1, num_images=2)

    def cancel(end: object) -> None:
        if len(names(tmp_path)) and len(names(tmp_path / "new")) == 2:
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        generate(SCENE, tiny, num_images=2, on_step=previews.after(cancel))
    assert names(tmp_path / "new") == ["0000.preview-001.png", "0000.preview-002.png"]


def test_on_the_command_line(tiny_family: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(SCENE.to_json())
    given = ["generate", str(tmp_path / "scene.json"), "-o", str(tmp_path / "out"), "--model", str(tiny_family)]
    result = CliRunner().invoke(app, [*given, "--preview", "3", "--num-images", "2"])
    assert result.exit_code == 0, result.output
    expected = [f"000{i}.p{name}" for i in (0, 1) for name in ("ng", "review-003.png", "review-006.png")]
    assert names(tmp_path / "out") == expected
    assert CliRunner().invoke(app, [*given, "--preview", "0"]).exit_code == 2
    (tmp_path / "out" / "0000.png").unlink()
    refused = CliRunner().invoke(app, [*given, "--preview", "3"])
    assert isinstance(refused.exception, OutputError)
