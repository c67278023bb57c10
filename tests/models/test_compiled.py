"""Compiled networks: the images of the others, and no new code for another number of regions.

Code is made by ``torch.compile`` and run operation by operation, which needs no compiler of C++; the slow test has one.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from controlled import SD1, beside, photo
from joint_networks import NETWORKS
from safetensors.torch import save_file
from shape_checks import take_off
from tiny import write_checkpoint
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

from cloisonne.errors import CapabilityError
from cloisonne.models import compiled
from cloisonne.models.compiled import compile_blocks, missing_compiler
from cloisonne.models.load import load
from cloisonne.models.mmdit import flux, flux2, sd3, zimage_network
from cloisonne.models.mmdit import region_lora as sequence_lora
from cloisonne.models.model import Model
from cloisonne.models.quantized.layers import QuantizedLinear, replace_layer
from cloisonne.models.unet import dilation, features, region_lora
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SCENE = Scene(caption="on the beach", seed=3, steps=3, guidance=2.0, width=128, height=128)
CAT = Region(name="cat", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat")
DOG = Region(name="dog", mask=np.tri(16, dtype=np.float32), phrase="a red dog", start=0.4, stop=0.9)
CAR = Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a large orange car", weight=2.0)
TRACED = (flux, flux2, sd3, zimage_network, sequence_lora, dilation, features, region_lora)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "unet": write_checkpoint,
    **{name: network.write for name, network in NETWORKS.items()},
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that was compiled before, no checks in the code, and no log of it, which pytest would collect."""
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)
    for module in TRACED:
        take_off(module, monkeypatch)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> CompileCounter:
    """Counts the pieces of code that are made."""
    made = CompileCounter()
    monkeypatch.setattr(compiled, "BACKEND", made)
    return made


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp("network"))


def on_networks(*fast: str) -> pytest.MarkDecorator:
    """Each network's folder; those that are not named are slow."""
    given = [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in WRITERS]
    return pytest.mark.parametrize("folder", given, indirect=True)


