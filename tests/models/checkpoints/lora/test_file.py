"""LoRA files of every trainer: names, alphas and headers are heeded, and what is not used is named."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from ldm import ldm_unet
from lora_files import kohya_file, lora_weights, peft_file, pipeline_of
from lora_layers import (
    ATTENTION,
    CONV,
    KEYS,
    LAYERS,
    LINEAR,
    Tensors,
    Weights,
    fused,
    kohya,
    loaded,
    low_rank,
    product,
    rand,
    regional,
    saved,
    shapes,
)
from safetensors.torch import save_file

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.pipelines.explain import explain
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

ALPHAS: dict[str, tuple[tuple[int, float | None], ...]] = {
    "resized": ((2, 1.0), (4, 1.0), (3, 2.0), (5, 5.0)),
    "LoCon with its own alpha of convolutions": ((4, 2.0), (4, 2.0), (2, 1.5), (2, 1.5)),
    "alpha missing on some layers": ((2, None), (4, 1.0), (2, None), (4, 2.0)),
    "alpha missing on all layers of several ranks": ((2, None), (4, None), (3, None), (5, None)),
}


@pytest.mark.parametrize("kind", ALPHAS)
def test_every_layer_has_its_own_alpha(tiny_sd: Path, tmp_path: Path, kind: str) -> None:
    sizes = shapes(tiny_sd)
    layers, wanted = {}, {}
    for name, (rank, alpha) in zip(LAYERS, ALPHAS[kind], strict=True):
        own = low_rank(sizes[f"{name}.weight"], rank)
        wanted[name] = product(own) * (1.0 if alpha is None else alpha / rank)
        layers[name] = own if alpha is None else own | {"alpha": torch.tensor(alpha)}
    file = saved(tmp_path / "x.safetensors", layers)
    before, after, held = load(tiny_sd).net.unet.state_dict(), fused(tiny_sd, file, 0.7), regional(tiny_sd, file)
    for name in LAYERS:
        added = after[f"{name}.weight"] - before[f"{name}.weight"]
        torch.testing.assert_close(added, 0.7 * wanted[name], atol=1e-5, rtol=0)
        torch.testing.assert_close(held[name], wanted[name], atol=1e-5, rtol=0)
    assert held.keys() == set(LAYERS)


@pytest.mark.parametrize("form", ["peft", "kohya"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_plain_ones_are_fused_as_diffusers_fuses_them_to_the_bit(
    tiny_sd: Path, tmp_path: Path, form: str, dtype: torch.dtype
) -> None:
    made, file = lora_weights(tiny_sd, layers=("to_q", "to_k", "conv1", "proj_in")), tmp_path / "x.safetensors"
    peft_file(file, made) if form == "peft" else kohya_file(file, made, alpha=1.0)
    pipeline = pipeline_of(tiny_sd).to(dtype)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name)
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    model = load(tiny_sd, lora=(file, 0.7), dtype=dtype)
    for ours, theirs in ((model.net.unet, pipeline.unet), (model.text.modules[0], pipeline.text_encoder)):
        state = theirs.state_dict()
        assert [name for name, value in ours.state_dict().items() if not torch.equal(value, state[name])] == []


def by_diffusers(path: Path, layers: dict[str, Tensors], header: dict[str, Any]) -> Path:
    """A file by diffusers' names, with its settings in the header."""
    ends = {"lora_down.weight": "lora_A.weight", "lora_up.weight": "lora_B.weight"}
    tensors = {f"unet.{name}.{ends[end]}": t for name, own in layers.items() for end, t in own.items()}
    save_file(tensors, path, {"format": "pt", "lora_adapter_metadata": json.dumps(header)})
    return path


TARGETS = {"unet.r": 2, "unet.lora_alpha": 8, "unet.target_modules": [LINEAR, KEYS]}
PATTERNS: tuple[dict[str, Any], ...] = (
    TARGETS,
    TARGETS | {"unet.rank_pattern": {"attn2.to_k": 4}, "unet.alpha_pattern": {LINEAR: 3}},
    TARGETS | {"unet.use_rslora": True},
    TARGETS | {"unet.init_lora_weights": "gaussian", "unet.peft_version": "0.17.0"},
)


@pytest.mark.parametrize("number", range(len(PATTERNS)))
def test_the_header_of_diffusers_is_heeded(tiny_sd: Path, tmp_path: Path, number: int) -> None:
    settings, sizes = PATTERNS[number], shapes(tiny_sd)
    ranks = {LINEAR: 2, KEYS: 4 if "unet.rank_pattern" in settings else 2}
    layers = {name: low_rank(sizes[f"{name}.weight"], rank) for name, rank in ranks.items()}
    file = by_diffusers(tmp_path / "x.safetensors", layers, settings)
    pipeline = pipeline_of(tiny_sd)
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    theirs, ours, held = pipeline.unet.state_dict(), fused(tiny_sd, file), regional(tiny_sd, file)
    for name, own in layers.items():
        torch.testing.assert_close(ours[f"{name}.weight"], theirs[f"{name}.weight"], atol=1e-6, rtol=0)
        scale = (ours[f"{name}.weight"] - load(tiny_sd).net.unet.state_dict()[f"{name}.weight"]) / product(own)
        assert float(scale.median()) > 1.2
        torch.testing.assert_close(held[name], product(own) * scale.median(), atol=1e-4, rtol=1e-4)


