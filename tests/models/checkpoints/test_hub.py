"""Hub ids, without a network: conftest keeps the hub's client offline."""

from pathlib import Path

import pytest

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.hub import PATTERNS
from cloisonne.models.checkpoints.sources import is_hub_id
from cloisonne.models.load import load


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("CompVis/stable-diffusion-v1-4", True),
        ("j-min/reco_sd14_coco", True),
        ("models", False),
        ("./models/sd", False),
        ("/models/sd", False),
        ("../sd", False),
        ("a/b/c", False),
        ("owner/..", False),
        ("https://example.org/x", False),
    ],
)
def test_ids_are_distinguished_from_paths(source: str, expected: bool) -> None:
    assert is_hub_id(source) is expected


def test_folder_of_that_name_wins(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "name").symlink_to(tiny_sd)
    monkeypatch.chdir(tmp_path)
    assert load("owner/name").name == "name"


def test_without_a_network_the_error_gives_the_way_on() -> None:
    with pytest.raises(
        CheckpointError, match=r'^There is no folder "owner/name", .* give the folder.s path\.$'
    ) as caught:
        load("owner/name")
    assert "\n" not in str(caught.value)


def test_cached_snapshot_is_loaded(tiny_sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache as the hub's client lays it out."""
    repository = tmp_path / "models--owner--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / ("0" * 40)).symlink_to(tiny_sd)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load("owner/name").family == "sd1"


def test_only_data_is_fetched() -> None:
    assert not any(pattern.endswith((".bin", ".py", ".ckpt", "*")) for pattern in PATTERNS)
