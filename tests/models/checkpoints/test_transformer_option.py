"""A transformer of one file in place of a folder's: every family in every form, its numbers, memory and refusals."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flux import write_flux
from flux2 import write_flux2
from original_names import original
from safetensors.torch import save_file
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.hub import patterns
from cloisonne.models.checkpoints.mmdit.original_names import originals_of
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.quantized.gguf_file import Blocks
from cloisonne.models.quantized.layers import QuantizedLinear
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

WRITERS: dict[str, Callable[[Path], Path]] = {
    "FLUX.1": write_flux,
    "Stable Diffusion 3": partial(write_sd3, kind="3.5 medium"),
    "FLUX.2 klein": write_flux2,
    "Z-Image": partial(write_zimage, transformer={"dim": 64, "axes_dims": (8, 12, 12)}),
}
DOG = Region(name="pet", box=(0, 0, 0.5, 1), phrase="a dog")
SCENE = Scene(caption="a red cat", seed=0, steps=2, width=64, height=64, regions=[DOG])
needs_gguf = pytest.mark.skipif(find_spec("gguf") is None, reason='the extra "gguf" is not installed')


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: write(tmp_path_factory.mktemp("made")) for family, write in WRITERS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {family: load(folder) for family, folder in folders.items()}


Written = tuple[Path, dict[str, Tensor]]
"""A file, and the numbers of its tensors by the original names."""


def plain(model: Model, file: Path, *, prefix: str = "", dtype: torch.dtype = torch.float32) -> Written:
    tensors = {f"{prefix}{name}": tensor.to(dtype).contiguous() for name, tensor in original(model).items()}
    save_file(tensors, file.with_suffix(".safetensors"))
    return file.with_suffix(".safetensors"), {n.removeprefix(prefix): t.float() for n, t in tensors.items()}


def of_diffusers(model: Model, file: Path) -> Written:
    file = file.with_suffix(".safetensors")
    save_file({name: tensor.contiguous() for name, tensor in model.net.modules[0].state_dict().items()}, file)
    return file, original(model)


def is_matrix(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.ndim == 2 and tensor.shape[1] % 32 == 0


def scaled(model: Model, file: Path, *, rows: bool = False, end: str = "scale_weight") -> Written:
    """Float8 with one scale a layer or row, as ComfyUI writes them; the newer form has a format of each layer."""
    file, tensors, numbers = file.with_suffix(".safetensors"), {"scaled_fp8": torch.zeros(2)}, {}
    for name, tensor in original(model).items():
        layer = name.removesuffix(".weight")
        tensors[name], numbers[name] = tensor.contiguous(), tensor
        if is_matrix(name, tensor):
            scale = (tensor.abs().amax(1) if rows else tensor.abs().max()[None]) / 448
            tensors[name] = (tensor / (scale[:, None] if rows else scale)).to(torch.float8_e4m3fn)
            numbers[name] = tensors[name].float() * (scale[:, None] if rows else scale)
            tensors[f"{layer}.{end}"], tensors[f"{layer}.scale_input"] = scale if rows else scale[0], torch.ones(())
            if rows:
                marked = json.dumps({"format": "float8_e4m3fn"}).encode()
                tensors[f"{layer}.comfy_quant"] = torch.tensor(list(marked), dtype=torch.uint8)
    save_file(tensors, file)
    return file, numbers


def gguf(model: Model, file: Path, *, kind: str) -> Written:
    """Matrices in blocks, norms and biases as F32, the rest as BF16 or F16."""
    from gguf import GGMLQuantizationType, GGUFWriter, dequantize, quantize

    file, numbers = file.with_suffix(".gguf"), {}
    writer = GGUFWriter(file, arch="flux")
    for number, (name, tensor) in enumerate(original(model).items()):
        rest = ("BF16", "F16")[number % 2] if tensor.ndim > 1 else "F32"
        form = GGMLQuantizationType[kind if is_matrix(name, tensor) else rest]
        values = tensor.float().numpy()
        data = values.astype(np.float16) if form.name == "F16" else quantize(values, form)
        writer.add_tensor(name, data, raw_shape=None if form.name in ("F16", "F32") else data.shape, raw_dtype=form)
        own = data.astype(np.float32) if form.name == "F16" else dequantize(data, form)
        numbers[name] = torch.from_numpy(own).reshape(tensor.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file, numbers


FORMS: Mapping[str, Callable[[Model, Path], Written]] = {
    "original names": plain,
    "in half precision, with a prefix": partial(plain, prefix="model.diffusion_model.", dtype=torch.bfloat16),
    "names of diffusers": of_diffusers,
    "float8": partial(plain, dtype=torch.float8_e4m3fn),
    "scaled float8": scaled,
    "float8 scaled by row": partial(scaled, rows=True, end="weight_scale"),
    **{f"GGUF {kind}": partial(gguf, kind=kind) for kind in ("Q8_0", "Q4_0", "Q5_1")},
}
REPEATED = ("original names", "float8 scaled by row", "GGUF Q8_0")
CELLS = [
    pytest.param(family, form, marks=needs_gguf if "GGUF" in form else (), id=f"{family}, {form}")
    for family in WRITERS
    for form in FORMS
    if family == "FLUX.2 klein" or form in REPEATED
]


def numbers_of(model: Model) -> dict[str, Tensor]:
    """The numbers of the transformer's weights and biases by their original names."""
    network: Any = model.net.modules[0]
    found = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith((".data", ".scale"))}
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, QuantizedLinear)}
    found |= {f"{name}.weight": layer.weight for name, layer in layers.items()}
    for own in originals_of(model.family, network.config):
        for end in ("weight", "bias"):
            if f"{own.layers[0]}.{end}" in found:
                tensor = torch.cat([found.pop(f"{layer}.{end}") for layer in own.layers])
                tensor = torch.cat(tensor.chunk(2)[::-1]) if own.swapped else tensor
                found[f"{own.name}.{'scale' if own.name.endswith(('query_norm', 'key_norm')) else end}"] = tensor
    return found | ({"pos_embed": found.pop("pos_embed.pos_embed")} if model.family == "sd3" else {})


