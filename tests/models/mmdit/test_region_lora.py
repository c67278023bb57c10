"""LoRAs by region on transformers: over the whole canvas they are fused ones, and they change their region alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from joint_bias import Token, explicit_bias, shares_of
from joint_networks import NETWORKS, PIXELS, Given, Network
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cloisonne.core.attention.joint import JointLayout, Segment
from cloisonne.core.predict import predict
from cloisonne.errors import CapabilityError
from cloisonne.models.load import load
from cloisonne.models.mmdit.region_lora import acts_on_whole_image, sequence_loras
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

ALL, LEFT, RIGHT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
SCENE = Scene(caption="on the beach", seed=0, steps=2, guidance=2.0, width=128, height=128)
METHODS = pytest.mark.parametrize("method", ["isolated", "bounded"])


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network.write(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def shallow(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block, in which what an image token attends to is all that it depends on."""
    return network.shallow(tmp_path_factory.mktemp("shallow"))


@pytest.fixture(scope="module")
def file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of every linear layer and convolution."""
    return written(load(folder), tmp_path_factory.mktemp("lora") / "ink.safetensors", lambda layer: True)


@pytest.fixture(scope="module")
def model(folder: Path, file: Path) -> Model:
    return load(folder, regional_lora={"ink": file})


def written(model: Model, path: Path, wanted: Callable[[str], bool]) -> Path:
    """A random LoRA of some layers, by PEFT's names."""
    rng, tensors = torch.Generator().manual_seed(0), {}
    for name, layer in model.net.modules[0].named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d) and wanted(name):
            rows, columns, *rest = layer.weight.shape
            tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(2, columns, *rest, generator=rng) * 0.2
            tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(rows, 2, *(1 for _ in rest), generator=rng) * 0.2
    save_file(tensors, path)
    return path


def region(lora: Any, box: Any = ALL, name: str = "pet", **fields: Any) -> Region:
    return Region(name=name, box=box, phrase="a cat", lora=lora, **fields)


