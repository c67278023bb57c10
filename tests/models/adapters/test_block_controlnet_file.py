"""ControlNets of transformers in one file: the network of the folder, or why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from block_controlled import KINDS, write_block_controlnet
from flux import write_flux
from safetensors.torch import load_file, save_file
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model

pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")
WITHIN_FOLDER = ("sd3 pooled",)
"""What shapes do not tell: with positions of its own and with pooled text, which no published one has."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Z-Image of 4 layers, so that every second one is controlled, and of 10 for every fifth."""
    root = tmp_path_factory.mktemp("made")
    write_flux(root / "flux", double=3, single=2)
    write_sd3(root / "sd3", "3.5 medium", layers=4)
    write_zimage(root / "zimage", layers=4)
    write_zimage(root / "zimage 10", layers=10)
    return {folder.name: load(folder) for folder in root.iterdir()}


def file_of(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def assert_same(model: Model, folder: Path, alone: Path) -> None:
    expected, found = (model.with_adapter("depth", path).controlnets["depth"] for path in (folder, alone))
    for name, value in expected.module.config.items():
        if not name.startswith("_") and name not in ("out_channels", "sample_size", "caption_projection_dim"):
            ours = found.module.config[name]
            assert (list(ours) == list(value)) if isinstance(value, list | tuple) else (ours == value), name
    state = expected.module.state_dict()
    assert found.module.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.module.state_dict().items())
    assert (found.point, found.warnings) == (expected.point, ())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITHIN_FOLDER and kind != "zimage"])
def test_it_is_the_folder(models: dict[str, Model], tmp_path: Path, kind: str) -> None:
    family = kind.partition(" ")[0]
    folder = write_block_controlnet(tmp_path / "net", kind)
    alone = file_of(folder).rename(tmp_path / "alone.safetensors")
    save_file(load_file(alone), file_of(write_block_controlnet(tmp_path / "net", kind)), metadata={"format": "pt"})
    if kind == "zimage shared":
        # Files of version 2.0 have the layers that it does not use.
        unused = {"control_noise_refiner.0.before_proj.weight": torch.zeros(48, 48)}
        save_file(load_file(alone) | unused, alone)
    assert_same(models[family], folder, alone)


def test_version_1_of_z_image_controls_every_fifth_layer(models: dict[str, Model], tmp_path: Path) -> None:
    folder = write_block_controlnet(tmp_path / "net", "zimage", control_layers_places=[0, 5])
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(file_of(folder).read_bytes())
    assert_same(models["zimage 10"], folder, alone)


def renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("transformer_blocks", "double_blocks"): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("kind", "base", "change", "expected"),
    [
        ("flux", "flux", renamed, r"no ControlNet of this model by the names of diffusers.*give the ControlNet's"),
        ("sd3", "flux", lambda t: t, "no ControlNet of this model"),
        ("flux", "flux", lambda t: t | {"more.weight": torch.zeros(1)}, '"more.weight" under the ControlNet'),
        (
            "zimage",
            "zimage 10",
            lambda t: t | {"control_layers.2.x": torch.zeros(1)},
            "has 3 layers for a network of 10",
        ),
    ],
    ids=["original names", "another family", "unknown", "places"],
)
def test_what_is_not_known_is_refused(
    models: dict[str, Model], tmp_path: Path, kind: str, base: str, change: Any, expected: str
) -> None:
    file = file_of(write_block_controlnet(tmp_path / "net", kind))
    save_file(change(load_file(file)), tmp_path / "alone.safetensors")
    with pytest.raises(CheckpointError, match=expected):
        models[base].with_adapter("depth", tmp_path / "alone.safetensors")
