"""LoRAs of FLUX.1 and Stable Diffusion 3 in the key forms of their trainers, fused as diffusers fuses them."""

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from flux import LENGTH, write_flux
from flux2 import write_flux2
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.mmdit.original_names import Original, originals_of
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene

KINDS = {"flux": "FluxPipeline", "sd3": "StableDiffusion3Pipeline"}
ALL = {**KINDS, "flux2": "Flux2KleinPipeline", "zimage": "ZImagePipeline"}
TARGETS = ["to_q", "to_k", "add_v_proj", "to_out.0", "to_add_out", "ff.net.2", "proj_mlp", "norm1.linear", "proj_out"]
ATTENTION = ["q_proj", "out_proj"]
ENCODERS = {"flux": ("text_encoder",), "sd3": ("text_encoder", "text_encoder_2")}
"""Those of which diffusers reads LoRAs."""
SCALE = 0.7


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "flux": write_flux(tmp_path_factory.mktemp("flux")),
        "sd3": write_sd3(tmp_path_factory.mktemp("sd3"), "3.5 medium"),
        "flux2": write_flux2(tmp_path_factory.mktemp("flux2")),
        "zimage": write_zimage(tmp_path_factory.mktemp("zimage")),
    }


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


def pipeline_of(folders: dict[str, Path], kind: str) -> Any:
    pipeline: Any = getattr(diffusers, ALL[kind]).from_pretrained(folders[kind])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def fused_by_diffusers(folders: dict[str, Path], kind: str, file: Path, text: bool = True) -> Any:
    pipeline = pipeline_of(folders, kind)
    pipeline.load_lora_weights(file.parent, weight_name=file.name)
    names = ["transformer", *(ENCODERS.get(kind, ()) if text else ())]
    pipeline.fuse_lora(components=names, lora_scale=SCALE)
    pipeline.unload_lora_weights()
    return pipeline


def differing(ours: Any, theirs: Any) -> list[str]:
    state = theirs.state_dict()
    return [n for n, value in ours.state_dict().items() if not torch.allclose(value, state[n], atol=1e-6, rtol=0)]


def changed(ours: Any, plain: Any) -> set[str]:
    state = plain.state_dict()
    return {name for name, value in ours.state_dict().items() if not torch.equal(value, state[name])}


def peft_weights(pipeline: Any, name: str, targets: list[str]) -> dict[str, Tensor]:
    module = getattr(pipeline, name)
    module.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    state = get_peft_model_state_dict(module, save_embedding_layers=False)
    return {f"{name}.{key}": torch.randn_like(tensor) * 0.3 for key, tensor in state.items()}


@pytest.fixture(scope="module")
def of_peft(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A LoRA file of each family by diffusers' names."""
    files = {}
    for kind in KINDS:
        torch.manual_seed(0)
        pipeline = pipeline_of(folders, kind)
        tensors = peft_weights(pipeline, "transformer", TARGETS)
        for name in ENCODERS[kind]:
            tensors |= peft_weights(pipeline, name, ATTENTION)
        files[kind] = tmp_path_factory.mktemp(kind) / "ink.safetensors"
        save_file(tensors, files[kind])
    return files


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_diffusers(folders: dict[str, Path], models: dict[str, Model], of_peft: Any, kind: str) -> None:
    theirs, ours = fused_by_diffusers(folders, kind, of_peft[kind]), load(folders[kind], lora=(of_peft[kind], SCALE))
    assert differing(ours.net.module, theirs.transformer) == []
    assert len(changed(ours.net.module, models[kind].net.module)) > 20
    for number, name in enumerate(ENCODERS[kind]):
        assert differing(ours.text.modules[number], getattr(theirs, name)) == []
        assert changed(ours.text.modules[number], models[kind].text.modules[number])
    assert ours.warnings == models[kind].warnings


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("flux2", ["to_q", "to_k", "add_v_proj", "to_out.0", "to_add_out", "linear_in"]),
        ("zimage", ["to_q", "to_k", "to_v", "to_out.0", "feed_forward.w1"]),
    ],
)
def test_names_of_diffusers_on_other_transformers(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, kind: str, targets: list[str]
) -> None:
    file = tmp_path / "ink.safetensors"
    torch.manual_seed(0)
    save_file(peft_weights(pipeline_of(folders, kind), "transformer", targets), file)
    theirs, ours = fused_by_diffusers(folders, kind, file), load(folders[kind], lora=(file, SCALE))
    assert differing(ours.net.module, theirs.transformer) == []
    assert len(changed(ours.net.module, models[kind].net.module)) > 10
    assert ours.warnings == models[kind].warnings


