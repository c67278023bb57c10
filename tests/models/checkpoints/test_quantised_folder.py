"""Folders that bitsandbytes or torchao has quantised: the numbers of the libraries, weights that stay as stored."""

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from flux import write_flux
from flux2 import rewrite, write_flux2
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.load import load
from cloisonne.models.quantized import torchao_file
from cloisonne.models.quantized.layers import QuantizedLinear, Stored
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

PET = Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")
SCENE = Scene(caption="a red cat", seed=0, steps=2, width=64, height=64, regions=[PET])
BLOCK, NESTED = 16, 4
"""Numbers of a block, and blocks whose scales are quantised together."""
MAP = torch.linspace(-1, 1, 16) ** 3
SCALES = torch.linspace(0, 1, 256) ** 2
Quantised = tuple[dict[str, Tensor], dict[str, str], Tensor]
"""What is stored of a weight, what the header says of it, and its numbers."""


def in_4_bits(name: str, weight: Tensor, *, nested: bool = False, kind: str = "nf4") -> Quantised:
    """As bitsandbytes stores it: codes two to a byte, the first in the upper bits."""
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % BLOCK)).reshape(-1, BLOCK)
    largest = flat.abs().amax(1).clamp_min(1e-8)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": BLOCK, "dtype": "float32", "shape": [*weight.shape]}
    stored = {f"{name}.absmax": largest, f"{name}.quant_map": MAP}
    if nested:
        state |= {"nested_blocksize": NESTED, "nested_dtype": "float32", "nested_offset": float(largest.min())}
        rest = largest - largest.min()
        groups = torch.nn.functional.pad(rest, (0, -len(rest) % NESTED)).reshape(-1, NESTED)
        means = groups.amax(1).clamp_min(1e-8)
        codes = (groups / means[:, None])[..., None].sub(SCALES).abs().argmin(-1)
        largest = (SCALES[codes] * means[:, None]).flatten()[: len(rest)] + largest.min()
        stored |= {f"{name}.absmax": codes.flatten()[: len(rest)].to(torch.uint8)}
        stored |= {f"{name}.nested_absmax": means, f"{name}.nested_quant_map": SCALES}
    codes = (flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-8))[..., None].sub(MAP).abs().argmin(-1)
    numbers = (MAP[codes] * largest[:, None]).flatten()[: weight.numel()].reshape(weight.shape)
    packed = codes.flatten()[: weight.numel() + weight.numel() % 2].reshape(-1, 2)
    stored[name] = (packed[:, 0] * 16 + packed[:, 1]).to(torch.uint8)[:, None]
    stored[f"{name}.quant_state.bitsandbytes__{kind}"] = torch.tensor(
        list(json.dumps(state).encode()), dtype=torch.uint8
    )
    return stored, {}, numbers


