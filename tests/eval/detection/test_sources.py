"""Where judges are read from: nothing is downloaded, and the messages say what to do."""

import json
from pathlib import Path

import pytest

from cloisonne.errors import CheckpointError
from cloisonne.eval.detection.sources import DETECTORS, SEGMENTERS, detector_folder, segmenter_folder


def published(folder: Path, kind: str = "owlv2", weights: str | None = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    if weights is not None:
        (folder / weights).write_text("")
    return folder


def cached(home: Path, repository: str, kind: str) -> Path:
    """A repository as the hub's client stores it."""
    folder = home / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123456789abcdef")
    return published(folder / "snapshots" / "0123456789abcdef", kind)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_not_in_the_cache_is_named_with_its_size_and_command(name: str, empty_cache: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        detector_folder(name)
    message = str(raised.value)
    assert f"hf download {DETECTORS[name].repository}" in message
    assert f"{DETECTORS[name].gigabytes} GB" in message
    assert "not downloaded on their own" in message
    assert not empty_cache.exists()


@pytest.mark.parametrize("name", DETECTORS)
def test_what_is_in_the_cache_is_taken(name: str, empty_cache: Path) -> None:
    folder = cached(empty_cache, DETECTORS[name].repository, name)
    assert detector_folder(name) == folder


def test_segmenters_are_the_same(empty_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"2\.6 GB.*hf download facebook/sam-vit-huge"):
        segmenter_folder("sam")
    folder = cached(empty_cache, SEGMENTERS["sam"].repository, "sam")
    assert segmenter_folder("sam") == folder
    assert segmenter_folder(str(published(tmp_path / "own", "sam"))) == tmp_path / "own"
    with pytest.raises(CheckpointError, match='type "owlv2", which is no segmenter'):
        segmenter_folder(str(published(tmp_path / "owl")))


@pytest.mark.parametrize(
    ("kind", "weights", "message"),
    [
        ("detr", "model.safetensors", 'type "detr", which is no detector'),
        ("owlv2", None, "has no model.safetensors"),
        ("grounding-dino", "pytorch_model.bin", "pickles are not loaded"),
    ],
)
def test_other_folders_are_refused(kind: str, weights: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        detector_folder(str(published(tmp_path / "network", kind, weights)))


def test_no_folder() -> None:
    with pytest.raises(CheckpointError, match='There is no judge "owl"; give "owlv2", "grounding-dino", or a folder'):
        detector_folder("owl")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        detector_folder(str(tmp_path))


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json"])
def test_folders_are_taken(weights: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "network", "grounding-dino", weights)
    assert detector_folder(str(folder)) == folder
