"""Exemplars of full regions equal diffusers' pipelines with an IP-Adapter; masked ones apply inside their masks."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from pictured import SD_LIKE, SIDE, published, tower
from PIL import Image
from safetensors.torch import save_file
from tiny import write_checkpoint, write_xl
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.convert import convert
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FULL, LEFT, RIGHT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
FILES = {
    ("sd", "plain"): "models/ip-adapter_sd15.safetensors",
    ("sd", "plus"): "models/ip-adapter-plus_sd15.safetensors",
    ("sd", "full"): "models/ip-adapter-full-face_sd15.safetensors",
    ("xl", "plain"): "sdxl_models/ip-adapter_sdxl.safetensors",
    ("xl", "plus"): "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors",
}
"""As h94/IP-Adapter has them; the last one was trained on the image encoder of ``models``."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ip")
    write_checkpoint(folder / "sd", unet=SD_LIKE)
    write_xl(folder / "xl")
    towers = {"models": tower(32), "sdxl_models": tower(48)}
    for name, vision in towers.items():
        vision.save_pretrained(folder / name / "image_encoder")
    for (base, kind), file in FILES.items():
        vision = towers["sdxl_models" if (base, kind) == ("xl", "plain") else "models"]
        save_file(published(folder / base, kind, vision), folder / file)
    return folder


@pytest.fixture(scope="module")
def model(root: Path) -> Model:
    return load(root / "sd", exemplar=root / FILES["sd", "plain"])


def picture(seed: int, size: tuple[int, int] = (50, 40)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))


def scene_of(*regions: Region, **changes: Any) -> Scene:
    fields = {"caption": "a red cat", "negative": "dog", "guidance": 4.0, "method": "attention", "sampler": "ddim"}
    return Scene(**fields | {"seed": 0, "steps": 20, "regions": regions} | changes)


def region(name: str = "pet", seed: int = 1, strength: float = 1.0, **changes: Any) -> Region:
    exemplar = {"image": picture(seed), "strength": strength}
    return Region(**{"name": name, "box": FULL, "exemplar": exemplar} | changes)


def drawn(model: Model, scene: Scene, **options: Any) -> Tensor:
    return generate(scene, model, output_type="latent", **options).latents


def theirs(root: Path, base: str, kind: str, latents: Tensor, images: Any, scale: Any, masks: Any = None) -> Tensor:
    from transformers import CLIPImageProcessorPil, CLIPVisionModelWithProjection

    name = "StableDiffusionXLPipeline" if base == "xl" else "StableDiffusionPipeline"
    none = {} if base == "xl" else {"safety_checker": None, "requires_safety_checker": False}
    folder = root / ("sdxl_models" if (base, kind) == ("xl", "plain") else "models") / "image_encoder"
    pipeline: Any = getattr(diffusers, name).from_pretrained(
        root / base,
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(folder),
        feature_extractor=CLIPImageProcessorPil(size=SIDE, crop_size=SIDE),
        low_cpu_mem_usage=False,
        **none,
    )
    pipeline.set_progress_bar_config(disable=True)
    path = Path(FILES[base, kind])
    pipeline.load_ip_adapter(str(root), subfolder=str(path.parent), weight_name=path.name, low_cpu_mem_usage=False)
    pipeline.set_ip_adapter_scale(scale)
    return pipeline(
        "a red cat",
        negative_prompt="dog",
        ip_adapter_image=images,
        cross_attention_kwargs=None if masks is None else {"ip_adapter_masks": masks},
        num_inference_steps=20,
        guidance_scale=4.0,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
    ).images


@pytest.mark.parametrize(("base", "kind"), FILES)
def test_full_region_is_diffusers_pipeline(root: Path, base: str, kind: str) -> None:
    latents = torch.randn(1, 4, 8, 8)
    expected = theirs(root, base, kind, latents, picture(1), 0.7)
    found = load(root / base, exemplar=root / FILES[base, kind])
    result = generate(scene_of(region(strength=0.7)), found, latents=latents)
    torch.testing.assert_close(result.latents, expected, atol=1e-4, rtol=0)
    assert (result.report["forwards"], result.report["rows"]) == (20, 40)
    plain = drawn(load(root / base), scene_of(), latents=latents)
    assert not torch.allclose(plain, expected, atol=0.05)


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_two_exemplars_with_hard_masks(root: Path, kind: str) -> None:
    latents, masks = torch.randn(1, 4, 8, 8), torch.zeros(1, 2, 64, 64)
    masks[:, 0, :, :32] = masks[:, 1, :, 32:] = 1
    images = [[picture(1), picture(2)]]
    expected = theirs(root, "sd", kind, latents, images, [[0.7, 0.4]], [masks])
    halves = [region("a", 1, 0.7, box=LEFT), region("b", 2, 0.4, box=RIGHT)]
    found = load(root / "sd", exemplar=root / FILES["sd", kind])
    torch.testing.assert_close(drawn(found, scene_of(*halves), latents=latents), expected, atol=1e-4, rtol=0)