def drawn(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def check_equal(scene: Scene, made: Model, plain: Model, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(drawn(scene, made), drawn(scene, plain), atol=tolerance, rtol=tolerance)


@on_networks("unet", "zimage")
def test_images_are_equal_and_further_regions_make_no_code(folder: Path, counter: CompileCounter) -> None:
    made, plain = load(folder, compile="default"), load(folder)
    check_equal(SCENE, made, plain)
    first = counter.frame_count
    assert first > 0
    for regions in ((CAT,), (CAT, DOG), (DOG, CAR, CAT)):
        check_equal(SCENE.replace(regions=regions), made, plain)
        assert counter.frame_count == first
    check_equal(SCENE.replace(speed="fast", steps=5, regions=(DOG,)), made, plain)


@on_networks("unet")
def test_a_third_canvas_makes_no_code(folder: Path, counter: CompileCounter) -> None:
    made, found = load(folder, compile="default"), list[int]()
    for width, height in ((128, 128), (192, 128), (160, 192), (176, 160)):
        drawn(SCENE.replace(width=width, height=height, steps=1, regions=(CAT,)), made)
        found.append(counter.frame_count)
    assert found[1] <= 3 * found[0]
    assert found[1:] == found[1:2] * 3


def lora_of(model: Model, path: Path) -> Path:
    """A random LoRA of linear layers and convolutions, of a UNet those of its blocks."""
    network, tensors = model.net.modules[0], {}
    prefix = "unet" if hasattr(network, "up_blocks") else "transformer"
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and (prefix == "transformer" or "block" in name):
            rows, columns, *rest = layer.weight.shape
            tensors[f"{prefix}.{name}.lora_A.weight"] = torch.randn(2, columns, *rest) * 0.1
            tensors[f"{prefix}.{name}.lora_B.weight"] = torch.randn(rows, 2, *(1 for _ in rest)) * 0.1
    save_file(tensors, path)
    return path


@on_networks("unet")
def test_loras_fused_and_by_region(folder: Path, tmp_path: Path, counter: CompileCounter) -> None:
    file = lora_of(load(folder), tmp_path / "ink.safetensors")
    for options in ({"lora": file}, {"regional_lora": {"ink": file}}):
        made, plain = load(folder, **options, compile="default"), load(folder, **options)  # pyright: ignore[reportArgumentType]
        scene = SCENE.replace(steps=2, regions=(CAT,))
        before = drawn(scene, load(folder))
        changed = scene if "lora" in options else scene.replace(regions=(CAT.replace(lora="ink"),))
        check_equal(changed, made, plain)
        check_equal(scene, made, plain)
        assert counter.frame_count > 0
        assert not torch.allclose(drawn(changed, made), before, atol=1e-3)


@pytest.mark.parametrize("fields", [{"hires": {"scale": 2, "strength": 0.7}}, {"layout_guidance": 0.01}], ids=str)
def test_dilated_layers_and_gradients(tmp_path: Path, fields: dict[str, Any], counter: CompileCounter) -> None:
    folder = write_checkpoint(tmp_path / "sd")
    made, plain = load(folder, compile="default"), load(folder)
    scene = SCENE.replace(method="bounded", regions=(CAT, CAR), steps=4, **fields)
    check_equal(scene, made, plain)
    assert counter.frame_count > 0
    assert not torch.equal(drawn(scene, made), drawn(scene.replace(hires=None, layout_guidance=0), made))


def test_control_residuals(tmp_path: Path, counter: CompileCounter) -> None:
    folder = write_checkpoint(tmp_path / "sd", unet=SD1)
    beside(folder, 5).save_pretrained(tmp_path / "canny")
    adapters = {"canny": tmp_path / "canny"}
    made, plain = load(folder, adapters=adapters, compile="default"), load(folder, adapters=adapters)
    controlled = CAT.replace(control={"kind": "canny", "image": photo(side=128)})
    check_equal(SCENE.replace(regions=(controlled,)), made, plain)
    assert counter.frame_count > 0
    assert not torch.allclose(
        drawn(SCENE.replace(regions=(controlled,)), made), drawn(SCENE.replace(regions=(CAT,)), made)
    )


def test_explain_and_the_report_name_it(tmp_path: Path, counter: CompileCounter) -> None:
    folder = write_checkpoint(tmp_path / "sd")
    made, plain = load(folder, compile="default"), load(folder)
    assert any("compiled" in note for note in explain(SCENE, made).notes)
    assert not any("compiled" in note for note in explain(SCENE, plain).notes)
    assert (made.record()["compile"], "compile" in plain.record()) == ("default", False)
    assert counter.frame_count == 0


def test_what_cannot_be_compiled_is_refused(tmp_path: Path, counter: CompileCounter) -> None:
    folder = write_checkpoint(tmp_path / "sd")
    with pytest.raises(CapabilityError, match="offload"):
        load(folder, compile="default", offload=True)
    cpu = torch.device("cpu")
    with pytest.raises(CapabilityError, match="no blocks"):
        compile_blocks(nn.Sequential(nn.Linear(2, 2)), "default", cpu)
    with pytest.raises(CapabilityError, match='not on "mps"'):
        compile_blocks(load(folder).net.modules[0], "default", torch.device("mps"))
    network = load(NETWORKS["zimage"].write(tmp_path / "zimage")).net.modules[0]
    stored: Any = nn.Module()
    stored.__class__ = QuantizedLinear
    replace_layer(network, "layers.0.attention.to_q", stored)
    with pytest.raises(CapabilityError, match="quantised"):
        compile_blocks(network, "default", cpu)
    assert counter.frame_count == 0


def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "sd")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert missing_compiler("cpu") == ("a compiler of C++ (no-such-compiler)",)
    with pytest.raises(CapabilityError, match="no-such-compiler"):
        load(folder, compile="default")


@on_networks()
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
@pytest.mark.skipif(bool(missing_compiler("cpu")), reason="this machine has no compiler")
def test_machine_code_is_stored_and_equal(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    scene, plain = SCENE.replace(regions=(CAT, DOG)), load(folder)
    for stored in (False, True):
        torch._dynamo.reset()
        counters.clear()
        check_equal(scene, load(folder, compile="default"), plain, tolerance=1e-4)
        found = counters["inductor"]
        assert (found["fxgraph_cache_miss"] == 0) == stored
        assert (found["fxgraph_cache_hit"] > 0) or not stored