def test_a_file_that_diffusers_saved_is_read_as_diffusers_reads_it(tiny_xl: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    pipeline = pipeline_of(tiny_xl)
    given: dict[str, Any] = {}
    for name, alpha in (("unet", 8), ("text_encoder", 3), ("text_encoder_2", 6)):
        module = getattr(pipeline, name)
        targets = ["to_k", "to_out.0"] if name == "unet" else ["q_proj"]
        module.add_adapter(LoraConfig(r=2, lora_alpha=alpha, target_modules=targets))
        state = get_peft_model_state_dict(module, save_embedding_layers=False)
        given[f"{name}_lora_layers"] = {key: torch.randn_like(t) * 0.3 for key, t in state.items()}
        settings = {"r": 2, "lora_alpha": alpha, "target_modules": targets}
        given[f"{name}_lora_adapter_metadata"] = settings
    type(pipeline).save_lora_weights(tmp_path, weight_name="x.safetensors", **given)
    fresh = pipeline_of(tiny_xl)
    fresh.load_lora_weights(tmp_path, weight_name="x.safetensors")
    fresh.fuse_lora()
    fresh.unload_lora_weights()
    model = load(tiny_xl, lora=tmp_path / "x.safetensors")
    pairs = (
        (model.net.unet, fresh.unet),
        *zip(model.text.modules, (fresh.text_encoder, fresh.text_encoder_2), strict=True),
    )
    for ours, theirs in pairs:
        state = theirs.state_dict()
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, state[name], atol=1e-6, rtol=0)
    assert model.warnings == ()


@pytest.mark.parametrize("setting", [{"init_lora_weights": "pissa"}, {"use_qalora": True}, {"layer_replication": [1]}])
def test_settings_that_are_not_honoured_are_refused(tiny_sd: Path, tmp_path: Path, setting: dict[str, Any]) -> None:
    layers = {LINEAR: low_rank(shapes(tiny_sd)[f"{LINEAR}.weight"], 2)}
    header = {"unet.r": 2, "unet.lora_alpha": 2} | {f"unet.{key}": value for key, value in setting.items()}
    file = by_diffusers(tmp_path / "x.safetensors", layers, header)
    with pytest.raises(CheckpointError, match=f"asks for .*{next(iter(setting))}.* not honoured"):
        load(tiny_sd, lora=file)


def nowhere(count: int) -> Iterable[str]:
    return (f"down_blocks.9.attentions.{k}.proj_in" for k in range(count))


@pytest.mark.parametrize("where", ["lora", "regional_lora"])
def test_layers_that_the_model_has_not_got_are_counted_and_named(tiny_sd: Path, tmp_path: Path, where: str) -> None:
    layers = {LINEAR: low_rank(shapes(tiny_sd)[f"{LINEAR}.weight"], 2)}
    layers |= {name: low_rank((4, 4), 2) for name in nowhere(32)}
    file = saved(tmp_path / "x.safetensors", layers)
    model = loaded(tiny_sd, where, file)
    (warning,) = model.warnings
    assert f'Of the LoRA "{file}", 32 of 33 layers are not in the model and are not used: ' in warning
    assert warning.endswith("and 29 more.")
    assert '"lora_unet_down_blocks_9_attentions_0_proj_in", ' in warning
    explained = explain(Scene(caption="a cat", regions=[Region(box=(0, 0, 1, 1), phrase="a cat")]), model)
    assert warning in explained.warnings
    alone = saved(tmp_path / "y.safetensors", {name: low_rank((4, 4), 2) for name in nowhere(3)})
    with pytest.raises(CheckpointError, match="fits no layer of the model"):
        loaded(tiny_sd, where, alone)


def test_tensors_and_header_entries_of_no_known_name_are_warned_of(tiny_sd: Path, tmp_path: Path) -> None:
    layers = {LINEAR: low_rank(shapes(tiny_sd)[f"{LINEAR}.weight"], 2) | {"twist": rand(2)}}
    file = saved(tmp_path / "x.safetensors", layers, {"shift": "3", "ss_network_dim": "2", "modelspec.title": "x"})
    tensors, header = load(tiny_sd, lora=file).warnings
    assert "1 of 3 tensors is not used" in tensors
    assert f"{kohya(LINEAR)}.twist" in tensors
    assert '"shift"' in header


