"""The images of a batch are those of ``generate`` alone, byte for byte, whatever the workers and the order."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from batches import check_whole, manifest
from PIL import Image

import cloisonne as cl
from cloisonne.cli.main import main
from cloisonne.errors import SceneError
from cloisonne.models.load import load
from cloisonne.pipelines.batches.generator import ImageGenerator
from cloisonne.pipelines.batches.manifest import Maker
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene

if TYPE_CHECKING:
    from cloisonne.models.model import Model

STEPS = 2
BOX = {"name": "pet", "box": [0.1, 0.1, 0.6, 0.9]}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scenes: with a photo, with a seed, with choices, and one that the model refuses."""
    folder = tmp_path_factory.mktemp("scenes")
    Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(folder / "photo.png")
    own: dict[str, dict[str, Any]] = {
        "a": {"caption": "a cat"},
        "b": {"caption": "b {c|d|e}", "seed": 3, "regions": [BOX | {"phrase": "a dog"}]},
        "photo": {"background": "photo.png", "regions": [BOX | {"phrase": "a dog"}]},
        "refused": {"regions": [BOX | {"control": {"kind": "canny", "image": "photo.png"}}]},
    }
    for name, scene in own.items():
        (folder / f"{name}.json").write_text(json.dumps(scene))
    return folder


@pytest.fixture(scope="module")
def model(tiny_family: Path) -> "Model":
    return load(tiny_family)


@pytest.fixture(scope="module")
def drawn(scenes: Path, tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of ``cloisonne batch`` with two workers."""
    folder = tmp_path_factory.mktemp("drawn") / "out"
    words = ["batch", str(scenes), "-o", str(folder), "--model", str(tiny_family), "--steps", str(STEPS)]
    before = sys.argv
    sys.argv = ["cloisonne", *words, "--workers", "2", "--num-images", "2", "--dataset"]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    assert stop.value.code == 1
    return folder


def test_images_are_those_of_generate_alone(drawn: Path, scenes: Path, model: "Model", tmp_path: Path) -> None:
    (drawn / "annotations.json").rename(tmp_path / "annotations.json")
    files = check_whole(drawn)
    (tmp_path / "annotations.json").rename(drawn / "annotations.json")
    assert set(files) == {f"{name}{end}.png" for name in ("a", "b", "photo") for end in ("", "-0001")}
    for line in manifest(drawn):
        scene = Scene.load(scenes / f"{line['name']}.json").replace(steps=STEPS, seed=line["seed"])
        (path,) = generate(scene, model).save(tmp_path / line["file"])
        assert path.read_bytes() == (drawn / line["file"]).read_bytes(), line["file"]
        assert line["model"] == model.hash


def test_what_failed_is_named(drawn: Path) -> None:
    failures = [json.loads(line) for line in (drawn / "failures.jsonl").read_text().splitlines()]
    assert [one["name"] for one in failures] == ["refused", "refused"]
    assert all('Region "pet"' in one["error"] for one in failures)


def test_choices_of_an_image_are_in_its_labels(drawn: Path) -> None:
    images = json.loads((drawn / "annotations.json").read_text())["images"]
    captions = {image["file_name"]: image["caption"] for image in images}
    assert {captions["b.png"], captions["b-0001.png"]} <= {"b c", "b d", "b e"}


@pytest.mark.slow
def test_images_do_not_depend_on_the_way(drawn: Path, scenes: Path, tiny_family: Path, tmp_path: Path) -> None:
    """One worker, from Python, in the other order, interrupted."""
    named = {name: scenes / f"{name}.json" for name in ("photo", "b", "a")}

    def stop(event: cl.BatchProgress) -> None:
        if event.done == 2:
            raise cl.Cancelled("Enough.")

    given: dict[str, Any] = {"num_images": 2, "steps": STEPS}
    with pytest.raises(cl.Cancelled):
        cl.batch(named, tiny_family, tmp_path / "out", on_image=stop, **given)
    report = cl.batch(named, tiny_family, tmp_path / "out", **given)
    assert (report.generated, report.present) == (4, 2)
    (drawn / "annotations.json").unlink(missing_ok=True)
    assert check_whole(tmp_path / "out") == check_whole(drawn)


@pytest.fixture(scope="module")
def generator(tiny_family: Path) -> ImageGenerator:
    return ImageGenerator({"source": str(tiny_family)}, threads=1, place=0)


def test_what_makes_the_images_is_known(generator: ImageGenerator, model: "Model") -> None:
    assert Maker(**generator.maker()) == Maker(model=model.hash, device="cpu", dtype="float32", threads=1)


@pytest.mark.parametrize("refused", [None, 0, 1, 2])
def test_a_refused_scene_does_not_stop_its_group(
    refused: int | None, generator: ImageGenerator, tmp_path: Path
) -> None:
    scenes = [Scene(caption=f"scene {k}", seed=k, steps=1) for k in range(3)]
    if refused is not None:
        scenes[refused] = scenes[refused].replace(lora={"absent": 1.0})
    requests = [{"scene": scene.to_dict()} for scene in scenes]
    together = list(generator.generate(requests, tmp_path))
    alone = [next(generator.generate([request], tmp_path)) for request in requests]
    assert together == alone
    assert [k for k, (message, _) in enumerate(together) if "error" in message] == (
        [] if refused is None else [refused]
    )


def test_unknown_keywords_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="did you mean"):
        cl.batch({"a": Scene()}, None, tmp_path, stesp=3)  # type: ignore[call-arg]
    with pytest.raises(SceneError, match="at least 1"):
        cl.batch({"a": Scene()}, None, tmp_path, workers=0)
