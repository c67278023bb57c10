"""Loading FLUX.1: what its folders hold, what is refused by name, its text, and the seam of its denoiser."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from flux import LENGTH, write_flux
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.core.attention.joint_blocks import JointOptions
from cloisonne.errors import CapabilityError, CheckpointError, SceneError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.conditions.control import Control
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
SCENE = Scene(caption="on the beach", seed=3, steps=2, width=128, height=64, regions=(CAT,))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flux(tmp_path_factory.mktemp("flux"))


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


def rewrite(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text()) | changes
    file.unlink()
    file.write_text(json.dumps(values))


def test_usual_values_are_those_of_dev_and_schnell(model: Model, tmp_path: Path) -> None:
    schnell = load(write_flux(tmp_path, embedded=False))
    assert (model.native.steps, model.native.guidance) == (28, 3.5)
    assert (schnell.native.steps, schnell.native.guidance) == (4, 1.0)
    assert (model.native.width, model.native.method, model.native.sampler) == (1024, "isolated", "euler")
    assert (model.spec.micro, schnell.spec.micro) == (("guidance",), ())
    assert isinstance(model.net, Denoiser)
    assert isinstance(model.text, TextEncoder)


def test_shards_and_halves_are_read(folder: Path, copy: Path) -> None:
    from diffusers import FluxTransformer2DModel

    network: Any = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    network.to(torch.bfloat16).save_pretrained(copy / "transformer", max_shard_size="50KB", variant="bf16")
    assert len(list((copy / "transformer").glob("*.safetensors"))) > 1
    found = load(copy, dtype="bfloat16")
    assert found.dtype == torch.bfloat16
    assert any('variant "bf16" of transformer' in note for note in found.notes)
    assert generate(SCENE, found).latents.isfinite().all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: rewrite(f / "model_index.json", _class_name="FluxControlPipeline"), "FluxControlPipeline"),
        (lambda f: rewrite(f / "model_index.json", text_encoder_2=["transformers", "T5Model"]), "T5Model as its text"),
        (lambda f: rewrite(f / "transformer" / "config.json", in_channels=128, out_channels=64), "FLUX.1 Depth"),
        (lambda f: rewrite(f / "transformer" / "config.json", pooled_projection_dims=3), "pooled_projection_dims 3"),
        (lambda f: rewrite(f / "text_encoder_2" / "config.json", is_decoder=True), "is_decoder true"),
        (lambda f: rewrite(f / "scheduler" / "scheduler_config.json", sigma_power=2), "sigma_power"),
        (lambda f: rewrite(f / "scheduler" / "scheduler_config.json", use_karras_sigmas=True), "use_karras_sigmas"),
        (lambda f: (f / "tokenizer_2" / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "download it again"),
    ],
    ids=["control", "text encoder", "Depth", "unknown", "decoder", "scheduler", "sigmas", "tokenizer", "weights"],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(copy: Path, change: Callable[[Path], None], expected: str) -> None:
    from safetensors.torch import load_file, save_file

    change(copy)
    if expected == "FLUX.1 Depth":
        file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["x_embedder.weight"] = torch.zeros(32, 128)
        file.unlink()
        save_file(tensors, file)
    with pytest.raises(CheckpointError, match=expected):
        load(copy)


@pytest.mark.parametrize(
    "options",
    [{"embeddings": "x.safetensors"}, {"exemplar": "x"},
     {"tokenizer": "x"}, {"prediction": "epsilon"}],
    ids=lambda options: next(iter(options)),
)  # fmt: skip
def test_add_ons_of_stable_diffusion_are_refused(folder: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CapabilityError, match=r"diffusion transformer|takes no tokenizer"):
        load(folder, **options)


@pytest.mark.parametrize(
    ("scene", "advice"),
    [
        *((SCENE.replace(method=method), "choose the method isolated") for method in ("attention", "reco")),
        (SCENE.replace(regions=(CAT.replace(lora=(Lora(name="ink"),)),)), "load it"),
        (SCENE.replace(regions=(CAT.replace(control=Control(kind="canny", image="edges.png")),)), "load one"),
        (SCENE.replace(regions=(Region(name="pet", box=(0, 0, 0.5, 0.5), exemplar="cat.png"),)), "another family"),
    ],
    ids=["attention", "reco", "lora", "control", "exemplar"],
)
def test_conditions_that_it_does_not_support_are_refused(model: Model, scene: Scene, advice: str) -> None:
    with pytest.raises(CapabilityError, match=rf'^Region "pet": .*\(FLUX.1\).*{advice}'):
        explain(scene, model)


@pytest.mark.parametrize("option", [{"isolate": 0.5}, {"blocks": 2}], ids=["isolate", "blocks"])
def test_options_of_joint_attention_are_warned_of_on_unets(tiny: Model, option: dict[str, Any]) -> None:
    (name,) = option
    warnings = explain(SCENE.replace(method="bounded", width=64, **option), tiny).warnings
    assert [text for text in warnings if text.startswith(f"{name} changes nothing here")]


def test_isolated_is_refused_on_unets(tiny: Model) -> None:
    with pytest.raises(CapabilityError, match="choose the method bounded"):
        explain(SCENE.replace(method="isolated", width=64), tiny)


def test_a_unet_takes_no_options_of_joint_attention(tiny: Model, model: Model) -> None:
    run = prepare(SCENE.replace(method="caption", width=64), tiny)
    from cloisonne.core.collate import collate, passes
    from cloisonne.core.run import Run

    batch = passes(run.plan.views, run.steps[0], per_scene=True)[0]
    call = collate(batch, [torch.zeros(4, 8, 8)] * len(batch), run.steps[0], (), Run())
    with pytest.raises(CapabilityError, match="no joint attention"):
        tiny.net(replace(call, joint=(JointOptions(),) * len(batch)))


def test_what_needs_a_null_branch_is_warned_of(model: Model) -> None:
    region = CAT.replace(negative="dog", guidance=2.0)
    scene = SCENE.replace(negative="blue", guidance_interval=(0.0, 0.5), guidance_rescale=0.5, regions=(region,))
    result, plain = generate(scene, model), generate(SCENE, model)
    assert torch.equal(result.latents, plain.latents)
    for field in ("negative", "guidance_interval", "guidance_rescale"):
        assert any(f"The scene's {field} changes nothing" in warning for warning in result.report["warnings"])
    assert any('Region "pet": its negative and guidance' in warning for warning in result.report["warnings"])
    assert not any("changes nothing" in warning for warning in plain.report["warnings"])


def test_an_explanation_counts_the_run(model: Model) -> None:
    explained, report = explain(SCENE, model), generate(SCENE, model, output_type="latent").report
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"]) == (2, 2)
    assert explained.flops > 0


def test_operations_are_those_of_a_forward(model: Model, folder: Path) -> None:
    from diffusers import FluxTransformer2DModel

    network: Any = FluxTransformer2DModel.from_pretrained(folder / "transformer")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(
            hidden_states=torch.randn(1, 32, 64),
            encoder_hidden_states=torch.randn(1, 20, 24),
            pooled_projections=torch.randn(1, 16),
            timestep=torch.ones(1),
            guidance=torch.ones(1),
            txt_ids=torch.zeros(20, 3),
            img_ids=image_positions((4, 8), 3),
        )
    assert model.net.cost((8, 16), 20).flops == counter.get_total_flops()


def test_sites_are_the_blocks(model: Model) -> None:
    sites = model.net.sites((8, 16))
    names = [f"{kind}.{i}" for kind in ("transformer_blocks", "single_transformer_blocks") for i in range(2)]
    assert [(site.layer, site.kind, site.grid) for site in sites] == [(name, "joint", (4, 8)) for name in names]
    assert [site.depth for site in sites] == [0.0, 1 / 3, 2 / 3, 1.0]


def test_packing_is_diffusers() -> None:
    from diffusers import FluxPipeline

    z = torch.randn(2, 16, 6, 8)
    tokens = packed(z, 2)
    assert torch.equal(tokens, FluxPipeline._pack_latents(z, 2, 16, 6, 8))
    assert torch.equal(unpacked(tokens, (3, 4), 2), z)
    theirs = FluxPipeline._prepare_latent_image_ids(1, 3, 4, torch.device("cpu"), torch.float32)
    assert torch.equal(image_positions((3, 4), 3), theirs)


def test_weights_of_words_change_their_tokens_alone(model: Model) -> None:
    plain, weighted = (model.text.encode(pieces(text)) for text in ("a red car", "a (red:1.5) car"))
    changed = (plain.tokens != weighted.tokens).any(1).nonzero().flatten().tolist()
    ((start, stop),) = weighted.word_spans[1]
    assert changed == list(range(start, stop))
    assert plain.used == weighted.used == model.text.count("a red car") + 1
    assert len(plain.tokens) == LENGTH
    assert len(plain.without_padding) == plain.used


def test_a_text_that_is_too_long_is_refused_by_region(model: Model) -> None:
    with pytest.raises(SceneError, match=rf'^Region "pet": .* at most {LENGTH - 1}'):
        explain(SCENE.replace(regions=(CAT.replace(phrase="cat " * 30),)), model)


def test_phrases_leave_out_their_padding(model: Model) -> None:
    (view,) = prepare(SCENE, model).plan.views
    branch: Any = view.branches["cond"]
    assert [len(text.value) for text in branch.tokens] == [LENGTH, model.text.count("a cat") + 1]
    assert [text.region for text in branch.tokens] == [None, "pet"]