def test_phrase_and_exemplar_both_condition_and_similarity_is_guidance(root: Path, model: Model) -> None:
    latents = torch.randn(1, 4, 8, 8)
    expected = theirs(root, "sd", "plain", latents, picture(1), 1.0)
    both = region(phrase="a red cat", similarity=4.0)
    ours = drawn(model, scene_of(both, caption="", guidance=2.0), latents=latents)
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    alone = drawn(model, scene_of(region(similarity=4.0), guidance=2.0), latents=latents)
    torch.testing.assert_close(alone, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (90, 37), (28, 28), (20, 23)])
def test_images_are_prepared_as_published(model: Model, size: tuple[int, int]) -> None:
    from transformers import CLIPImageProcessorPil

    assert model.ip_adapter is not None
    processor: Any = CLIPImageProcessorPil(size=SIDE, crop_size=SIDE)
    expected = processor(picture(0, size), return_tensors="pt").pixel_values
    torch.testing.assert_close(model.ip_adapter.preprocess(picture(0, size)), expected, atol=1e-5, rtol=0)


def test_an_adapter_without_images_has_no_effect(root: Path, model: Model) -> None:
    plain = drawn(load(root / "sd"), scene_of(steps=4))
    assert torch.equal(drawn(model, scene_of(steps=4)), plain)
    for absent in (region(strength=0.0, box=LEFT), region(weight=0.0), region(start=0.5, stop=0.5)):
        assert torch.equal(drawn(model, scene_of(absent, steps=4)), plain)


@pytest.mark.parametrize("method", ["attention", "multidiffusion", "words", "caption"])
def test_order_of_regions_is_irrelevant(model: Model, method: str) -> None:
    regions = [
        region("a", 1, 0.7, box=LEFT, feather=0.3, similarity=6.0),
        region("b", 2, 0.4, box=(0.3, 0.2, 0.9, 0.8), phrase="a dog", guidance=3.0),
        region("c", 3, ellipse=FULL, box=None, stop=0.6),
    ]
    first = drawn(model, scene_of(*regions, steps=4, method=method))
    assert first.isfinite().all()
    assert torch.equal(drawn(model, scene_of(*regions[::-1], steps=4, method=method)), first)


def test_each_view_of_multidiffusion_attends_to_them_too(root: Path, model: Model) -> None:
    """A full region with phrase and exemplar is one view, as attention has it."""
    scenes = [scene_of(region(phrase="a dog"), caption="", steps=4, method=m) for m in ("attention", "multidiffusion")]
    first, second = (drawn(model, scene) for scene in scenes)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=0)
    assert not torch.allclose(first, drawn(load(root / "sd"), scene_of(caption="a dog", steps=4)), atol=0.05)


def test_keys_and_values_are_computed_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from cloisonne.core.attention.image_prompts import ImagePrompts

    layers: list[str] = []
    plain = ImagePrompts.projected

    def projected(self: ImagePrompts, layer: str, project: Any) -> Any:
        def counted(tokens: Tensor) -> Any:
            layers.append(layer)
            return project(tokens)

        return plain(self, layer, counted)

    monkeypatch.setattr(ImagePrompts, "projected", projected)
    drawn(model, scene_of(region("a", box=LEFT), region("b", 2, box=RIGHT), steps=5))
    assert len(layers) == len(set(layers)) == len(model.net.image_prompts)


def test_a_background_is_preserved_outside(model: Model) -> None:
    background = Image.new("RGB", (160, 120), "green")
    result = generate(scene_of(region(box=(0.1, 0.1, 0.5, 0.6)), background=background, steps=2), model)
    assert result.report["identical_outside"] is True


def test_explained_and_counted(root: Path, model: Model) -> None:
    for kind in ("plain", "plus", "full"):
        seer = load(root / "sd", exemplar=root / FILES["sd", kind])
        assert seer.ip_adapter is not None
        tokens = len(seer.ip_adapter.null)
        assert f"{tokens} image tokens on 50%" in str(explain(scene_of(region(box=LEFT)), seer))
    plain = load(root / "sd")
    assert model.parameters > plain.parameters
    assert model.hash != plain.hash


def test_converted_from_its_pickle(root: Path, tmp_path: Path, model: Model) -> None:
    from safetensors.torch import load_file

    own = load_file(root / FILES["sd", "plain"])
    parts: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in own.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    torch.save(parts, tmp_path / "ip.bin")  # noqa: TID251 what is to be refused
    with pytest.raises(CheckpointError, match=r'ip\.bin" is a pickle, .* "cloisonne convert .*ip\.safetensors"'):
        load(root / "sd", exemplar=tmp_path / "ip.bin")
    file = convert(tmp_path / "ip.bin", tmp_path / "ip.safetensors")
    again = load(root / "sd", exemplar=file, image_encoder=root / "models" / "image_encoder")
    assert torch.equal(drawn(again, scene_of(region(), steps=2)), drawn(model, scene_of(region(), steps=2)))