@pytest.mark.parametrize(("family", "form"), CELLS)
def test_its_numbers_are_those_of_the_file(folders: Any, models: Any, tmp_path: Path, family: str, form: str) -> None:
    file, expected = FORMS[form](models[family], tmp_path / "file")
    found = load(folders[family], transformer=file)
    assert (found.family, found.native, found.spec) == (
        models[family].family,
        models[family].native,
        models[family].spec,
    )
    assert file in found.files
    numbers = numbers_of(found)
    assert numbers.keys() == expected.keys()
    for name, tensor in numbers.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-6, rtol=1e-5, msg=name)
    quantised = sum(isinstance(layer, QuantizedLinear) for layer in found.net.modules[0].modules())
    assert (quantised > 10) == ("float8" in form or "GGUF" in form)


@needs_gguf
@pytest.mark.parametrize("family", WRITERS)
def test_its_images_are_those_of_its_numbers(folders: Any, models: Any, tmp_path: Path, family: str) -> None:
    file, numbers = FORMS["GGUF Q8_0"](models[family], tmp_path / "file")
    save_file({name: tensor.contiguous() for name, tensor in numbers.items()}, tmp_path / "numbers.safetensors")
    found, same = (load(folders[family], transformer=own) for own in (file, tmp_path / "numbers.safetensors"))
    torch.testing.assert_close(generate(SCENE, found).latents, generate(SCENE, same).latents, atol=1e-4, rtol=0)


def size(model: Model) -> int:
    tensors = model.net.modules[0].state_dict().values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@needs_gguf
@pytest.mark.parametrize(("form", "most"), [("scaled float8", 0.35), ("GGUF Q8_0", 0.35), ("GGUF Q4_0", 0.22)])
def test_weights_stay_as_they_are_stored(folders: Any, models: Any, tmp_path: Path, form: str, most: float) -> None:
    """In memory, as fractions of float32, whatever the precision of the computation."""
    file, _ = FORMS[form](models["FLUX.2 klein"], tmp_path / "file")
    found = load(folders["FLUX.2 klein"], transformer=file, dtype="bfloat16")
    assert size(found) < most * size(models["FLUX.2 klein"])
    layer = next(own for own in found.net.modules[0].modules() if isinstance(own, QuantizedLinear))
    assert layer.weight.dtype == torch.bfloat16
    assert generate(SCENE, found).latents.isfinite().all()


@needs_gguf
@pytest.mark.parametrize("family", ["FLUX.2 klein", "Z-Image"])
def test_a_lora_is_fused_into_what_it_changes(folders: Any, models: Any, tmp_path: Path, family: str) -> None:
    model = models[family]
    file, numbers = FORMS["GGUF Q8_0"](model, tmp_path / "file")
    name = {"FLUX.2 klein": "double_blocks.0.img_attn.qkv", "Z-Image": "layers.0.attention.qkv"}[family]
    down, up = torch.randn(2, numbers[f"{name}.weight"].shape[1]), torch.randn(len(numbers[f"{name}.weight"]), 2)
    tensors = {"lora_A.weight": down, "lora_B.weight": up}
    save_file({f"diffusion_model.{name}.{end}": own for end, own in tensors.items()}, tmp_path / "ink.safetensors")
    plain, found = (load(folders[family], transformer=file, lora=own) for own in ((), tmp_path / "ink.safetensors"))
    changed = numbers_of(found)
    expected = numbers[f"{name}.weight"] + up @ down
    torch.testing.assert_close(changed.pop(f"{name}.weight"), expected, atol=1e-4, rtol=0)
    assert all(torch.equal(tensor, numbers_of(plain)[own]) for own, tensor in changed.items())
    counts = [sum(isinstance(own, QuantizedLinear) for own in m.net.modules[0].modules()) for m in (plain, found)]
    assert counts[1] == counts[0] - 3