def in_int8(name: str, weight: Tensor) -> Quantised:
    layer, largest = name.removesuffix(".weight"), weight.abs().amax(1).clamp_min(1e-8)
    codes = (weight * 127 / largest[:, None]).round().to(torch.int8)
    stored = {name: codes, f"{layer}.SCB": largest, f"{layer}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    return stored, {}, codes.float() * (largest[:, None] / 127)


def of_torchao(name: str, weight: Tensor, *, kind: str = "Int8Tensor") -> Quantised:
    start = f"{name.removesuffix('.weight')}._weight_"
    most, dtype = (127, torch.int8) if kind == "Int8Tensor" else (448, torch.float8_e4m3fn)
    scale = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / most
    codes = (weight / scale).round().to(dtype) if dtype == torch.int8 else (weight / scale).to(dtype)
    stored = {f"{start}qdata": codes, f"{start}scale": scale}
    stored |= {f"{start}zero_point": torch.zeros_like(scale, dtype=torch.int8)} if dtype == torch.int8 else {}
    names = [own.removeprefix(start) for own in stored]
    return stored, {name: json.dumps({"_type": kind, "_data": {}, "_tensor_data_names": names})}, codes.float() * scale


def in_groups(name: str, weight: Tensor, *, kind: str) -> Quantised:
    """As torchao stores integers in groups: with a zero point of codes, in plain int4 with one of numbers."""
    start, plain = f"{name.removesuffix('.weight')}._weight_", kind == "Int4Tensor"
    groups = weight.unflatten(1, (-1, math.gcd(weight.shape[1], BLOCK)))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    levels, middle = (256, 128) if kind == "Int8Tensor" else (16, 8)
    scale = (high - low).clamp_min(1e-6) / (levels - 1)
    codes = ((groups - low) / scale).round().clamp(0, levels - 1) - middle
    if plain:
        zero = low + scale * middle
        numbers = codes * scale + zero
        packed = codes.flatten(1).to(torch.int8).unflatten(1, (-1, 2))
        data = (packed[..., 1] << 4) | (packed[..., 0] & 15)
        scale, zero = scale[..., 0].T, zero[..., 0].T
    else:
        zero = (-low / scale - middle).round().clamp(-128, 127)
        numbers = (codes - zero) * scale
        data, scale, zero = codes.flatten(1).to(torch.int8), scale[..., 0], zero[..., 0].to(torch.int8)
    stored = {f"{start}qdata": data, f"{start}scale": scale, f"{start}zero_point": zero}
    entry = {"_type": kind, "_data": {}, "_tensor_data_names": ["qdata", "scale", "zero_point"]}
    return stored, {name: json.dumps(entry)}, numbers.flatten(1)


OF_GROUPS = {"int8": "Int8Tensor", "intx": "IntxUnpackedToInt8Tensor", "int4": "Int4Tensor"}
FORMS: dict[str, tuple[str, Callable[[str, Tensor], Quantised]]] = {
    "nf4": ("bitsandbytes", in_4_bits),
    "nf4, scales quantised": ("bitsandbytes", lambda name, weight: in_4_bits(name, weight, nested=True)),
    "fp4": ("bitsandbytes", lambda name, weight: in_4_bits(name, weight, kind="fp4")),
    "int8": ("bitsandbytes", in_int8),
    "torchao int8": ("torchao", of_torchao),
    "torchao float8": ("torchao", lambda name, weight: of_torchao(name, weight, kind="Float8Tensor")),
} | {f"torchao {form} in groups": ("torchao", partial(in_groups, kind=kind)) for form, kind in OF_GROUPS.items()}


def quantise(folder: Path, member: str, form: str) -> None:
    """Quantise the matrices of a member but its embeddings in place, and write the numbers to ``FOLDER numbers``."""
    method, write = FORMS[form]
    (file,) = (folder / member).glob("*.safetensors")
    stored: dict[str, Tensor] = {}
    header: dict[str, str] = {"format": "pt"}
    numbers = load_file(file)
    for name, tensor in load_file(file).items():
        matrix = (
            tensor.ndim == 2 and name.endswith(".weight") and not any(n in name for n in ("embed", "shared", "rel"))
        )
        if member == "transformer":
            matrix = tensor.ndim == 2 and name.endswith(".weight")
        own, entries, numbers[name] = write(name, tensor) if matrix else ({name: tensor}, {}, tensor)
        stored |= own
        header |= entries or {name: json.dumps({"_type": "Tensor"})}
    header["tensor_names"] = json.dumps([*numbers])
    file.unlink()
    save_file({name: tensor.clone().contiguous() for name, tensor in stored.items()}, file, metadata=header)
    rewrite(folder / member / "config.json", quantization_config={"quant_method": method})
    same = folder.with_name("numbers") / member / file.name
    same.unlink()
    save_file({name: tensor.contiguous() for name, tensor in numbers.items()}, same, metadata={"format": "pt"})


WRITERS = {"FLUX.1": (write_flux, "text_encoder_2"), "FLUX.2 klein": (write_flux2, "text_encoder")}
OF_KLEIN = ("nf4, scales quantised", "torchao int8", "torchao int4 in groups")
CELLS = [("FLUX.2 klein" if form in OF_KLEIN else "FLUX.1", form) for form in FORMS]


def quantised(tmp_path: Path, family: str, form: str) -> tuple[Path, Path]:
    """A folder with a quantised transformer and language model, and one with their numbers."""
    write, encoder = WRITERS[family]
    write(tmp_path / "numbers")
    shutil.copytree(tmp_path / "numbers", tmp_path / "quantised")
    for member in ("transformer", encoder):
        quantise(tmp_path / "quantised", member, form)
    return tmp_path / "quantised", tmp_path / "numbers"


def layers_of(module: nn.Module) -> dict[str, QuantizedLinear]:
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, QuantizedLinear)}