@pytest.mark.parametrize("form", ["kohya", "BFL"])
@pytest.mark.parametrize("kind", ["flux2", "zimage"])
def test_original_names_on_other_transformers(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, kind: str, form: str
) -> None:
    """As diffusers converts them, but for those that it does not: the halves of the last layer of FLUX.2 klein, and
    fused projections of Z-Image by lora_A and lora_B."""
    layers = {
        "flux2": [
            *("double_blocks.1.img_attn.qkv", "double_blocks.0.txt_attn.proj", "double_blocks.0.img_mlp.0"),
            *("single_blocks.1.linear1", "single_blocks.0.linear2"),
        ],
        "zimage": ["layers.1.attention.to_q", "layers.0.attention.out", "noise_refiner.0.attention.to_v"],
    }[kind]
    known = originals(models[kind])

    def weight(name: str) -> Tensor:
        layer = name if name in dict(models[kind].net.module.named_modules()) else None
        return weight_of(Original(name, (name,)) if layer else known[name], models[kind])

    given = {name: low_rank(weight(name), seed) for seed, name in enumerate(layers)}
    if form == "BFL":  # which has no alpha
        given = {name: {end: own for end, own in tensors.items() if end != "alpha"} for name, tensors in given.items()}
    if (kind, form) == ("zimage", "BFL"):
        given = {name.replace(".out", ".to_out.0"): own for name, own in given.items()}
    file = saved(tmp_path / "x.safetensors", given, form)
    theirs, ours = fused_by_diffusers(folders, kind, file), load(folders[kind], lora=(file, SCALE))
    assert differing(ours.net.module, theirs.transformer) == []
    assert len(changed(ours.net.module, models[kind].net.module)) == (7 if kind == "flux2" else 3)
    assert ours.warnings == models[kind].warnings


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_onetrainer(folders: dict[str, Path], of_peft: Any, tmp_path: Path, kind: str) -> None:
    tensors = {}
    for name, tensor in load_file(of_peft[kind]).items():
        network, _, rest = name.partition(".")
        layer, _, side = rest.removesuffix(".weight").rpartition(".")
        prefix = {"transformer": "lora_transformer", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}[network]
        end = {"lora_A": "lora_down", "lora_B": "lora_up"}[side]
        tensors[f"{prefix}_{layer.replace('.', '_')}.{end}.weight"] = tensor
    save_file(tensors, tmp_path / "x.safetensors")
    ours, same = (load(folders[kind], lora=(file, SCALE)) for file in (tmp_path / "x.safetensors", of_peft[kind]))
    assert changed(ours.net.module, same.net.module) == set()
    for one, other in zip(ours.text.modules, same.text.modules, strict=True):
        assert changed(one, other) == set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["lora_te3_", "text_encoders.t5xxl.transformer."])
def test_a_lora_of_t5(folders: Any, models: dict[str, Model], tmp_path: Path, kind: str, prefix: str) -> None:
    layer = "encoder.block.1.layer.0.SelfAttention.q"
    before = models[kind].text.modules[-1].get_submodule(layer).weight
    own = low_rank(before, 0)
    name = prefix + (layer if "." in prefix else layer.replace(".", "_"))
    save_file({f"{name}.{end}": tensor for end, tensor in own.items()}, tmp_path / "x.safetensors")
    after = load(folders[kind], lora=tmp_path / "x.safetensors").text.modules[-1].get_submodule(layer).weight
    product = own["lora_up.weight"] @ own["lora_down.weight"] / 2
    torch.testing.assert_close(after - before, product, atol=1e-6, rtol=0)


