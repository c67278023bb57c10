import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.output.files import check_outputs, output_paths
from cloisonne.pipelines.result import Result
from cloisonne.scene.inpainting import inpaint_scene
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SOURCE = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
MASK = np.zeros((70, 90), bool)
MASK[10:40, 20:60] = True


def inpainted(source: object, model: Model) -> Result:
    return generate(inpaint_scene(source, MASK, phrase="a cat", seed=1), model)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def drawn(tiny: Model) -> Result:
    soft = np.linspace(0, 1, 64 * 64).reshape(64, 64)
    regions = (
        Region(name="pet", mask=soft, phrase="a cat", seed=9, strict=True),
        Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a car", guidance=6.0, start=0.4),
    )
    return generate(Scene(caption="on the beach", seed=3, regions=regions), tiny, num_images=2)


def test_picture_carries_the_scene_that_draws_it_again(tiny: Model, drawn: Result, tmp_path: Path) -> None:
    paths = drawn.save(tmp_path / "out")
    assert [path.name for path in paths] == ["0000.png", "0001.png"]
    scene = Scene.from_png(paths[1])
    assert scene.seed == 4
    again = generate(scene, tiny).save(tmp_path / "again.png")
    assert again[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("embed", [True, False])
def test_edited_picture_carries_its_source(tiny: Model, workdir: Path, embed: bool) -> None:
    Image.fromarray(SOURCE).save("source.png")
    (path,) = inpainted("source.png", tiny).save("out.png", embed=embed)
    if embed:
        Path("source.png").unlink()
    (again,) = generate(Scene.from_png(path), tiny).save("again.png")
    assert again.read_bytes() == path.read_bytes()


def test_report_names_what_was_written(drawn: Result, tmp_path: Path) -> None:
    paths = drawn.save(tmp_path / "out")
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert drawn.report["outputs"] == [
        {"path": str(path), "seed": 3 + i, "sha256": sha256}
        for i, (path, sha256) in enumerate(zip(paths, hashes, strict=True))
    ]


def test_nothing_absolute_or_dated_is_carried(drawn: Result, tmp_path: Path) -> None:
    for path in drawn.save(tmp_path / "out"):
        data = path.read_bytes()
        assert str(tmp_path).encode() not in data
        assert b"tIME" not in data
        with Image.open(path) as image:
            assert image.info["parameters"].startswith("on the beach, ")


def test_existing_files_are_kept_unless_overwriting_is_allowed(drawn: Result, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "0001.png").write_text("mine")
    with pytest.raises(OutputError, match=r"0001\.png.* exists"):
        drawn.save(folder)
    assert [path.name for path in folder.iterdir()] == ["0001.png"]
    drawn.save(folder, overwrite=True)
    assert (folder / "0001.png").read_bytes().startswith(b"\x89PNG")


def test_places_that_cannot_be_written_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "there.png").write_text("")
    for path, count, expected in [
        (tmp_path / "out.tiff", 1, "no supported extension"),
        (tmp_path / "out.png", 2, "2 images do not fit into the one file"),
        (tmp_path / "there.png", 1, "exists"),
        (tmp_path / "nowhere" / "out.png", 1, "no folder"),
        (tmp_path / "nowhere" / "deeper", 1, "no folder"),
        (tmp_path / "file", 1, "no folder"),
    ]:
        with pytest.raises(OutputError, match=expected):
            check_outputs(path, count)
    check_outputs(tmp_path / "there.png", 1, overwrite=True)
    check_outputs(tmp_path / "new", 3)
    check_outputs(tmp_path, 3)
    assert not (tmp_path / "new").exists()


def test_folders_may_have_dots(tmp_path: Path) -> None:
    (tmp_path / "v1.5").mkdir()
    assert output_paths(tmp_path / "v1.5", 1) == [tmp_path / "v1.5" / "0000.png"]


def test_latents_alone_write_nothing(tiny: Model, tmp_path: Path) -> None:
    result = generate(Scene(caption="on the beach", seed=0), tiny, output_type="latent")
    assert result.save(tmp_path / "out") == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_files_without_loss_keep_the_outside(tiny: Model, tmp_path: Path, ending: str) -> None:
    result = inpainted(SOURCE, tiny)
    (path,) = result.save(tmp_path / f"out{ending}")
    assert np.array_equal(pixels(path)[~MASK], SOURCE[~MASK])
    assert result.report["identical_outside"] is True


def test_jpeg_reports_what_it_lost(tiny: Model, tmp_path: Path) -> None:
    result = inpainted(SOURCE, tiny)
    (path,) = result.save(tmp_path / "out.jpg")
    difference = np.abs(pixels(path)[~MASK].astype(int) - SOURCE[~MASK]).max()
    assert difference > 0
    assert result.report["identical_outside"] is False
    assert result.report["max_difference_outside"] == difference
    assert "out.jpg is a JPEG" in result.report["warnings"][0]


def test_alpha_does_not_fit_a_jpeg(tiny: Model, tmp_path: Path) -> None:
    source = np.concatenate([SOURCE, SOURCE[..., :1]], axis=2)
    result = inpainted(source, tiny)
    with pytest.raises(OutputError, match="RGBA"):
        result.save(tmp_path / "out.jpg")
    assert list(tmp_path.iterdir()) == []


def test_threads_are_left_alone(tiny: Model) -> None:
    before = torch.get_num_threads()
    generate(Scene(caption="on the beach", seed=0), tiny)
    assert torch.get_num_threads() == before
