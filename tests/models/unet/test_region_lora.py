"""LoRAs by region: over the whole canvas they equal fused ones, and outside their masks they have no effect."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import kohya_file, lora_weights, peft_file
from PIL import Image
from safetensors.torch import save_file
from tiny import write_exemplar
from torch import Tensor

from cloisonne.core.plan import Plan
from cloisonne.core.predict import predict
from cloisonne.core.region_lora import BatchLoras, RegionLora, split
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError, CheckpointError, SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.token_spans import read_words
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

ALL = (0.0, 0.0, 1.0, 1.0)
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
SCENE = Scene(caption="", seed=0, steps=3, sampler="ddim", guidance=3.0, method="attention", width=64, height=64)
EVERYTHING = (
    *("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"),
    *("conv1", "conv2", "conv_shortcut", "time_emb_proj", "conv", "conv_in", "conv_out"),
)
"""Of the UNet: attention, feed-forward, projections, convolutions, and the embedding of time."""
LATENTS = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def regional(lora: Any, box: Any = ALL, name: str = "pet", **fields: Any) -> Region:
    return Region(name=name, box=box, phrase="a red cat", lora=lora, **fields)


def drawn(scene: Scene, model: Model) -> Tensor:
    latents = generate(scene, model, latents=LATENTS.clone(), output_type="latent").latents
    assert latents is not None
    return latents


def lora(folder: Path, path: Path, seed: int = 0, form: str = "peft", layers: tuple[str, ...] = EVERYTHING) -> Path:
    made = lora_weights(folder, seed, layers=layers, text=False)
    return peft_file(path, made) if form == "peft" else kohya_file(path, made, alpha=1.0)


@pytest.mark.parametrize(
    ("form", "method"),
    [("peft", "attention"), ("peft", "bounded"), ("peft", "multidiffusion"), ("peft", "words"), ("kohya", "attention")],
)
@pytest.mark.parametrize("base", ["tiny_family", "tiny_sd", "tiny_xl"])
def test_over_all_of_the_canvas_it_is_the_fused_one(
    base: str, form: str, method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(base)
    # Its UNet is of the same shapes, and its folder of the form that diffusers reads without a warning.
    like: Path = request.getfixturevalue("tiny_sd") if base == "tiny_family" else folder
    file = lora(like, tmp_path / "x.safetensors", form=form)
    scene = SCENE.replace(method=method)
    ours = drawn(scene.replace(regions=[regional({"ink": 0.7})]), load(folder, regional_lora={"ink": file}))
    plain = scene.replace(regions=[regional(())])
    torch.testing.assert_close(ours, drawn(plain, load(folder, lora=(file, 0.7))), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, drawn(plain, load(folder)), atol=1e-2)


def test_two_halves_of_one_lora_are_all_of_it(tiny_sd: Path, tmp_path: Path) -> None:
    file = lora(tiny_sd, tmp_path / "x.safetensors")
    model = load(tiny_sd, regional_lora={"ink": file, "oil": lora(tiny_sd, tmp_path / "y.safetensors", 1)})
    halves = SCENE.replace(regions=[regional("ink", LEFT), regional("ink", RIGHT, "car")])
    fused = load(tiny_sd, lora=file)
    torch.testing.assert_close(
        drawn(halves, model),
        drawn(halves.replace(regions=[r.replace(lora=()) for r in halves.regions]), fused),
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("method", ["attention", "bounded"])
def test_the_order_of_regions_does_not_matter(tiny_sd: Path, tmp_path: Path, method: str) -> None:
    files = {name: lora(tiny_sd, tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("ink", "oil"))}
    model = load(tiny_sd, regional_lora=files)
    regions = [regional("ink", LEFT), regional({"oil": 0.5, "ink": 0.2}, (0.25, 0, 1, 1), "car")]
    scene = SCENE.replace(method=method)
    one = drawn(scene.replace(regions=regions), model)
    assert torch.equal(one, drawn(scene.replace(regions=regions[::-1]), model))
    exchanged = [regional("oil", LEFT), regional("ink", RIGHT, "car")]
    assert not torch.allclose(one, drawn(scene.replace(regions=exchanged), model), atol=1e-2)


@pytest.mark.parametrize("fields", [{"lora": {"ink": 0.0}}, {"lora": ()}, {"lora": "ink", "weight": 0.0}])
def test_loras_without_effect_are_absent(tiny_sd: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    model = load(tiny_sd, regional_lora={"ink": lora(tiny_sd, tmp_path / "x.safetensors")})
    regions = [Region(name="pet", box=LEFT, phrase="a red cat", **fields)]
    plain = [region.replace(lora=()) for region in regions]
    assert torch.equal(drawn(SCENE.replace(regions=regions), model), drawn(SCENE.replace(regions=plain), load(tiny_sd)))


def test_it_applies_in_its_interval(tiny_sd: Path, tmp_path: Path) -> None:
    model = load(tiny_sd, regional_lora={"ink": lora(tiny_sd, tmp_path / "x.safetensors")})
    whole = drawn(SCENE.replace(regions=[regional("ink")]), model)
    part = drawn(SCENE.replace(regions=[regional("ink", stop=0.5)]), model)
    none = drawn(SCENE.replace(regions=[regional((), stop=0.5)]), model)
    assert not torch.allclose(part, whole, atol=1e-3)
    assert not torch.allclose(part, none, atol=1e-3)


@pytest.mark.parametrize("layer", ["conv_in", "down_blocks.0.resnets.0.norm2"])
def test_outside_of_its_region_a_layer_is_what_it_was(tiny_sd: Path, tmp_path: Path, layer: str) -> None:
    file = lora(tiny_sd, tmp_path / "x.safetensors", layers=("conv_in",) if layer == "conv_in" else ("time_emb_proj",))
    model = load(tiny_sd, regional_lora={"ink": file})
    read: list[Tensor] = []
    module = model.net.unet.get_submodule(layer)
    if layer == "conv_in":
        module.register_forward_hook(lambda module, inputs, output: read.append(output))
    else:
        module.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    for loras in ((), {"ink": 1.0}):
        drawn(SCENE.replace(steps=1, regions=[regional(loras, LEFT), regional((), RIGHT, "car")]), model)
    plain, changed = read
    assert torch.equal(plain[..., 4:], changed[..., 4:])
    assert not torch.allclose(plain[..., :4], changed[..., :4], atol=1e-3)


def test_text_of_another_region_is_attended_to_without_it(tiny_sd: Path, tmp_path: Path) -> None:
    """Keys and values alone: the layers before the first attention are equal, and so is what it gives elsewhere."""
    file = lora(tiny_sd, tmp_path / "x.safetensors", layers=("attn2.to_k", "attn2.to_v"))
    model = load(tiny_sd, regional_lora={"ink": file})
    read: list[Tensor] = []
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
    model.net.unet.get_submodule(name).register_forward_hook(lambda module, inputs, output: read.append(output))
    for loras in ((), {"ink": 1.0}):
        drawn(SCENE.replace(steps=1, regions=[regional(loras, LEFT), regional((), RIGHT, "car")]), model)
    plain, changed = (tokens.unflatten(1, (4, 4)) for tokens in read)
    torch.testing.assert_close(plain[:, :, 2:], changed[:, :, 2:], atol=1e-6, rtol=0)
    assert not torch.allclose(plain[:, :, :2], changed[:, :, :2], atol=1e-3)


def test_rows_of_one_batch_have_their_own(tiny_sd: Path, tmp_path: Path) -> None:
    files = {name: lora(tiny_sd, tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate(("ink", "oil"))}
    model = load(tiny_sd, regional_lora=files)
    regions = [regional("ink", LEFT), regional({"oil": 0.5}), regional(())]
    prepared = [prepare(SCENE.replace(regions=[region]), model) for region in regions]
    views = [replace(one.compiled.plan.views[0], stream=name) for one, name in zip(prepared, "abc", strict=True)]
    z, step, run = torch.randn(3, 4, 8, 8), prepared[0].steps[0], Run()
    together = predict(Plan(views=tuple(views)), z, step, run)
    assert (run.forwards, run.rows) == (1, 6)
    for view, own, canvas in zip(views, together, z, strict=True):
        alone = predict(Plan(views=(view,)), canvas[None], step)[0]
        torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-5)


def test_masks_of_a_text_add_up() -> None:
    half = torch.zeros(4, 4)
    half[:, :2] = 1
    soft = torch.rand(4, 4) * (1 - half)
    parts = split(None, [RegionLora((("ink", 1.0),), half), RegionLora((("oil", 0.5),), soft)])
    assert [loras for _, loras in parts] == [(), (("ink", 1.0),), (("oil", 0.5),)]
    torch.testing.assert_close(torch.stack([mask for mask, _ in parts if mask is not None]).sum(0), torch.ones(4, 4))
    assert split(half, [RegionLora((("ink", 1.0),), half)])[0][1] == (("ink", 1.0),)
    assert split(half, []) == [(half, ())]
    amounts = BatchLoras([[RegionLora((("ink", 0.5),), half)], []], half)
    assert torch.equal(
        amounts.amount("ink", (2, 2)), torch.tensor([[[0.5, 0.0], [0.5, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    )


def test_a_model_without_use_of_them_is_the_plain_one(tiny_sd: Path, tmp_path: Path) -> None:
    file = lora(tiny_sd, tmp_path / "x.safetensors")
    model, plain = load(tiny_sd, regional_lora={"ink": file}), load(tiny_sd)
    assert torch.equal(drawn(SCENE.replace(caption="a cat"), model), drawn(SCENE.replace(caption="a cat"), plain))
    assert model.net.unet.state_dict().keys() == plain.net.unet.state_dict().keys()
    assert model.parameters > plain.parameters
    other = lora(tiny_sd, tmp_path / "y.safetensors", seed=1)
    hashes = {load(tiny_sd, regional_lora=given).hash for given in ({"ink": file}, {"ink": other}, {"oil": file})}
    assert len(hashes | {plain.hash}) == 4


def test_text_encoders_are_unchanged_and_a_warning_names_them(tiny_sd: Path, tmp_path: Path) -> None:
    file = peft_file(tmp_path / "x.safetensors", lora_weights(tiny_sd))
    model = load(tiny_sd, regional_lora={"ink": file})
    assert "made for the text encoder" in explain(SCENE.replace(regions=[regional("ink")]), model).warnings[0]
    words = {"text_encoder": lora_weights(tiny_sd)["text_encoder"]}
    with pytest.raises(CheckpointError, match="fits no layer of the network"):
        load(tiny_sd, regional_lora={"ink": peft_file(tmp_path / "y.safetensors", words)})


def test_refusals_name_the_region_and_what_to_do(tiny_sd: Path, tmp_path: Path) -> None:
    model = load(tiny_sd, regional_lora={"ink": lora(tiny_sd, tmp_path / "x.safetensors")})
    message = (
        r'^Region "pet": .* no LoRA "oil" for regions \(it has "ink"\); load it: load\(.*regional_lora={"oil": FILE}'
    )
    with pytest.raises(CapabilityError, match=message):
        explain(SCENE.replace(regions=[regional("oil")]), model)
    with pytest.raises(CapabilityError, match=r"\(it has none\)"):
        explain(SCENE.replace(regions=[regional("ink")]), load(tiny_sd))
    with pytest.raises(SceneError, match=r'^Region "pet": .*attention cannot be read'):
        read_words(SCENE.replace(regions=[regional("ink")]), model)


def test_a_region_of_paint_by_example_alone_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    painter, file = write_exemplar(tmp_path / "pbe"), lora(tiny_sd, tmp_path / "x.safetensors")
    with pytest.raises(CapabilityError, match="takes no LoRAs"):
        load(painter, regional_lora={"ink": file})
    with pytest.raises(CapabilityError, match="takes no LoRAs; load a text model with them"):
        load(painter, lora=file)
    with pytest.raises(CapabilityError, match="takes no embeddings"):
        load(painter, embeddings=file)
    model, picture = load(tiny_sd, regional_lora={"ink": file}, exemplar=painter), Image.new("RGB", (32, 32), "red")
    alone = Region(name="pet", box=LEFT, exemplar=picture, lora="ink")
    with pytest.raises(SceneError, match=r'^Region "pet": lora is .*ink.*, but cannot count here: Paint by Example'):
        explain(SCENE.replace(regions=[alone]), model)
    explained = explain(SCENE.replace(regions=[alone.replace(phrase="a cat")]), model)
    assert "LoRA ink at 1 on 50%" in explained.plan


def test_files_that_cannot_apply_by_region_are_refused(tiny_sd: Path, tiny_xl: Path, tmp_path: Path) -> None:
    late = lora(tiny_sd, tmp_path / "late.safetensors", layers=("time_embedding.linear_1",))
    xl = peft_file(tmp_path / "xl.safetensors", lora_weights(tiny_xl))
    other = tmp_path / "other.safetensors"
    save_file({"a.weight": torch.zeros(1)}, other)
    for file, message in (
        (late, "acts on the whole image at once"),
        (xl, "does not fit the model, which is of the family sd1"),
        (other, "is no LoRA"),
        (tmp_path / "none.safetensors", "There is no LoRA"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(tiny_sd, regional_lora={"ink": file})
