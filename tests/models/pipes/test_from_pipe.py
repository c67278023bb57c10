"""A model made from a pipeline object is the model of its folder, with the pipeline's own tensors."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from flux import write_flux
from flux2 import write_flux2
from sd3 import write_sd3
from tiny import write_checkpoint, write_xl
from zimage import write_zimage

import cloisonne
from cloisonne.errors import CapabilityError
from cloisonne.models.load import from_pipe, load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FAMILIES: dict[str, tuple[str, Callable[..., Path]]] = {
    "sd1": ("StableDiffusionPipeline", write_checkpoint),
    "sd1 inpainting": ("StableDiffusionInpaintPipeline", lambda folder: write_checkpoint(folder, inpaint=True)),
    "xl": ("StableDiffusionXLPipeline", write_xl),
    "flux dev": ("FluxPipeline", write_flux),
    "flux schnell": ("FluxPipeline", lambda folder: write_flux(folder, embedded=False)),
    "sd3": ("StableDiffusion3Pipeline", write_sd3),
    "flux2": ("Flux2KleinPipeline", write_flux2),
    "zimage": ("ZImagePipeline", write_zimage),
}


def pipeline_of(folder: Path, kind: str) -> Any:
    pipeline: Any = getattr(diffusers, kind).from_pretrained(folder, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("model")) for name, (_, write) in FAMILIES.items()}


@pytest.fixture(scope="module")
def pipes(folders: dict[str, Path]) -> dict[str, Any]:
    return {name: pipeline_of(folders[name], kind) for name, (kind, _) in FAMILIES.items()}


def modules_of(model: Model) -> list[Any]:
    return [*model.net.modules, model.vae.module, *model.text.modules]


def networks_of(pipe: Any) -> dict[str, Any]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def scene(**fields: Any) -> Scene:
    regions = [Region(name="cat", box=(0.4, 0.4, 0.9, 0.9), phrase="a red cat")]
    return Scene(caption="on a beach", width=64, height=64, steps=2, seed=3, regions=regions).replace(**fields)


def pixels(model: Model, **fields: Any) -> np.ndarray:
    return np.asarray(generate(scene(**fields), model).image)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_are_those_of_the_folder(folders: dict[str, Path], pipes: dict[str, Any], family: str) -> None:
    loaded, made = load(folders[family]), from_pipe(pipes[family])
    for field in ("name", "family", "spec", "native", "clip", "scheduler", "device", "dtype"):
        assert getattr(made, field) == getattr(loaded, field), field
    np.testing.assert_array_equal(pixels(made), pixels(loaded))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tensors_are_the_pipelines(pipes: dict[str, Any], family: str) -> None:
    """Every parameter of the model is memory of the pipeline, and there is no other memory of its size."""
    theirs = {p.data_ptr() for module in networks_of(pipes[family]).values() for p in module.parameters()}
    made = from_pipe(pipes[family])
    ours = [p for module in modules_of(made) for p in module.parameters()]
    assert ours
    assert {p.data_ptr() for p in ours} <= theirs
    assert made.parameters <= sum(m.num_parameters() for m in networks_of(pipes[family]).values())


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("sd1 inpainting", "flux schnell")])
def test_the_pipeline_stays_as_it_is(folders: dict[str, Path], family: str) -> None:
    """Modules, flags, processors and tensors; in a dtype that no network would be loaded in, and with gradients."""
    pipe = pipeline_of(folders[family], FAMILIES[family][0]).to(torch.bfloat16)
    networks = networks_of(pipe)
    for module in networks.values():
        module.train().requires_grad_(True)
    before = {
        name: (
            [(key, type(own), getattr(own, "processor", None), own.training) for key, own in module.named_modules()],
            {key: (p, p.dtype, p.requires_grad, p.detach().clone()) for key, p in module.named_parameters()},
            dict(module._forward_hooks),
        )
        for name, module in networks.items()
    }
    scheduler, words = dict(pipe.scheduler.config), copy.deepcopy(pipe.tokenizer.get_vocab())
    model = from_pipe(pipe)
    assert model.dtype == torch.bfloat16
    pixels(model, steps=1)
    for name, module in networks.items():
        layers, parameters, hooks = before[name]
        now = [(key, type(own), getattr(own, "processor", None), own.training) for key, own in module.named_modules()]
        assert now == layers
        assert dict(module._forward_hooks) == hooks
        for key, parameter in module.named_parameters():
            was, dtype, grad, value = parameters[key]
            assert parameter is was
            assert (parameter.dtype, parameter.requires_grad) == (dtype, grad)
            assert torch.equal(parameter, value)
    assert dict(pipe.scheduler.config) == scheduler
    assert pipe.tokenizer.get_vocab() == words


SCHEDULERS = {
    "EulerDiscreteScheduler": {"use_karras_sigmas": True},
    "LCMScheduler": {},
    "DDPMScheduler": {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    },
}


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_scheduler_is_that_of_the_saved_pipeline(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    pipe = pipeline_of(folders["sd1"], "StableDiffusionPipeline")
    pipe.scheduler = getattr(diffusers, kind).from_config(pipe.scheduler.config, **SCHEDULERS[kind])
    pipe.save_pretrained(tmp_path / "saved")
    saved, made = load(tmp_path / "saved"), from_pipe(pipe)
    assert made.scheduler == saved.scheduler == kind
    assert (made.native, made.spec) == (saved.native, saved.spec)
    np.testing.assert_array_equal(pixels(made, sampler="euler", steps=1), pixels(saved, sampler="euler", steps=1))


PROMPT = "a zork cat"


def theirs(pipe: Any, latents: torch.Tensor) -> torch.Tensor:
    found = pipe(
        PROMPT,
        num_inference_steps=4,
        height=64,
        width=64,
        latents=latents.clone(),
        output_type="latent",
        guidance_scale=5.0,
    )
    return found.images


def add_lora(pipe: Any, scale: float) -> None:
    """A LoRA of PEFT in the network and the text encoder, with random weights."""
    from peft import LoraConfig

    torch.manual_seed(5)
    for module, targets in ((pipe.unet, ["to_q", "to_v"]), (pipe.text_encoder, ["q_proj"])):
        module.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights="gaussian"), adapter_name="ink")
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    pipe.set_adapters(["ink"], [scale])


def teach(pipe: Any) -> None:
    """A learned word of two vectors."""
    torch.manual_seed(6)
    pipe.load_textual_inversion(torch.randn(2, pipe.text_encoder.config.hidden_size), token="zork")


CARRIED: dict[str, Callable[[Any], object]] = {
    "nothing": lambda pipe: None,
    "LoRA": lambda pipe: add_lora(pipe, 0.7),
    "LoRA that is switched off": lambda pipe: (add_lora(pipe, 0.7), pipe.disable_lora()),
    "fused LoRA": lambda pipe: (add_lora(pipe, 0.7), pipe.fuse_lora()),
    "learned word": teach,
    "fused projections": lambda pipe: pipe.fuse_qkv_projections(),
    "FreeU": lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
    "sliced attention": lambda pipe: pipe.enable_attention_slicing(1),
    "weights changed in place": lambda pipe: pipe.unet.conv_in.weight.data.mul_(1.1),
}


@pytest.mark.parametrize("carried", CARRIED)
def test_what_the_pipeline_carries_is_honoured(folders: dict[str, Path], carried: str) -> None:
    """The oracle is the pipeline itself; and but for the attention's form, what is carried changes the image."""
    pipe = pipeline_of(folders["sd1"], "StableDiffusionPipeline")
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = theirs(pipe, latents)
    CARRIED[carried](pipe)
    expected = theirs(pipe, latents)
    assert torch.allclose(plain, expected, atol=1e-3) == (
        carried in ("nothing", "fused projections", "sliced attention", "LoRA that is switched off")
    )
    plain_scene = Scene(caption=PROMPT, width=64, height=64, steps=4, guidance=5, sampler="ddim", method="caption")
    found = generate(plain_scene, from_pipe(pipe), latents=latents)
    torch.testing.assert_close(found.latents, expected, atol=2e-5, rtol=1e-5)