@pytest.mark.parametrize(("family", "form"), CELLS, ids=[f"{family}, {form}" for family, form in CELLS])
def test_it_is_the_model_of_its_numbers(tmp_path: Path, family: str, form: str) -> None:
    folder, numbers = quantised(tmp_path, family, form)
    found, same = load(folder), load(numbers)
    assert found.warnings == ()
    pairs = [(found.net.modules[0], same.net.modules[0]), (found.text.modules[-1], same.text.modules[-1])]
    for ours, theirs in pairs:
        layers = layers_of(ours)
        assert len(layers) > 3
        for name, layer in layers.items():
            torch.testing.assert_close(layer.weight, theirs.get_submodule(name).weight, atol=1e-7, rtol=1e-6, msg=name)
    torch.testing.assert_close(generate(SCENE, found).latents, generate(SCENE, same).latents, atol=1e-4, rtol=0)


OF_NUMBERS = {"nf4": 4 + 32 / BLOCK, "int8": 8, "torchao int8": 8, "torchao int4 in groups": 4 + 64 / BLOCK}


@pytest.mark.parametrize(("form", "bits"), OF_NUMBERS.items())
def test_weights_stay_as_they_are_stored(tmp_path: Path, form: str, bits: float) -> None:
    folder, _ = quantised(tmp_path, "FLUX.2 klein", form)
    for layer in layers_of(load(folder, dtype="bfloat16").net.modules[0]).values():
        assert layer.data.numel() * 8 == bits * layer.in_features * layer.out_features
        assert layer.weight.dtype == torch.bfloat16


def test_loras_are_fused_and_apply_by_region(tmp_path: Path) -> None:
    folder, numbers = quantised(tmp_path, "FLUX.2 klein", "nf4")
    name = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {f"{name}.lora_A.weight": torch.randn(2, 32), f"{name}.lora_B.weight": torch.randn(32, 2)}
    save_file(tensors, tmp_path / "ink.safetensors")
    for options in ({"lora": tmp_path / "ink.safetensors"}, {"regional_lora": {"ink": tmp_path / "ink.safetensors"}}):
        found, same = load(folder, **options), load(numbers, **options)
        scene = SCENE if "lora" in options else SCENE.replace(regions=(PET.replace(lora={"ink": 1.0}),))
        torch.testing.assert_close(generate(scene, found).latents, generate(scene, same).latents, atol=1e-4, rtol=0)


