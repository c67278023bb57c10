"""FLUX.2 klein: what its folders hold, what is refused by name, its text, and its regions against an explicit mask."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import Flux2AttnProcessor, Flux2ParallelSelfAttnProcessor
from flux2 import rewrite, write_flux2
from joint_bias import Token, explicit_bias, shares_of
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.core.plan import Conditioning
from cloisonne.core.predict import predict
from cloisonne.errors import CapabilityError, CheckpointError, SceneError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.load import load
from cloisonne.models.mmdit.flux2 import text_positions
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.text.qwen import LENGTH
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.conditions.control import Control
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat")
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0)
SIDE, GRID = 128, (8, 8)
"""Pixels, and image tokens."""
SCENE = Scene(caption="on the beach", seed=3, steps=4, guidance=1.0, width=SIDE, height=SIDE, regions=(CAT,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux2(tmp_path_factory.mktemp("klein"))


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


def test_usual_values_are_those_of_distilled_and_base(model: Model, copy: Path) -> None:
    rewrite(copy / "model_index.json", is_distilled=False)
    base = load(copy)
    assert (model.native.steps, model.native.guidance) == (4, 1.0)
    assert (base.native.steps, base.native.guidance) == (50, 4.0)
    assert (model.native.width, model.native.method, model.native.sampler) == (1024, "isolated", "euler")
    assert (model.vae.channels, model.vae.factor, model.spec.latent_channels) == (128, 16, 128)
    assert isinstance(model.net, Denoiser)
    assert isinstance(model.text, TextEncoder)


def test_layers_that_nothing_reads_are_left_out(model: Model) -> None:
    (module,) = model.text.modules
    assert len(getattr(module, "layers")) == 28  # noqa: B009


def test_the_chat_template_belongs_to_the_files(model: Model) -> None:
    assert "chat_template.jinja" in {file.name for file in model.files}


def fewer_layers(folder: Path) -> None:
    rewrite(folder / "text_encoder" / "config.json", num_hidden_layers=20, layer_types=["full_attention"] * 20)


def without_template(folder: Path) -> None:
    (folder / "tokenizer" / "chat_template.jinja").unlink()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: rewrite(f / "model_index.json", _class_name="Flux2Pipeline"), "Flux2Pipeline"),
        (lambda f: rewrite(f / "model_index.json", vae=["diffusers", "AutoencoderKL"]), "AutoencoderKL as its vae"),
        (lambda f: rewrite(f / "transformer" / "config.json", guidance=3), "guidance 3"),
        (lambda f: rewrite(f / "text_encoder" / "config.json", model_type="qwen2"), 'model_type "qwen2"'),
        (fewer_layers, "20 layers"),
        (lambda f: rewrite(f / "tokenizer" / "tokenizer_config.json", padding_side="left"), "pads on the left"),
        (without_template, "no chat template"),
        (lambda f: (f / "tokenizer" / "chat_template.jinja").write_text("hello"), "does not hold the user's text"),
        (lambda f: (f / "tokenizer" / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: rewrite(f / "vae" / "config.json", patch_size=[1, 4]), r"patch_size \[1, 4\]"),
    ],
    ids=["dev", "vae", "unknown", "qwen2", "layers", "padding", "no template", "template", "tokenizer", "patch"],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(copy: Path, change: Callable[[Path], None], expected: str) -> None:
    template = copy / "tokenizer" / "chat_template.jinja"
    text = template.read_text()
    template.unlink()
    template.write_text(text)
    change(copy)
    with pytest.raises(CheckpointError, match=expected):
        load(copy)


@pytest.mark.parametrize("member", ["transformer", "text_encoder"])
def test_libraries_of_quantisation_are_refused_by_name(copy: Path, member: str) -> None:
    rewrite(copy / member / "config.json", quantization_config={"quant_method": "quanto"})
    with pytest.raises(CheckpointError, match=r"quanto has quantised.*transformer=FILE"):
        load(copy)


def test_guidance_as_an_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"FLUX\.2 dev"):
        load(write_flux2(tmp_path, transformer={"guidance_embeds": True}))


@pytest.mark.parametrize("options", [{"exemplar": "x"}, {"fuser": "x"}])
def test_add_ons_of_stable_diffusion_are_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError, match="diffusion transformer"):
        load(folder, **options)


@pytest.mark.parametrize(
    ("scene", "advice"),
    [
        *((SCENE.replace(method=method), "choose the method isolated") for method in ("attention", "reco")),
        (SCENE.replace(regions=(CAT.replace(lora=(Lora(name="ink"),)),)), "load it"),
        (SCENE.replace(regions=(CAT.replace(control=Control(kind="canny", image="edges.png")),)), "another family"),
    ],
    ids=["attention", "reco", "lora", "control"],
)
def test_conditions_that_it_does_not_support_are_refused(model: Model, scene: Scene, advice: str) -> None:
    with pytest.raises(CapabilityError, match=rf'^Region "pet": .*\(FLUX.2 klein\).*{advice}'):
        explain(scene, model)


def test_an_explanation_counts_the_run(model: Model) -> None:
    explained, report = explain(SCENE, model), generate(SCENE, model, output_type="latent").report
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"]) == (4, 4)
    assert explained.flops > 0


def test_operations_are_those_of_a_forward(model: Model, folder: Path) -> None:
    network: Any = Flux2Transformer2DModel.from_pretrained(folder / "transformer")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(
            hidden_states=torch.randn(1, 32, 128),
            encoder_hidden_states=torch.randn(1, 20, 48),
            timestep=torch.ones(1),
            txt_ids=text_positions([20]),
            img_ids=image_positions((4, 8), 4),
        )
    assert model.net.cost((4, 8), 20).flops == counter.get_total_flops()


def test_weights_of_words_change_their_tokens_alone(model: Model) -> None:
    plain, weighted = (model.text.encode(pieces(text)) for text in ("a red car", "a (red:1.5) car"))
    changed = (plain.tokens != weighted.tokens).any(1).nonzero().flatten().tolist()
    ((start, stop),) = weighted.word_spans[1]
    assert changed == list(range(start, stop))
    assert len(plain.tokens) == LENGTH
    template = model.text.encode(()).used
    assert template is not None
    assert plain.used == model.text.count("a red car") + template
    assert model.text.capacity == LENGTH - template


def test_a_text_that_is_too_long_is_refused_by_region(model: Model) -> None:
    fits = "cat" + " cat" * (model.text.capacity - model.text.count("cat"))
    assert model.text.encode(pieces(fits)).used == LENGTH
    with pytest.raises(SceneError, match=rf'^Region "pet": .* at most {model.text.capacity}'):
        explain(SCENE.replace(regions=(CAT.replace(phrase=fits + " cat"),)), model)


def test_phrases_leave_out_their_padding(model: Model) -> None:
    (view,) = prepare(SCENE, model).plan.views
    branch: Any = view.branches["cond"]
    assert [len(text.value) for text in branch.tokens] == [LENGTH, model.text.encode(pieces("a cat")).used]


GREY = np.zeros((SIDE, SIDE))
GREY[:, : SIDE // 2] = 0.5
SOFT = Region(name="soft", mask=GREY, phrase="a red car")
LAYOUTS = {"one": [CAT], "overlapping": [CAT, CAR], "weight below 1": [CAT.replace(weight=0.25)], "grey mask": [SOFT]}


class Masked(Flux2AttnProcessor):
    """diffusers' own attention of double blocks, with a mask."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:3], self.mask[None, None], *args[4:], **given)


