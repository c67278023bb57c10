"""The further members of a family's folder: the exemplar network as changes of the base's UNet, and adapters."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.methods.kinds import check
from cloisonne.models.adapters.paint_by_example import ExemplarEncoder, encoder_of, published
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.models.family_members import adapted, tower_of, write_exemplar
from cloisonne.models.load import load

VISION = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES = {"image_size": 32, "patch_size": 16}


@pytest.fixture(scope="module")
def base() -> Any:
    return load("builtin").net.unet


def test_adapters_add_to_the_base_and_other_weights_stay(base: Any) -> None:
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    conv, linear = "down_blocks.0.resnets.0.conv1", "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    out, into = before[f"{conv}.weight"].shape[:2]
    wide = torch.randn(before["conv_in.weight"].shape[0], 17, 3, 3)
    changes = {
        f"{conv}.down": torch.randn(4, into, 3, 3),
        f"{conv}.up": torch.randn(out, 4, 1, 1),
        f"{linear}.down": torch.randn(4, before[f"{linear}.weight"].shape[1]),
        f"{linear}.up": torch.randn(before[f"{linear}.weight"].shape[0], 4),
        "conv_in.weight": wide,
        "conv_in.bias": before["conv_in.bias"] + 1,
    }
    made = adapted(base, changes)
    after = made.state_dict()
    assert made.config["in_channels"] == 17
    assert torch.equal(after["conv_in.weight"], wide)
    whole = torch.einsum("or,rikl->oikl", changes[f"{conv}.up"][:, :, 0, 0], changes[f"{conv}.down"])
    torch.testing.assert_close(after[f"{conv}.weight"], before[f"{conv}.weight"] + whole)
    plain = changes[f"{linear}.up"] @ changes[f"{linear}.down"]
    torch.testing.assert_close(after[f"{linear}.weight"], before[f"{linear}.weight"] + plain)
    touched = {f"{conv}.weight", f"{linear}.weight", "conv_in.weight", "conv_in.bias"}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items() if name not in touched)
    assert all(torch.equal(base.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_tower_is_read_from_a_whole_clip_and_from_its_own_folder(tmp_path: Path) -> None:
    text = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    whole = CLIPModel(CLIPConfig(text_config={**text, "num_attention_heads": 2}, vision_config={**VISION, **SIZES}))
    whole.save_pretrained(tmp_path / "clip")
    alone = CLIPVisionModel(CLIPVisionConfig(**VISION, **SIZES))
    alone.save_pretrained(tmp_path / "tower")
    pixels = torch.randn(1, 3, 32, 32)
    for folder, module in (("clip", whole.vision_model), ("tower", alone)):
        expected = module.eval()(pixels).pooler_output
        torch.testing.assert_close(tower_of(tmp_path / folder).eval()(pixels).pooler_output, expected)


def test_a_tower_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    config = CLIPVisionConfig(**VISION, **SIZES)
    config.save_pretrained(tmp_path)
    save_file({"vision_model.post_layernorm.weight": torch.ones(16)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks the tensor"):
        tower_of(tmp_path)


@pytest.mark.parametrize("pooled", [True, False])
def test_a_published_encoder_is_read_back(pooled: bool) -> None:
    tower = CLIPVisionModel(CLIPVisionConfig(**VISION, **SIZES))
    encoder = ExemplarEncoder(tower, 8, 3 if pooled else 0, pooled=pooled).eval()
    again = encoder_of(*published(encoder))
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(pixels), encoder(pixels))
    assert again(pixels).shape == (2, 1 if pooled else 5, 8)


def test_a_family_without_relatives_loads(tmp_path: Path) -> None:
    bare = tmp_path / "family"
    shutil.copytree(BUILTIN, bare, ignore=shutil.ignore_patterns("clip*", "exemplar", "control-*", "judge"))
    model = load(bare)
    assert model.exemplar is None
    assert model.adapters == {}


def test_a_member_is_half_precision_and_stores_its_shape(tmp_path: Path) -> None:
    config = {"token_width": 8, "mapper_blocks": 5}
    write_exemplar({"encoder.project.weight": torch.ones(8, 16)}, config, tmp_path / "exemplar")
    assert json.loads((tmp_path / "exemplar" / "config.json").read_text()) == {"token_width": 8, "mapper_blocks": 5}


def test_the_family_ships_controls_and_exemplars() -> None:
    assert {"clip", "control-canny", "control-color", "exemplar"} <= {member.name for member in members(BUILTIN)}
    model = load("builtin")
    assert set(model.adapters) == {"canny", "color"}
    assert model.takes_exemplars


def test_members_hold_no_paths() -> None:
    for file in BUILTIN.rglob("*.json"):
        assert "_name_or_path" not in file.read_text()


def test_a_missing_adapter_is_named_in_the_advice() -> None:
    with pytest.raises(CapabilityError, match=r'load\(\.\.\., adapters={"sobel": PATH}\)\.$'):
        check("control", load("builtin"), "wall", "sobel")
