"""Z-Image: what its folders hold, what is refused by name, its text, and its regions against an explicit mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ZImageTransformer2DModel
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor
from flux2 import rewrite
from joint_bias import Token, explicit_bias, shares_of
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zimage import write_zimage

from cloisonne.core.plan import Conditioning
from cloisonne.core.predict import predict
from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 2 / 3), phrase="a cat")
CAR = Region(name="car", box=(1 / 3, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0)
SIDE, TOKENS, PADDING = 96, 6, 28
"""Pixels, image tokens of a side, and how many are added to make them 64."""
SCENE = Scene(caption="on the beach", seed=3, steps=4, guidance=1.0, width=SIDE, height=SIDE, regions=(CAT,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zimage(tmp_path_factory.mktemp("zimage"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """The folder, of which a test may replace files."""
    target = tmp_path / "copy"
    for file in (file for file in folder.rglob("*") if file.is_file()):
        (target / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        (target / file.relative_to(folder)).hardlink_to(file)
    return target


def test_usual_values_are_those_of_turbo_and_base(model: Model, copy: Path) -> None:
    rewrite(copy / "scheduler" / "scheduler_config.json", shift=6.0)
    base = load(copy)
    assert (model.native.steps, model.native.guidance) == (8, 1.0)
    assert (base.native.steps, base.native.guidance) == (50, 5.0)
    assert (model.native.width, model.native.method, model.native.sampler) == (1024, "isolated", "euler")
    assert isinstance(model.net, Denoiser)
    assert isinstance(model.text, TextEncoder)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: rewrite(f / "model_index.json", _class_name="ZImageOmniPipeline"), "ZImageOmniPipeline"),
        (lambda f: rewrite(f / "model_index.json", text_encoder=["transformers", "T5Model"]), "T5Model as its text"),
        (lambda f: rewrite(f / "transformer" / "config.json", dims=3), "dims 3"),
        (lambda f: rewrite(f / "transformer" / "config.json", cap_feat_dim=16.5), "cannot be loaded"),
    ],
    ids=["Omni", "text encoder", "unknown", "damaged"],
)
def test_what_is_not_supported_is_refused_by_name(copy: Path, change: Callable[[Path], None], expected: str) -> None:
    change(copy)
    with pytest.raises(CheckpointError, match=expected):
        load(copy)


def test_the_network_of_omni_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Z-Image Omni"):
        load(write_zimage(tmp_path, transformer={"siglip_feat_dim": 8}))


@pytest.mark.parametrize(
    ("scene", "advice"),
    [
        *((SCENE.replace(method=method), "choose the method isolated") for method in ("attention", "reco")),
        (SCENE.replace(regions=(CAT.replace(lora=(Lora(name="ink"),)),)), "load it"),
        (SCENE.replace(regions=(Region(name="pet", box=(0, 0, 0.5, 0.5), exemplar="cat.png"),)), "another family"),
    ],
    ids=["attention", "reco", "lora", "exemplar"],
)
def test_conditions_that_it_does_not_support_are_refused(model: Model, scene: Scene, advice: str) -> None:
    with pytest.raises(CapabilityError, match=rf'^Region "pet": .*\(Z-Image\).*{advice}'):
        explain(scene, model)


def test_an_explanation_counts_the_run(model: Model) -> None:
    explained, report = explain(SCENE, model), generate(SCENE, model, output_type="latent").report
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"]) == (4, 4)
    assert explained.flops > 0


def test_operations_are_those_of_a_forward(model: Model, folder: Path) -> None:
    network: Any = ZImageTransformer2DModel.from_pretrained(folder / "transformer")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network([torch.randn(16, 1, 8, 12)], torch.ones(1), [torch.randn(20, 16)])
    assert model.net.cost((8, 12), 20).flops == counter.get_total_flops()


def test_texts_have_no_padding_of_their_own(model: Model) -> None:
    (view,) = prepare(SCENE, model).plan.views
    branch: Any = view.branches["cond"]
    expected = [model.text.encode(pieces(text)).used for text in ("on the beach", "a cat")]
    assert [len(text.value) for text in branch.tokens] == expected


class Masked(ZSingleStreamAttnProcessor):
    """diffusers' own attention, with a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        return super().__call__(attn, hidden_states, None, self.mask[None, None], freqs_cis)


LAYOUTS = {"one": [CAT], "overlapping": [CAT, CAR], "weight below 1": [CAT.replace(weight=0.25)]}


@pytest.mark.parametrize("at", [0, 3], ids=["isolated step", "last step"])
@pytest.mark.parametrize("name", LAYOUTS)
@torch.no_grad()
def test_isolated_is_an_explicit_mask(folder: Path, model: Model, name: str, at: int) -> None:
    """In diffusers' network, whose sequence gets the refined phrases at its end."""
    run = prepare(SCENE.replace(regions=LAYOUTS[name]), model)
    step, z = run.steps[at], torch.randn(1, 16, SIDE // 8, SIDE // 8)
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    regions = [next(own for own in LAYOUTS[name] if own.name == text.region) for text in conditioning.tokens[1:]]
    caption, *phrases = (
        model.text.encode(pieces(text)).tokens for text in ("on the beach", *(r.phrase for r in regions))
    )
    num_image = TOKENS**2
    tokens = [Token("pixel", p) for p in range(num_image)] + [Token("caption")] * PADDING
    around = len(tokens)
    tokens += [Token("caption")] * (len(caption) + -len(caption) % 32)
    for k, phrase in enumerate(phrases):
        tokens += [Token("phrase", k)] * len(phrase)
    bias = explicit_bias(tokens, shares_of(regions, TOKENS), isolated=at == 0)
    network: Any = ZImageTransformer2DModel.from_pretrained(folder / "transformer")
    refined = [network.cap_embedder(phrase[None]) for phrase in phrases]
    places = [torch.cartesian_prod(torch.arange(1, len(p) + 1), torch.arange(1), torch.arange(1)) for p in phrases]
    turns = [network.rope_embedder(own)[None] for own in places]
    for layer in network.context_refiner:
        refined = [layer(text, None, own) for text, own in zip(refined, turns, strict=True)]
    for layer in network.noise_refiner:
        layer.attention.set_processor(Masked(bias[:around, :around]))
    for layer in network.layers:
        layer.attention.set_processor(Masked(bias))
    build = network._build_unified_sequence

    def with_phrases(*args: Any) -> Any:
        sequence, rotations, *_ = build(*args)
        return torch.cat([sequence, *refined], 1), torch.cat([rotations, *turns], 1), None, None

    network._build_unified_sequence = with_phrases
    output = network([z[0, :, None]], torch.tensor([1 - step.s]), [caption], return_dict=False)[0][0]
    expected = z + step.s * output[None, :, 0]
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-5)