TEXT = "encoder.layers.0.self_attn"
OUT = f"{ATTENTION}.attn1.to_out.0"
NAMES: dict[str, tuple[int, str, tuple[str, str]]] = {
    f"unet.{LINEAR}": (0, LINEAR, ("lora_A.weight", "lora_B.weight")),
    f"unet.{KEYS}": (0, KEYS, ("lora_A.default.weight", "lora_B.default.weight")),
    f"unet.{ATTENTION}.attn1.to_k": (0, f"{ATTENTION}.attn1.to_k", ("lora.down.weight", "lora.up.weight")),
    f"unet.{ATTENTION}.attn1.processor.to_v_lora": (0, f"{ATTENTION}.attn1.to_v", ("down.weight", "up.weight")),
    f"unet.{ATTENTION}.attn1.processor.to_out_lora": (0, OUT, ("down.weight", "up.weight")),
    f"base_model.model.{CONV}": (0, CONV, ("lora_A.weight", "lora_B.weight")),
    f"text_encoder.text_model.{TEXT}.q_proj": (1, f"{TEXT}.q_proj", ("lora_A.weight", "lora_B.weight")),
    f"text_encoder.{TEXT}.k_proj": (
        1,
        f"{TEXT}.k_proj",
        ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
    ),
    f"text_encoder.text_model.{TEXT}.to_v_lora": (1, f"{TEXT}.v_proj", ("down.weight", "up.weight")),
    f"text_encoder.text_model.{TEXT}.to_out_lora": (1, f"{TEXT}.out_proj", ("down.weight", "up.weight")),
    "lora_te1_text_model_encoder_layers_1_mlp_fc1": (
        1,
        "encoder.layers.1.mlp.fc1",
        ("lora_down.weight", "lora_up.weight"),
    ),
    "lora_te2_text_model_encoder_layers_1_mlp_fc2": (
        2,
        "encoder.layers.1.mlp.fc2",
        ("lora_down.weight", "lora_up.weight"),
    ),
    "lora_te2_text_projection": (2, "text_projection", ("lora_down.weight", "lora_up.weight")),
}


def test_every_naming_of_layers_is_known(tiny_xl: Path, tmp_path: Path) -> None:
    def weights() -> list[Weights]:
        return [{name.removeprefix("text_model."): t.clone() for name, t in m.state_dict().items()} for m in networks]

    plain = load(tiny_xl)
    networks: Any = (plain.net.unet, *plain.text.modules)
    before, tensors, wanted = weights(), {}, {}
    for seed, (written, (part, name, ends)) in enumerate(NAMES.items()):
        own = low_rank(tuple(before[part][f"{name}.weight"].shape), 2, seed)
        tensors |= {f"{written}.{end}": t for end, t in zip(ends, own.values(), strict=True)}
        wanted[part, name] = product(own)
    save_file(tensors, tmp_path / "x.safetensors")
    model = load(tiny_xl, lora=tmp_path / "x.safetensors")
    networks = (model.net.unet, *model.text.modules)
    assert model.warnings == ()
    for part, (after, old) in enumerate(zip(weights(), before, strict=True)):
        for key, value in after.items():
            change = wanted.get((part, key.removesuffix(".weight")), torch.zeros(())) if "weight" in key else 0
            torch.testing.assert_close(value - old[key], change + torch.zeros_like(value), atol=1e-5, rtol=0)


@pytest.mark.parametrize("base", ["tiny_sd", "tiny_xl"])
def test_names_of_the_original_repositories_are_known(
    base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Every layer of a checkpoint in its original layout, whose names diffusers' own converter turns into ours."""
    folder: Path = request.getfixturevalue(base)
    sizes = {name: shape for name, shape in shapes(folder).items() if name.endswith(".weight") and len(shape) > 1}
    unet = load(folder).net.unet
    config: Any = unet.config
    named = {key: torch.full((1,), float(k)) for k, key in enumerate(ldm_unet(unet))}
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    back = {float(value): name for name, value in convert_ldm_unet_checkpoint(dict(named), dict(config)).items()}
    layers, wanted = {}, {}
    for key, value in named.items():
        name = back[float(value)]
        if name in sizes:
            written = key.removeprefix("model.diffusion_model.").removesuffix(".weight")
            layers[written] = low_rank(sizes[name], 2, len(layers))
            wanted[name] = product(layers[written])
    assert len(wanted) == len(sizes)
    model, before = load(folder, lora=saved(tmp_path / "x.safetensors", layers)), unet.state_dict()
    assert model.warnings == ()
    after = model.net.unet.state_dict()
    for name, change in wanted.items():
        torch.testing.assert_close(after[name] - before[name], change, atol=1e-5, rtol=0)