class MaskedSingle(Flux2ParallelSelfAttnProcessor):
    """The same of single blocks."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def __call__(self, *args: Any, **given: Any) -> Any:
        return super().__call__(*args[:2], self.mask[None, None], *args[3:], **given)


@pytest.mark.parametrize("at", [0, 3], ids=["isolated step", "last step"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_isolated_is_an_explicit_mask(folder: Path, model: Model, name: str, at: int) -> None:
    run = prepare(SCENE.replace(regions=LAYOUTS[name]), model)
    step, z = run.steps[at], torch.randn(1, 128, *GRID)
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    regions = [next(own for own in LAYOUTS[name] if own.name == text.region) for text in conditioning.tokens[1:]]
    texts = [model.text.encode(pieces("on the beach")).tokens]
    texts += [model.text.encode(pieces(region.phrase)).without_padding for region in regions]
    kinds = [Token("caption")] * LENGTH
    for k, text in enumerate(texts[1:]):
        kinds += [Token("phrase", k)] * len(text)
    kinds += [Token("pixel", p) for p in range(64)]
    bias = explicit_bias(kinds, shares_of(regions, 8), isolated=at == 0)
    network: Any = Flux2Transformer2DModel.from_pretrained(folder / "transformer")
    network.set_attn_processor(
        {own: MaskedSingle(bias) if "single" in own else Masked(bias) for own in network.attn_processors}
    )
    with torch.no_grad():
        flow = network(
            hidden_states=packed(z, 1),
            encoder_hidden_states=torch.cat(texts)[None],
            timestep=torch.tensor([step.s]),
            txt_ids=torch.cat([torch.cartesian_prod(*[torch.arange(n) for n in (1, 1, 1, len(t))]) for t in texts]),
            img_ids=torch.cartesian_prod(*[torch.arange(n) for n in (1, *GRID, 1)]),
            return_dict=False,
        )[0]
    expected = z - step.s * unpacked(flow, GRID, 1)
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-5)