XLABS = {"double_blocks.0.processor.qkv_lora1": 96, "single_blocks.0.processor.qkv_lora": 96}


@pytest.mark.parametrize("name", XLABS)
def test_loras_of_xlabs_are_refused(folders: Any, tmp_path: Path, name: str) -> None:
    tensors = {f"{name}.down.weight": torch.ones(2, 32), f"{name}.up.weight": torch.ones(XLABS[name], 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(
        CheckpointError, match=f"(no LoRA of a known layout|fits no layer).*{name.removesuffix('_lora')}"
    ):
        load(folders["flux"], lora=tmp_path / "x.safetensors")


def test_control_loras_are_refused(folders: Any, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r'does not fit the model.*for "x_embedder"'):
        load(folders["flux"], lora=saved(tmp_path / "x.safetensors", {"img_in": low_rank(rand(32, 128), 0)}, "bare"))


def test_the_image_is_that_of_diffusers(folders: dict[str, Path], of_peft: dict[str, Path]) -> None:
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = fused_by_diffusers(folders, "flux", of_peft["flux"])(
        "a red cat",
        num_inference_steps=4,
        width=64,
        height=64,
        latents=packed(noise, 2),
        max_sequence_length=LENGTH,
        output_type="latent",
    ).images
    scene = Scene(caption="a red cat", seed=0, steps=4, width=64, height=64)
    found = generate(scene, load(folders["flux"], lora=(of_peft["flux"], SCALE)), latents=noise).latents
    torch.testing.assert_close(found, unpacked(expected, (4, 4), 2), atol=1e-4, rtol=0)


def originals(model: Model) -> dict[str, Original]:
    """By name, those that the network has."""
    names = dict(model.net.module.named_modules())
    made = originals_of(model.family, model.net.module.config)
    return {own.name: own for own in made if all(layer in names for layer in own.layers)}


def weight_of(own: Original, model: Model) -> Tensor:
    """The original layer's weight."""
    weight = torch.cat([model.net.module.get_submodule(layer).weight for layer in own.layers])
    return torch.cat(weight.chunk(2)[::-1]) if own.swapped else weight


def low_rank(weight: Tensor, seed: int, rank: int = 2) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    down = torch.randn(rank, *weight.shape[1:], generator=rng) * 0.3
    up = torch.randn(len(weight), rank, *(1 for _ in weight.shape[2:]), generator=rng) * 0.3
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(1.0)}


def kohya(name: str) -> str:
    return "lora_unet_" + name.replace(".", "_")


FORMS = {
    "kohya": (kohya, {}),
    "ComfyUI": (lambda name: f"diffusion_model.{name}", {}),
    "BFL": (lambda name: f"diffusion_model.{name}", {"lora_down": "lora_A", "lora_up": "lora_B"}),
    "PEFT": (lambda name: f"base_model.model.{name}", {"lora_down": "lora_A", "lora_up": "lora_B"}),
    "bare": (lambda name: name, {}),
}


def saved(path: Path, layers: dict[str, dict[str, Tensor]], form: str) -> Path:
    name_of, ends = FORMS[form]
    tensors = {
        f"{name_of(name)}.{'.'.join(ends.get(part, part) for part in end.split('.'))}": tensor
        for name, own in layers.items()
        for end, tensor in own.items()
    }
    save_file(tensors, path)
    return path


DOUBLE = [
    f"double_blocks.{i}.{side}_{end}"
    for i in range(2)
    for side in ("img", "txt")
    for end in ("attn.qkv", "attn.proj", "mlp.0", "mlp.2", "mod.lin")
]


@pytest.mark.parametrize("form", ["kohya", "ComfyUI"])
def test_original_names_as_diffusers_converts_them(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, form: str
) -> None:
    """Of FLUX.1; diffusers converts single blocks of the published width alone, and no file of Stable Diffusion 3."""
    known = originals(models["flux"])
    names = [*DOUBLE, "single_blocks.1.linear2", "single_blocks.0.modulation.lin"]
    layers = {name: low_rank(weight_of(known[name], models["flux"]), seed) for seed, name in enumerate(names)}
    text = {f"lora_te1_text_model_encoder_layers_0_self_attn_{end}": torch.zeros(16, 16) for end in ATTENTION}
    file = saved(tmp_path / "x.safetensors", layers, form)
    if form == "kohya":
        own = {f"{n}.{end}": t for s, (n, w) in enumerate(text.items()) for end, t in low_rank(w, s).items()}
        save_file(load_file(file) | own, file)
    theirs = fused_by_diffusers(folders, "flux", file, text=form == "kohya")
    ours = load(folders["flux"], lora=(file, SCALE))
    assert differing(ours.net.module, theirs.transformer) == []
    assert differing(ours.text.modules[0], theirs.text_encoder) == []
    # Two fused projections and eight further layers a block, and two of the single blocks.
    assert len(changed(ours.net.module, models["flux"].net.module)) == 2 * (6 + 8) + 2


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ALL)
def test_every_original_layer_changes_by_its_product(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, kind: str, form: str
) -> None:
    known = {n: own for n, own in originals(models[kind]).items() if weight_of(own, models[kind]).ndim > 1}
    layers = {name: low_rank(weight_of(own, models[kind]), seed) for seed, (name, own) in enumerate(known.items())}
    model = load(folders[kind], lora=(saved(tmp_path / "x.safetensors", layers, form), SCALE))
    assert model.warnings == models[kind].warnings
    for name, own in known.items():
        down, up = layers[name]["lora_down.weight"], layers[name]["lora_up.weight"]
        before, after = weight_of(own, models[kind]), weight_of(own, model)
        product = (up.flatten(1) @ down.flatten(1)).reshape(before.shape) * SCALE / 2
        torch.testing.assert_close(after - before, product, atol=1e-6, rtol=0)
    untouched = changed(model.net.module, models[kind].net.module)
    assert untouched == {f"{layer}.weight" for own in known.values() for layer in own.layers}


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * 0.3