def test_the_hash_follows_the_weights_and_what_is_carried(folders: dict[str, Path]) -> None:
    pipe = pipeline_of(folders["sd1"], "StableDiffusionPipeline")
    hashes = [from_pipe(pipe).hash, from_pipe(pipe).hash]
    assert hashes[0] == hashes[1]
    add_lora(pipe, 0.7)
    hashes.append(from_pipe(pipe).hash)
    pipe.set_adapters(["ink"], [0.3])
    hashes.append(from_pipe(pipe).hash)
    pipe.unet.conv_in.weight.data.mul_(1.1)
    hashes.append(from_pipe(pipe).hash)
    assert len(set(hashes)) == 4


class Mine(diffusers.models.attention_processor.AttnProcessor2_0):
    """A processor of a user."""


def with_processor(pipe: Any) -> None:
    pipe.unet.set_attn_processor(Mine())


def with_offload(pipe: Any) -> None:
    from accelerate import cpu_offload_with_hook

    cpu_offload_with_hook(pipe.unet, torch.device("cpu"))


def with_ip_adapter(pipe: Any) -> None:
    pipe.unet.encoder_hid_proj = torch.nn.Linear(1, 1)


REFUSED: dict[str, tuple[Callable[[Any], object], str]] = {
    "processor": (with_processor, "attention processor Mine at .*set_default_attn_processor"),
    "offload": (with_offload, "unet .* moved between devices .*remove_all_hooks"),
    "IP-Adapter": (with_ip_adapter, "IP-Adapter.*unload_ip_adapter"),
    "cache": (
        lambda pipe: diffusers.hooks.HookRegistry.check_if_exists_or_initialize(pipe.unet).register_hook(
            diffusers.hooks.ModelHook(), "first block cache"
        ),
        'hook "first block cache"',
    ),
    "no text encoder": (lambda pipe: setattr(pipe, "text_encoder", None), "no text_encoder; CLIPTextModel is needed"),
    "scheduler": (
        lambda pipe: setattr(pipe, "scheduler", diffusers.DPMSolverMultistepInverseScheduler()),
        "DPMSolverMultistepInverseScheduler",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_lost_is_refused_by_name(folders: dict[str, Path], case: str) -> None:
    pipe = pipeline_of(folders["sd1"], "StableDiffusionPipeline")
    give, message = REFUSED[case]
    give(pipe)
    with pytest.raises(cloisonne.CloisonneError, match=message):
        from_pipe(pipe)


@pytest.mark.parametrize("given", [object(), "a folder"])
def test_other_objects_are_refused(given: object) -> None:
    with pytest.raises(CapabilityError, match="not supported; supported are StableDiffusionPipeline"):
        from_pipe(given)


def test_add_ons_are_the_models_alone(folders: dict[str, Path], pipes: dict[str, Any], tmp_path: Path) -> None:
    """A control is read as for the folder; devices are the pipeline's; no other process can load the model."""
    adapter = diffusers.T2IAdapter(
        in_channels=3, channels=(8, 16), num_res_blocks=2, downscale_factor=16, adapter_type="full_adapter_xl"
    )
    adapter.save_pretrained(tmp_path / "adapter")
    model = from_pipe(pipes["sd1"])
    added = model.with_adapter("canny", tmp_path / "adapter")
    assert added.adapters.keys() == load(folders["sd1"]).with_adapter("canny", tmp_path / "adapter").adapters.keys()
    assert not model.adapters
    assert added.hash != model.hash
    assert [p.data_ptr() for m in modules_of(added) for p in m.parameters()] == [
        p.data_ptr() for m in modules_of(model) for p in m.parameters()
    ]
    with pytest.raises(CapabilityError, match="dtype is the pipeline's"):
        model.to(dtype="bfloat16")
    with pytest.raises(CapabilityError, match="made from a pipeline in this process"):
        _ = model.model_spec