@needs_gguf
@pytest.mark.parametrize("kind", ["Q4_1", "Q5_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"])
def test_numbers_of_blocks_are_those_of_gguf(kind: str) -> None:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

    form = GGMLQuantizationType[kind]
    _, stored = GGML_QUANT_SIZES[form]
    data = np.random.default_rng(0).integers(0, 256, (400, 3 * stored), np.uint8)
    with np.errstate(all="ignore"):
        expected = dequantize(data, form)
    small = (np.abs(expected) < 1e4).all(1)
    assert small.sum() > 20
    blocks = Blocks(kind, form.value)
    found = blocks.numbers(torch.from_numpy(data[small]))
    assert blocks.columns(data.shape[1]) == found.shape[1]
    torch.testing.assert_close(found, torch.from_numpy(expected[small]), atol=1e-3, rtol=1e-5)


@needs_gguf
@pytest.mark.parametrize("family", ["FLUX.2 klein", "Z-Image"])
def test_diffusers_reads_the_same_file(folders: Any, models: Any, tmp_path: Path, family: str) -> None:
    import diffusers

    file, _ = FORMS["GGUF Q8_0"](models[family], tmp_path / "file")
    kind = {"FLUX.2 klein": "Flux2Transformer2DModel", "Z-Image": "ZImageTransformer2DModel"}[family]
    theirs = getattr(diffusers, kind).from_single_file(
        file,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=torch.float32),
        config=str(folders[family]),
        subfolder="transformer",
        torch_dtype=torch.float32,
        local_files_only=True,
    )
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    ours = load(folders[family], transformer=file).net.modules[0]
    assert [name for name, _ in theirs.named_modules()] == [name for name, _ in ours.named_modules()]
    for name, layer in ours.named_modules():
        weight = getattr(layer, "weight", None)
        if weight is not None:
            expected = dequantize_gguf_tensor(theirs.get_submodule(name).weight).float()
            torch.testing.assert_close(weight.float(), expected, atol=1e-3, rtol=1e-3, msg=name)


def changed(file: Path, **tensors: Tensor) -> None:
    from safetensors.torch import load_file

    save_file(load_file(file) | tensors, file)


def form_of(text: str) -> Tensor:
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"img_in.comfy_quant": form_of('{"format": "nvfp4"}')}, '"img_in" in the format nvfp4'),
        ({"img_in.comfy_quant": form_of("?")}, "no JSON"),
        ({"img_in.scale_weight": torch.ones(1)}, '"img_in.weight" as float32'),
        ({"img_in.weight": torch.ones(4, 4)}, r"of shape \[4, 4\], not"),
        ({"img_in.weight": torch.ones(4, 4).to(torch.float8_e4m3fn)}, r"of shape \[4, 4\], not"),
        ({"other.weight": torch.ones(4, 4)}, '"other.weight"'),
    ],
    ids=["format", "JSON", "scale", "shape", "shape of float8", "unknown"],
)
def test_what_does_not_fit_is_refused(folders: Any, models: Any, tmp_path: Path, tensors: Any, expected: str) -> None:
    file, _ = plain(models["FLUX.2 klein"], tmp_path / "file")
    changed(file, **tensors)
    with pytest.raises(CheckpointError, match=expected):
        load(folders["FLUX.2 klein"], transformer=file)


def test_another_family_is_refused(folders: Any, models: Any, tmp_path: Path) -> None:
    file, _ = plain(models["Z-Image"], tmp_path / "file")
    with pytest.raises(CheckpointError, match="holds no transformer of this model"):
        load(folders["FLUX.2 klein"], transformer=file)


@pytest.mark.parametrize("source", ["builtin", "file"])
def test_other_sources_take_no_transformer(tmp_path: Path, models: Any, source: str) -> None:
    file, _ = plain(models["Z-Image"], tmp_path / "file")
    with pytest.raises(CapabilityError, match="replaces the transformer of a diffusers folder"):
        load("builtin" if source == "builtin" else file, transformer=file)


def test_a_gguf_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").touch()
    with pytest.raises(CheckpointError, match=r"holds a transformer alone.*transformer=FILE"):
        load(tmp_path / "x.gguf")


def test_the_folder_needs_no_weights_of_its_transformer(folders: Any, models: Any, tmp_path: Path) -> None:
    """Of a hub id they are not downloaded."""
    file, _ = plain(models["FLUX.2 klein"], tmp_path / "file")
    for own in (own for own in folders["FLUX.2 klein"].rglob("*") if own.is_file()):
        if own.parent.name != "transformer" or own.suffix == ".json":
            target = tmp_path / "folder" / own.relative_to(folders["FLUX.2 klein"])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(own)
    found = load(tmp_path / "folder", transformer=file, variant=None)
    same = generate(SCENE, models["FLUX.2 klein"]).latents
    torch.testing.assert_close(generate(SCENE, found).latents, same, atol=1e-5, rtol=0)
    assert "transformer/*.safetensors" in patterns(None, ("transformer",))["ignore_patterns"]
    assert "transformer/*.safetensors" in patterns("fp16", ("transformer",))["ignore_patterns"]