@pytest.mark.parametrize("member", ["transformer", "text_encoder"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"x.weight_format": torch.tensor(1, dtype=torch.uint8)}, "in the order of columns"),
        ({"x.weight.quant_state.bitsandbytes__int3": torch.zeros(2, dtype=torch.uint8)}, "as int3, which is not"),
        ({}, "says in config.json that it is quantised, and no weight in it is"),
        ({"y.weight": torch.zeros(2)}, "does not have"),
    ],
    ids=["order", "codes", "full", "unknown"],
)
def test_what_is_not_supported_is_refused(tmp_path: Path, member: str, change: Any, expected: str) -> None:
    folder = write_flux2(tmp_path / "made")
    (file,) = (folder / member).glob("*.safetensors")
    own = {"x.weight": torch.zeros(2, 2, dtype=torch.int8), "x.SCB": torch.ones(2)} if change else {}
    save_file(load_file(file) | own | change, file, metadata={"format": "pt"})
    rewrite(folder / member / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    with pytest.raises(CheckpointError, match=expected):
        load(folder)


@pytest.mark.parametrize("form", ["nf4", "torchao int4 in groups"])
def test_parts_of_a_weight_may_be_in_several_files(tmp_path: Path, form: str) -> None:
    """The scales in the second of two shards, whose headers are the same."""
    folder, numbers = quantised(tmp_path, "FLUX.2 klein", form)
    (file,) = (folder / "transformer").glob("*.safetensors")
    opened, shards = TensorFile.open(file), ("a.safetensors", "b.safetensors")
    index = {name: shards["scale" in name or "absmax" in name] for name in opened.tensors}
    assert {*index.values()} == {*shards}
    file.unlink()
    for shard in shards:
        own = {name: tensor.clone() for name, tensor in opened.tensors.items() if index[name] == shard}
        save_file(own, file.with_name(shard), metadata=opened.header)
    file.with_name(f"{file.name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    found, same = (load(own).net.modules[0] for own in (folder, numbers))
    for name, layer in layers_of(found).items():
        torch.testing.assert_close(layer.weight, same.get_submodule(name).weight, atol=1e-7, rtol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"scale": torch.ones(2, 4)}, "Int8Tensor"),
        ({"zero_point": torch.ones(32, 2)}, "Int8Tensor"),
        ({"act_pre_scale": torch.ones(1)}, "Int8Tensor"),
        ({"zero_point": torch.zeros(32, 1)}, "Float8Tensor"),
        ({"scale_and_zero": torch.ones(1, 32, 2)}, "Int4TilePackedTo4dTensor"),
        ({}, "MXTensor"),
    ],
    ids=lambda own: own if isinstance(own, str) else "and ".join(own),
)
def test_other_forms_of_torchao_are_refused(parts: dict[str, Tensor], kind: str) -> None:
    stored, header, _ = of_torchao("a.weight", torch.randn(32, 32))
    stored |= {f"a._weight_{part}": tensor for part, tensor in parts.items()}
    entries = {"tensor_names": json.dumps(["a.weight"])}
    assert "a.weight" in torchao_file.with_parts(of_torchao("a.weight", torch.randn(32, 32))[0], entries | header, "x")
    with pytest.raises(CheckpointError, match=rf'"a.weight" as {kind} .* not supported; quantise it again to'):
        torchao_file.with_parts(stored, entries | {"a.weight": json.dumps({"_type": kind})}, "file")


WIDE = {"attention_head_dim": 32, "num_attention_heads": 2, "axes_dims_rope": (8, 8, 8, 8)}


