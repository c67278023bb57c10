"""Loading Stable Diffusion 3 and 3.5: what their folders hold, what is refused by name, their text, their denoiser."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sd3 import CLIP_LENGTH, KINDS, MOST, T5_LENGTH, write_sd3
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.errors import CapabilityError, CheckpointError, SceneError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
SCENE = Scene(caption="on the beach", seed=3, steps=2, width=128, height=64, regions=(CAT,))
MEDIUM = "3.5 medium"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: write_sd3(tmp_path_factory.mktemp("sd3"), kind) for kind in KINDS}
    return made | {"without T5": write_sd3(tmp_path_factory.mktemp("sd3"), MEDIUM, t5=False)}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    """The folder of 3.5 Medium, of which a test may replace files."""
    target = tmp_path / "copy"
    for file in (file for file in folders[MEDIUM].rglob("*") if file.is_file()):
        (target / file.relative_to(folders[MEDIUM])).parent.mkdir(parents=True, exist_ok=True)
        (target / file.relative_to(folders[MEDIUM])).hardlink_to(file)
    return target


def rewrite(file: Path, **changes: Any) -> None:
    values = json.loads(file.read_text()) | changes
    file.unlink()
    file.write_text(json.dumps(values))


def moved(folder: Path) -> None:
    (folder / "text_encoder_3").rename(folder / "elsewhere")


def test_usual_values_are_those_of_the_model_cards(models: dict[str, Model]) -> None:
    values = {kind: (model.native.steps, model.native.guidance) for kind, model in models.items()}
    assert values == {"3": (28, 7.0), "3.5 medium": (40, 4.5), "3.5 large": (28, 3.5), "without T5": (40, 4.5)}
    assert {(model.native.sampler, model.native.method) for model in models.values()} == {("euler", "isolated")}
    assert isinstance(models["3"].net, Denoiser)
    assert isinstance(models["3"].text, TextEncoder)


def test_turbo_is_known_by_its_name(tmp_path: Path) -> None:
    model = load(write_sd3(tmp_path / "stable-diffusion-3.5-large-turbo", "3.5 large"))
    values = (model.native.steps, model.native.guidance, model.native.sampler, model.native.spacing)
    assert values == (4, 1.0, "euler", "default")
    assert any("distilled for a few steps (Turbo)" in note for note in model.notes)
    small = Scene(caption="a cat", seed=0, width=64, height=64)
    assert generate(small, model).report["rows"] == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: rewrite(f / "model_index.json", _class_name="StableDiffusion3ControlNetPipeline"), "ControlNetPip"),
        (lambda f: rewrite(f / "model_index.json", text_encoder=["transformers", "CLIPTextModel"]), "CLIPTextModel as"),
        (lambda f: rewrite(f / "transformer" / "config.json", in_channels=33), "fine-tuned for inpainting"),
        (lambda f: rewrite(f / "transformer" / "config.json", pooled_projection_dims=3), "pooled_projection_dims 3"),
        (lambda f: rewrite(f / "scheduler" / "scheduler_config.json", use_karras_sigmas=True), "use_karras_sigmas"),
        (moved, "use the model without T5"),
        (lambda f: (f / "text_encoder_2" / "model.safetensors").unlink(), "download it again"),
    ],
    ids=["pipeline", "text encoder", "inpainting", "unknown", "sigmas", "T5", "weights"],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name(copy: Path, change: Callable[[Path], None], expected: str) -> None:
    from safetensors.torch import load_file, save_file

    change(copy)
    if "inpainting" in expected:
        file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
        tensors = load_file(file)
        tensors["pos_embed.proj.weight"] = torch.zeros(32, 33, 2, 2)
        file.unlink()
        save_file(tensors, file)
    with pytest.raises(CheckpointError, match=expected):
        load(copy)


def test_without_t5_the_index_says_so(copy: Path, models: dict[str, Model]) -> None:
    moved(copy)
    rewrite(copy / "model_index.json", text_encoder_3=[None, None], tokenizer_3=[None, None])
    found = load(copy)
    assert any("no T5" in note for note in found.notes)
    assert found.text.capacity == models["without T5"].text.capacity == CLIP_LENGTH - 2
    assert not any("no T5" in note for note in models[MEDIUM].notes)


def test_an_image_larger_than_its_positions_is_refused(models: dict[str, Model]) -> None:
    side = MOST * 16
    explain(SCENE.replace(width=side), models[MEDIUM])
    for run in (explain, generate):
        with pytest.raises(SceneError, match=f"{side + 16} x 64 pixels, .* at most {side}"):
            run(SCENE.replace(width=side + 16), models[MEDIUM])


@pytest.mark.parametrize("method", ["attention", "reco"])
def test_methods_of_unets_are_refused(models: dict[str, Model], method: str) -> None:
    with pytest.raises(CapabilityError, match=r'^Region "pet": .*\(Stable Diffusion 3\).*choose the method isolated'):
        explain(SCENE.replace(method=method), models["3"])


@pytest.mark.parametrize("kind", KINDS)
def test_operations_are_those_of_a_forward(folders: dict[str, Path], models: dict[str, Model], kind: str) -> None:
    from diffusers import SD3Transformer2DModel

    network: Any = SD3Transformer2DModel.from_pretrained(folders[kind] / "transformer")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network(
            hidden_states=torch.randn(1, 16, 8, 16),
            encoder_hidden_states=torch.randn(1, 20, 48),
            pooled_projections=torch.randn(1, 36),
            timestep=torch.ones(1),
        )
    assert models[kind].net.cost((8, 16), 20).flops == counter.get_total_flops()


def test_sites_are_the_blocks(models: dict[str, Model]) -> None:
    sites = models[MEDIUM].net.sites((8, 16))
    assert [(site.layer, site.kind, site.grid) for site in sites] == [
        (f"transformer_blocks.{i}", "joint", (4, 8)) for i in range(3)
    ]


@pytest.mark.parametrize("kind", [MEDIUM, "without T5"])
def test_weights_of_words_change_their_tokens_alone(models: dict[str, Model], kind: str) -> None:
    """[CLIP's text, T5's text, padding]: one token of each is "red"."""
    text = models[kind].text
    plain, weighted = (text.encode(pieces(written)) for written in ("a red car", "a (red:1.5) car"))
    changed = (plain.tokens != weighted.tokens).any(1).nonzero().flatten().tolist()
    assert changed == [2] if kind == "without T5" else [2, 5 + 1]
    assert [place for start, stop in weighted.word_spans[1] for place in range(start, stop)] == changed
    assert plain.used == weighted.used == (5 if kind == "without T5" else 5 + 4)
    assert len(plain.tokens) == text.length == CLIP_LENGTH + T5_LENGTH
    assert plain.pooled is not None
    assert plain.pooled.shape == (36,)


def test_texts_are_encoded_once(models: dict[str, Model]) -> None:
    calls = []
    text = models[MEDIUM].text
    hook: Any = text.modules[2].register_forward_hook(lambda *_: calls.append(1))
    first, second = (text.encode(pieces("a small blue dog")) for _ in range(2))
    hook.remove()
    assert len(calls) == 1
    assert torch.equal(first.tokens, second.tokens)


@pytest.mark.parametrize("kind", [MEDIUM, "without T5"])
def test_a_text_that_is_too_long_is_refused_by_region(models: dict[str, Model], kind: str) -> None:
    most = T5_LENGTH - 1 if kind == MEDIUM else CLIP_LENGTH - 2
    fitting = SCENE.replace(regions=(CAT.replace(phrase="cat " * most),))
    explain(fitting, models[kind])
    with pytest.raises(SceneError, match=rf'^Region "pet": .* at most {most}'):
        explain(SCENE.replace(regions=(CAT.replace(phrase="cat " * (most + 1)),)), models[kind])


def test_phrases_leave_out_their_padding(models: dict[str, Model]) -> None:
    for kind, used in ((MEDIUM, 4 + 3), ("without T5", 4)):
        branch: Any = prepare(SCENE, models[kind]).plan.views[0].branches["cond"]
        assert [len(text.value) for text in branch.tokens] == [CLIP_LENGTH + T5_LENGTH, used]


def test_halves_are_finite(copy: Path) -> None:
    found = load(copy, dtype="bfloat16")
    assert found.dtype == torch.bfloat16
    assert generate(SCENE, found).latents.isfinite().all()