def bad(root: Path, tmp_path: Path, **changes: Tensor | None) -> Path:
    """The plain adapter of Stable Diffusion 1.x with tensors changed or left out, without an image encoder."""
    from safetensors.torch import load_file

    tensors = load_file(root / FILES["sd", "plain"]) | {k.replace("__", "."): v for k, v in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_what_is_not_used_is_warned_of(root: Path, tmp_path: Path, model: Model) -> None:
    file = bad(root, tmp_path, ip_adapter__1__twist__weight=torch.zeros(2), style__weight=torch.zeros(2))
    (warning,) = load(root / "sd", exemplar=file, image_encoder=root / "models" / "image_encoder").warnings
    assert f'Of the IP-Adapter "{file}", 2 of ' in warning
    assert '"ip_adapter.1.twist.weight", "style.weight".' in warning
    assert model.warnings == ()


def test_what_cannot_be_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^There is no IP-Adapter .*none\.safetensors"):
        load(root / "sd", exemplar=tmp_path / "none.safetensors")
    with pytest.raises(
        CheckpointError, match=r"is for another model family .* has 6 layers and the network 4 of cross-attention"
    ):
        load(root / "sd", exemplar=root / FILES["xl", "plain"])
    with pytest.raises(CheckpointError, match=r"another model family .* ip_adapter.1.to_k_ip.weight is \[8, 3\]"):
        load(root / "sd", exemplar=bad(root, tmp_path, ip_adapter__1__to_k_ip__weight=torch.zeros(8, 3)))
    with pytest.raises(CheckpointError, match=r'lacks the tensor "ip_adapter.3.to_v_ip.weight"'):
        load(root / "sd", exemplar=bad(root, tmp_path, ip_adapter__3__to_v_ip__weight=None))
    with pytest.raises(CheckpointError, match=r'No image encoder for .* was found in ".*image_encoder" or ".*"; put'):
        load(root / "sd", exemplar=bad(root, tmp_path))
    with pytest.raises(CheckpointError, match=r"has a projection_dim of 40 and .* reads 24"):
        load(root / "sd", exemplar=bad(root, tmp_path), image_encoder=root / "sdxl_models" / "image_encoder")
    narrow = {"image_proj__proj__weight": torch.zeros(32, 24), "image_proj__proj__bias": torch.zeros(32)}
    norms = {"image_proj__norm__weight": torch.zeros(8), "image_proj__norm__bias": torch.zeros(8)}
    with pytest.raises(CheckpointError, match=r"another model family .* tokens of width 8 and the network takes 16"):
        load(root / "sd", exemplar=bad(root, tmp_path, **narrow, **norms))
    with pytest.raises(CheckpointError, match=r"cannot be loaded|another model family"):
        load(root / "sd", exemplar=bad(root, tmp_path, image_proj__norm__bias=None))
    face = {"image_proj__proj__0__weight": torch.zeros(8, 8), "image_proj__proj__2__weight": torch.zeros(8, 8)}
    with pytest.raises(CheckpointError, match=r"is an IP-Adapter FaceID, which"):
        load(root / "sd", exemplar=bad(root, tmp_path, image_proj__proj__weight=None, **face))
    with pytest.raises(CheckpointError, match=r"is an IP-Adapter FaceID Plus, which"):
        load(
            root / "sd",
            exemplar=bad(root, tmp_path, image_proj__perceiver_resampler__proj_in__weight=torch.zeros(8, 8), **face),
        )
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"is no IP-Adapter: it lacks tensors named image_proj"):
        load(root / "sd", exemplar=tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"There is no image encoder|no config.json"):
        load(root / "sd", exemplar=bad(root, tmp_path), image_encoder=tmp_path / "nowhere")
    with pytest.raises(
        CapabilityError, match=r'^Region "pet": .*Stable Diffusion XL\) cannot do exemplar; load an IP-'
    ):
        drawn(load(root / "xl"), scene_of(region()))


def test_offloaded_it_generates_the_same_and_half_precision_works(root: Path) -> None:
    file, scene = root / FILES["sd", "plus"], scene_of(region(), steps=2)
    plain = drawn(load(root / "sd", exemplar=file), scene)
    assert torch.equal(drawn(load(root / "sd", exemplar=file, offload=True), scene), plain)
    assert drawn(load(root / "sd", exemplar=file, dtype=torch.bfloat16), scene).isfinite().all()