@pytest.mark.parametrize("form", ["nf4", "nf4, scales quantised", "fp4", "int8"])
def test_the_numbers_are_those_of_bitsandbytes(tmp_path: Path, form: str) -> None:
    """Weights that it quantised itself, on the CPU; of each kind also where rows are not whole blocks."""
    bnb = pytest.importorskip("bitsandbytes")
    folder = write_flux2(tmp_path / "made", transformer=WIDE)
    (file,) = (folder / "transformer").glob("*.safetensors")
    stored, expected = {}, {}
    for name, tensor in load_file(file).items():
        layer = name.removesuffix(".weight")
        if tensor.ndim != 2:
            stored[name] = tensor
        elif form == "int8":
            codes, scales, _ = bnb.functional.int8_vectorwise_quant(tensor.half())
            stored |= {name: codes, f"{layer}.SCB": scales, f"{layer}.weight_format": torch.tensor(0).to(torch.uint8)}
            expected[layer] = bnb.functional.int8_vectorwise_dequant(codes, scales)
        else:
            nested = form != form.split(",")[0]
            parameter = bnb.nn.Params4bit(
                tensor.clone(), requires_grad=False, compress_statistics=nested, quant_type=form.split(",")[0]
            ).to("cpu")
            state = parameter.quant_state
            stored |= {name: parameter.data, **{f"{name}.{k}": v for k, v in state.as_dict(packed=True).items()}}
            # Of rows that are not whole blocks, bitsandbytes 0.50 computes others on a CPU; of one row it does not.
            state.shape = torch.Size((1, tensor.numel()))
            expected[layer] = bnb.functional.dequantize_4bit(parameter.data, state).reshape(tensor.shape)
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, file, metadata={"format": "pt"})
    rewrite(folder / "transformer" / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    network = load(folder).net.modules[0]
    assert len(expected) > 20
    for name, numbers in expected.items():
        found: Any = network.get_submodule(name).weight
        torch.testing.assert_close(found, numbers.float(), atol=1e-6, rtol=1e-5, msg=name)
    assert 10 < len(layers_of(network)) <= len(expected)


OF_TORCHAO: dict[str, Callable[[Any], Any]] = {
    "int8": lambda own: own.Int8WeightOnlyConfig(),
    "float8": lambda own: own.Float8WeightOnlyConfig(),
    "int8 in groups": lambda own: own.Int8WeightOnlyConfig(granularity=own.PerGroup(16)),
    "int4, asymmetric": lambda own: own.IntxWeightOnlyConfig(
        torch.int4, granularity=own.PerGroup(16), mapping_type=own.MappingType.ASYMMETRIC
    ),
    "int4, rounded inputs": lambda own: own.Int8DynamicActivationIntxWeightConfig(
        torch.int4, weight_granularity=own.PerGroup(16)
    ),
}
"""What diffusers quantises to with torchao on a CPU."""


@pytest.mark.parametrize("kind", OF_TORCHAO)
def test_the_numbers_are_those_of_torchao(tmp_path: Path, kind: str) -> None:
    """Of a transformer that diffusers has quantised and saved, and read again through its hooks."""
    quantization = pytest.importorskip("torchao.quantization")
    import diffusers

    folder = write_flux2(tmp_path / "made", transformer=WIDE)
    config = diffusers.TorchAoConfig(OF_TORCHAO[kind](quantization))
    network = diffusers.Flux2Transformer2DModel.from_pretrained(
        folder / "transformer", quantization_config=config, torch_dtype=torch.bfloat16
    )
    shutil.rmtree(folder / "transformer")
    network.save_pretrained(folder / "transformer")
    theirs = diffusers.Flux2Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.bfloat16)
    layers = layers_of(load(folder, dtype="bfloat16").net.modules[0])
    assert len(layers) > 20
    for name, layer in layers.items():
        assert torch.equal(layer.weight, theirs.get_submodule(name).weight.dequantize()), name


def test_plain_int4_is_as_torchao_stores_it() -> None:
    """Its kernels need a GPU; its class, its writer and its quantiser for training, which gives the numbers, do not."""
    pytest.importorskip("torchao")
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import Int4Tensor
    from torchao.quantization.qat.fake_quantizer import Int4WeightFakeQuantizeConfig, Int4WeightFakeQuantizer

    weight = torch.randn(24, 64)
    ours, header, numbers = in_groups("a.weight", weight, kind="Int4Tensor")
    parts = {name.removeprefix("a._weight_"): tensor for name, tensor in ours.items()}
    made = Int4Tensor(**parts, block_size=[1, BLOCK], shape=weight.shape)
    stored, entries = flatten_tensor_state_dict({"a.weight": made})
    assert {name: (own.shape, own.dtype) for name, own in ours.items()} == {
        name: (own.shape, own.dtype) for name, own in stored.items()
    }
    assert json.loads(entries["a.weight"])["_type"] == json.loads(header["a.weight"])["_type"]
    quantiser = Int4WeightFakeQuantizer(Int4WeightFakeQuantizeConfig(BLOCK, torch.bfloat16))
    torch.testing.assert_close(numbers, quantiser(weight), atol=1e-6, rtol=1e-6)
    found = torchao_file.with_parts(stored, entries, "file")["a.weight"]
    assert isinstance(found, Stored)
    torch.testing.assert_close(found.numbers(torch.float32), numbers, atol=1e-6, rtol=1e-6)