def forms_of(weight: Tensor) -> dict[str, tuple[dict[str, Tensor], Tensor]]:
    """Tensors of a layer by LyCORIS' forms, and the weight that the layer has with them at scale 1."""
    rows, columns = weight.shape
    loha = {f"hada_w{k}_{side}": rand(*((rows, 2) if side == "a" else (2, columns))) for k in "12" for side in "ab"}
    loha_weight = (loha["hada_w1_a"] @ loha["hada_w1_b"]) * (loha["hada_w2_a"] @ loha["hada_w2_b"])
    lokr = {"lokr_w1": rand(2, 2), "lokr_w2": rand(rows // 2, columns // 2)}
    low, magnitude = low_rank(weight, 3), rand(rows, 1).abs() + 1
    moved = weight + low["lora_up.weight"] @ low["lora_down.weight"] / 2
    dora = magnitude * moved / moved.norm(dim=1, keepdim=True)
    return {
        "LoHa": (loha, weight + loha_weight),
        "LoKr": (lokr, weight + torch.kron(lokr["lokr_w1"], lokr["lokr_w2"])),
        "full difference": ({"diff": rand(rows, columns), "diff_b": rand(rows)}, weight + rand(rows, columns)),
        "DoRA": (low | {"dora_scale": magnitude}, dora),
    }


@pytest.mark.parametrize("form", ["LoHa", "LoKr", "full difference", "DoRA"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("flux", "double_blocks.0.img_attn.qkv"),
        ("flux", "single_blocks.0.linear1"),
        ("flux", "final_layer.adaLN_modulation.1"),
        ("sd3", "joint_blocks.1.x_block.attn2.qkv"),
        ("sd3", "joint_blocks.2.context_block.adaLN_modulation.1"),
    ],
)
def test_forms_of_lycoris_are_divided(
    folders: dict[str, Path], models: dict[str, Model], tmp_path: Path, kind: str, name: str, form: str
) -> None:
    own = originals(models[kind])[name]
    tensors, expected = forms_of(weight_of(own, models[kind]))[form]
    model = load(folders[kind], lora=saved(tmp_path / "x.safetensors", {name: tensors}, "kohya"))
    torch.testing.assert_close(weight_of(own, model), expected, atol=1e-5, rtol=1e-5)
    if "diff_b" in tensors:
        biases = [torch.cat([m.net.module.get_submodule(n).bias for n in own.layers]) for m in (models[kind], model)]
        added = biases[1] - biases[0]
        added = torch.cat(added.chunk(2)[::-1]) if own.swapped else added
        torch.testing.assert_close(added, tensors["diff_b"], atol=1e-6, rtol=0)


def test_magnitudes_of_inputs_of_a_fused_projection_are_refused(folders: Any, models: Any, tmp_path: Path) -> None:
    name = "single_blocks.0.linear1"
    weight = weight_of(originals(models["flux"])[name], models["flux"])
    tensors = low_rank(weight, 0) | {"dora_scale": torch.ones(1, weight.shape[1])}
    with pytest.raises(CheckpointError, match="magnitudes of the inputs of several layers"):
        load(folders["flux"], lora=saved(tmp_path / "x.safetensors", {name: tensors}, "kohya"))


def test_layers_under_two_names_are_refused(folders: Any, models: Any, tmp_path: Path) -> None:
    names = ["double_blocks.0.img_attn.qkv", "transformer_blocks.0.attn.to_k"]
    layers = {name: low_rank(torch.zeros(96 if "qkv" in name else 32, 32), 0) for name in names}
    with pytest.raises(CheckpointError, match=r'"transformer_blocks.0.attn.to_k" under two names'):
        load(folders["flux"], lora=saved(tmp_path / "x.safetensors", layers, "bare"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_unknown_is_named(folders: dict[str, Path], of_peft: Any, tmp_path: Path, kind: str) -> None:
    more = {f"transformer.other.{end}": t for end, t in low_rank(torch.zeros(4, 4), 0).items()}
    save_file(load_file(of_peft[kind]) | more | {"unknown": torch.zeros(1)}, tmp_path / "x.safetensors")
    warnings = load(folders[kind], lora=tmp_path / "x.safetensors").warnings
    assert any('layers are not in the model and are not used: "transformer.other"' in one for one in warnings)
    assert any('is not used: "unknown"' in one for one in warnings)


@pytest.mark.parametrize("kind", KINDS)
def test_what_does_not_fit_is_refused(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    file = tmp_path / "x.safetensors"
    unet = {"lora_unet_down_blocks_1_attentions_0_proj_in": low_rank(torch.zeros(4, 4), 0)}
    with pytest.raises(CheckpointError, match=f"fits no layer of the model.*trained for {kind}"):
        load(folders[kind], lora=saved(file, unet, "bare"))
    layer = "double_blocks.0.img_attn.qkv" if kind == "flux" else "joint_blocks.0.x_block.attn.qkv"
    with pytest.raises(CheckpointError, match=f'does not fit the model, which is of the family {kind} .for "transform'):
        load(folders[kind], lora=saved(file, {layer: low_rank(torch.zeros(90, 32), 0)}, "kohya"))
    bundled = {layer: low_rank(torch.zeros(96, 32), 0), "bundle_emb": {"w.clip_l": torch.zeros(1, 16)}}
    with pytest.raises(CheckpointError, match='bundles the learned words "w", which diffusion transformers do not'):
        load(folders[kind], lora=saved(file, bundled, "bare"))


def test_added_to_a_model_it_is_the_same(folders: dict[str, Path], models: dict[str, Model], of_peft: Any) -> None:
    added, loaded = models["sd3"].with_lora(of_peft["sd3"], SCALE), load(folders["sd3"], lora=(of_peft["sd3"], SCALE))
    assert changed(added.net.module, loaded.net.module) == set()
    assert changed(added.net.module, models["sd3"].net.module)


def test_a_lora_of_few_steps_sets_the_defaults(folders: Any, of_peft: Any, tmp_path: Path) -> None:
    file = tmp_path / "Hyper-FLUX.1-dev-8steps-lora.safetensors"
    file.hardlink_to(of_peft["flux"])
    native = load(folders["flux"], lora=(file, 0.125)).native
    assert (native.steps, native.guidance, native.sampler) == (8, 3.5, "euler")