def drawn(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


@METHODS
def test_over_all_of_the_canvas_it_is_the_fused_one(folder: Path, file: Path, model: Model, method: Any) -> None:
    scene = SCENE.replace(method=method)
    plain = scene.replace(regions=[region(())])
    fused = drawn(plain, load(folder, lora=(file, 0.7)))
    torch.testing.assert_close(drawn(scene.replace(regions=[region({"ink": 0.7})]), model), fused, atol=1e-4, rtol=1e-4)
    whole = scene.replace(lora={"ink": 0.7}, regions=[region(())])
    torch.testing.assert_close(drawn(whole, model), fused, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(drawn(plain, model), fused, atol=1e-2)


def test_two_halves_of_one_lora_are_all_of_it(folder: Path, file: Path, model: Model) -> None:
    halves = SCENE.replace(regions=[region("ink", LEFT), region("ink", RIGHT, "car")])
    plain = halves.replace(regions=[own.replace(lora=()) for own in halves.regions])
    torch.testing.assert_close(drawn(halves, model), drawn(plain, load(folder, lora=file)), atol=1e-4, rtol=1e-4)


@METHODS
def test_scale_0_is_absent_and_a_small_scale_changes_little(model: Model, method: Any) -> None:
    scene = SCENE.replace(method=method)
    plain = drawn(scene.replace(regions=[region((), LEFT)]), model)
    found = {scale: drawn(scene.replace(regions=[region({"ink": scale}, LEFT)]), model) for scale in (0, 1e-6, 1)}
    assert torch.equal(found[0], plain)
    torch.testing.assert_close(found[1e-6], plain, atol=1e-3, rtol=0)
    assert not torch.allclose(found[1], plain, atol=1e-2)


@pytest.mark.parametrize("changes", [{"weight": 0.3}, {"stop": 0.5}, {"feather": 0.3}], ids=str)
def test_options_of_the_region_are_those_of_its_lora(model: Model, changes: dict[str, Any]) -> None:
    """Compared with the same options without the LoRA."""
    own = [region(lora, LEFT, **options) for options in ({}, changes) for lora in ((), "ink")]
    plain, inked, other, other_inked = (drawn(SCENE.replace(regions=[one]), model) for one in own)
    assert not torch.equal(other, other_inked)
    assert not torch.allclose(other_inked - other, inked - plain, atol=1e-4)


def test_inside_it_is_the_fused_network_and_outside_the_plain_one(shallow: Path, tmp_path: Path) -> None:
    """Of layers that read image tokens, while regions of the image attend only to themselves."""
    plain = load(shallow)
    net: Any = plain.net
    on_image = written(
        plain,
        tmp_path / "ink.safetensors",
        lambda layer: net.tokens_of(layer) == "image" and not acts_on_whole_image(layer),
    )
    scene = SCENE.replace(isolate=1.0, guidance=1.0, regions=[region("ink", LEFT)])
    found = predicted(scene, load(shallow, regional_lora={"ink": on_image}))
    without = scene.replace(regions=[region((), LEFT)])
    fused, usual = predicted(without, load(shallow, lora=on_image)), predicted(without, plain)
    half = found.shape[-1] // 2
    torch.testing.assert_close(found[..., :half], fused[..., :half], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[..., half:], usual[..., half:], atol=1e-6, rtol=0)
    assert not torch.allclose(fused, usual, atol=1e-3)


@pytest.mark.parametrize("at", [0, 1], ids=["isolated step", "last step"])
@torch.no_grad()
def test_by_region_it_is_an_explicit_change_of_each_token(
    network: Network, folder: Path, tmp_path: Path, at: int
) -> None:
    """diffusers' network with a mask, whose layers add the change times what is written out for each token.

    Regions overlap, one without the LoRA; of Z-Image, the layers of the joint sequence.
    """
    plain = load(folder)
    net: Any = plain.net
    joint = tuple(f"{name}." for name in net.block_names())
    wanted = joint if "image first" in net.order and network.multiple > 1 else ("",)
    file = written(plain, tmp_path / "ink.safetensors", lambda layer: layer.startswith(wanted))
    pet = Region(name="pet", box=(0, 0, 0.5, 0.75), phrase="a cat", lora={"ink": 0.7})
    car = Region(name="car", box=(0.25, 0.5, 1, 1), phrase="a red car", weight=2.0)
    run = prepare(SCENE.replace(regions=(pet, car), guidance=1.0), load(folder, regional_lora={"ink": file}))
    step = run.steps[at]
    z = torch.randn(1, plain.spec.latent_channels, *[128 // plain.spec.vae_factor] * 2)
    conditioning: Any = run.plan.views[0].branches["cond"]
    regions = [pet if text.region == "pet" else car for text in conditioning.tokens[1:]]
    shares = shares_of(regions, 8)
    amount = 0.7 * shares[regions.index(pet)]
    texts = [plain.text.encode(pieces("on the beach")).tokens]
    texts += [plain.text.encode(pieces(own.phrase)).without_padding for own in regions]
    assert amount.min() == 0  # so that the caption and what acts on the whole image stay as they are
    means = [(share * amount).sum() / share.sum() for share in shares]
    padding = -len(texts[0]) % network.multiple
    caption = torch.zeros(len(texts[0]) + padding)
    words = torch.cat([caption, *(mean.repeat(len(own)) for mean, own in zip(means, texts[1:], strict=True))])
    assert len({len(words), len(amount), len(words) + len(amount)}) == 3
    by_count = {len(words): words, len(amount): amount}
    by_count[len(words) + len(amount)] = torch.cat([words, amount] if network.text_first else [amount, words])
    tokens = [Token("caption")] * len(caption)
    tokens += [Token("phrase", k) for k, own in enumerate(texts[1:]) for _ in own]
    image = [Token("pixel", p) for p in range(PIXELS)]
    bias = explicit_bias([*tokens, *image] if network.text_first else [*image, *tokens], shares, isolated=at == 0)
    changes = load_file(file)

    def changed(theirs: nn.Module) -> None:
        for name in {key.removeprefix("transformer.").rpartition(".lora_")[0] for key in changes}:
            down, up = (changes[f"transformer.{name}.lora_{part}.weight"] for part in "AB")
            theirs.get_submodule(name).register_forward_hook(explicit(down, up, by_count))

    pooled = conditioning.pooled
    expected = network.x0(folder, Given(z, step.s, texts, pooled, [bias] * network.blocks, changed))
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-4)
    other = network.x0(folder, Given(z, step.s, texts, pooled, [bias] * network.blocks))
    assert (expected - other).abs().max() > 1e-2


def explicit(down: Tensor, up: Tensor, by_count: dict[int, Tensor]) -> Callable[..., Tensor]:
    """A hook that adds ``amount * up(down(x))``, the amount by the number of tokens; 0 for what has no tokens."""

    def add(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        if isinstance(layer, nn.Conv2d):
            change = nn.functional.conv2d(nn.functional.conv2d(inputs[0], down, stride=layer.stride), up)
            return output + by_count[PIXELS].view(1, 1, *output.shape[-2:]) * change
        if output.ndim == 2:
            return output
        return output + by_count[output.shape[1]][:, None] * (inputs[0] @ down.T @ up.T)

    return add


def predicted(scene: Scene, model: Model) -> Tensor:
    z = torch.randn(model.spec.latent_channels, *[128 // model.spec.vae_factor] * 2, generator=torch.Generator())
    run = prepare(scene, model)
    return predict(run.plan, z[None], run.steps[0])


@pytest.mark.parametrize("lora", ["ink", ()], ids=["with", "without"])
def test_what_acts_on_the_whole_image_is_warned_of(model: Model, lora: Any) -> None:
    scenes = {box: SCENE.replace(regions=[region(lora, box)]) for box in (LEFT, ALL)}
    warned = {
        box: [text for text in explain(scene, model).warnings if "whole image" in text] for box, scene in scenes.items()
    }
    assert [len(found) for found in warned.values()] == [int(lora == "ink"), 0]
    assert all(text.startswith('Region "pet": ') and '"ink"' in text for text in warned[LEFT])


def test_a_lora_that_is_not_loaded_is_refused(model: Model) -> None:
    with pytest.raises(CapabilityError, match=r'^Region "pet": .*has no LoRA "oil"'):
        explain(SCENE.replace(regions=[region("oil", LEFT)]), model)


def test_tokens_are_changed_as_the_image_tokens_that_attend_to_them() -> None:
    weight = torch.tensor([1.0, 1.0, 0.5, 0.0])
    layout = JointLayout((Segment(0, 2), Segment(2, 4, weight)), (4, 8))
    cases = {
        "left": (torch.tensor([0.8, 0.8, 0.4, 0.0]), 0.0, (0.8 + 0.8 + 0.2) / 2.5),
        "everywhere": (torch.full((4,), 0.5), 0.5, 0.5),
        "below 0": (torch.tensor([-0.5, -0.25, -0.25, -0.5]), -0.25, -0.875 / 2.5),
        "mixed": (torch.tensor([-0.5, 0.5, 0.0, 0.0]), 0.0, 0.0),
    }
    found = sequence_loras({name: pixels for name, (pixels, _, _) in cases.items()}, layout, (0, 4))
    for name, (pixels, caption, phrase) in cases.items():
        expected = torch.tensor([caption] * 2 + [phrase] * 2)
        torch.testing.assert_close(found.at(name, "text"), expected)
        assert torch.equal(found.at(name, "image"), pixels)
        torch.testing.assert_close(found.at(name, "all"), torch.cat([expected, pixels]))
        assert float(found.everywhere[name]) == caption
