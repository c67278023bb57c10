"""The aims for a GPU, in one run of under 10 minutes.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --compile default
    python benchmarks/gpu.py --device cpu --tiny

Networks have published shapes and random weights, in bfloat16 on a GPU. Each figure is the median of several rounds
after one that warms up; where two things are compared, they alternate. With --compile networks are loaded
with ``compile=`` of that mode ("reduce-overhead" also captures CUDA graphs); --tiny rehearses the script with a small
network and proves nothing. A section that would begin after --minutes is left out and named.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

from checkpoints import PROMPT, UNETS, model_of, random_parts, strips, text_part
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.model import Model
from cloisonne.models.staged import move
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate, generate_many
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

AIMS = {
    "sd15 seconds an image": 0.110,
    "sd15 images a second, batch of 8": 15.0,
    "sdxl seconds an image": 0.70,
    "sd15 8 regions, of none": 1.03,
    "sd15 fast, of exact": 1 / 1.6,
    "sd15 8 regions at 1 step, new scene, of none": 1.25,
    "sd15 8 regions at 1 step, again, of none": 1.05,
    "sd15 edit of an image, seconds": 0.20,
    "sd15 moved in pieces, of at once": 1.0,
    "flux fast, of exact": 1 / 1.6,
}
"""What is aimed at on an H200, 20 steps with guidance unless a row says otherwise. A row of images a second is to be
above its aim, all others below."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="rehearse with a small network")
    parser.add_argument("--compile", choices=["default", "reduce-overhead"], help="mode of torch.compile")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds of each figure (default: 5)")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all")
    parser.add_argument("--minutes", type=float, default=8, help="no section begins later (default: 8)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON file to write")
    options = parser.parse_args(arguments)
    began, found, left_out = time.perf_counter(), dict[str, float](), list[str]()
    for name in options.sections:
        if time.perf_counter() - began > 60 * options.minutes:
            left_out.append(name)
            continue
        for row, value in SECTIONS[name](options).items():
            found[row] = value
            aim = AIMS.get(row)
            print(f"{row:48}{value:10.4f}" + ("" if aim is None else f"   aim {aim:.3f}"), flush=True)
    cuda = options.device.startswith("cuda")
    about = {"device": torch.cuda.get_device_name() if cuda else "CPU", "torch": torch.__version__}
    about |= {"compile": options.compile, "steps": options.steps, "tiny": options.tiny, "left_out": left_out}
    options.out.write_text(json.dumps({"about": about, "figures": found}, indent=1) + "\n")
    print(f"{time.perf_counter() - began:.0f} s; left out: {', '.join(left_out) or 'nothing'}; {options.out}")


def loaded(shape: str, options: argparse.Namespace) -> tuple[Model, int]:
    """A model of random weights, and the side of its image in pixels."""
    own = "tiny" if options.tiny else shape
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    parts = random_parts(own, dtype, options.device)
    return model_of(parts, options.device, options.compile), 8 * UNETS[own]["sample_size"]


def scene_of(side: int, options: argparse.Namespace, **fields: Any) -> Scene:
    given = {"caption": PROMPT, "negative": "dog", "seed": 0, "width": side, "height": side, "guidance": 5.0}
    return Scene(**{**given, "steps": options.steps, "sampler": "ddim", "method": "attention", **fields})


def seconds(options: argparse.Namespace, *runs: Callable[[], Any]) -> list[float]:
    """The median time of each run, on a CPU that of the CPU; they alternate."""
    cuda = options.device.startswith("cuda")
    clock = time.perf_counter if cuda else time.process_time
    spent: list[list[float]] = [[] for _ in runs]
    for turn in range(options.rounds + 1):
        for own, run in zip(spent, runs, strict=True):
            began = clock()
            run()
            if cuda:
                torch.cuda.synchronize()
            if turn > 0:
                own.append(clock() - began)
    return [median(own) for own in spent]


def images(options: argparse.Namespace) -> dict[str, float]:
    """Stable Diffusion 1.5: images, batches, regions, ``fast``, one step."""
    model, side = loaded("sd15", options)
    plain = scene_of(side, options)
    eight = plain.replace(regions=strips(8))

    def latents(scene: Scene) -> Callable[[], Any]:
        return lambda: generate(scene, model, output_type="latent")

    one, regions, fast = seconds(options, latents(plain), latents(eight), latents(plain.replace(speed="fast")))
    whole, batch = seconds(
        options,
        lambda: generate(plain, model),
        lambda: generate_many([plain.replace(seed=k) for k in range(8)], model, output_type="latent"),
    )
    return {
        "sd15 seconds an image": whole,
        "sd15 images a second, batch of 8": 8 / batch,
        "sd15 8 regions, of none": regions / one,
        "sd15 fast, of exact": fast / one,
    }


def one_step(options: argparse.Namespace) -> dict[str, float]:
    """8 regions at one step, next to none: a scene of new phrases in each round, and the same scene again.

    Without guidance, as distilled networks draw.
    """
    model, side = loaded("sd15", options)
    plain = scene_of(side, options, steps=1, guidance=1.0)
    count = iter(range(10_000))

    def new(regions: bool) -> Callable[[], Any]:
        def run() -> Any:
            number = next(count)
            phrased = [region.replace(phrase=f"{region.phrase} {number}") for region in strips(8)] if regions else []
            scene = plain.replace(caption=f"{PROMPT} {number}", regions=phrased)
            return generate(scene, model, output_type="latent")

        return run

    again = [lambda scene=scene: generate(scene, model, output_type="latent") for scene in (plain, eight_of(plain))]
    none, eight, none_again, eight_again = seconds(options, new(False), new(True), *again)
    return {
        "sd15 8 regions at 1 step, new scene, of none": eight / none,
        "sd15 8 regions at 1 step, again, of none": eight_again / none_again,
    }


def eight_of(scene: Scene) -> Scene:
    return scene.replace(regions=strips(8))


def xl(options: argparse.Namespace) -> dict[str, float]:
    """Stable Diffusion XL."""
    model, side = loaded("sdxl", options)
    (one,) = seconds(options, lambda: generate(scene_of(side, options), model))
    return {"sdxl seconds an image": one}


def edits(options: argparse.Namespace) -> dict[str, float]:
    """An edit of a given image."""
    model, side = loaded("sd15", options)
    photo = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    change: Any = {"kind": "change", "before": "a cat", "after": "a dog"}
    region = Region(name="pet", box=(0.2, 0.2, 0.8, 0.8), edit=change)
    scene = scene_of(side, options, background=photo, regions=(region,))
    (one,) = seconds(options, lambda: edit(scene, model))
    return {"sd15 edit of an image, seconds": one}


def large(options: argparse.Namespace) -> dict[str, float]:
    """``hires`` of twice the side, next to the same canvas drawn directly."""
    model, side = loaded("sd15", options)
    scenes = (scene_of(side, options, hires=2), scene_of(2 * side, options))
    hires, directly = seconds(options, *(lambda scene=scene: generate(scene, model) for scene in scenes))
    return {"sd15 hires, of drawn directly": hires / directly}


def loading(options: argparse.Namespace) -> dict[str, float]:
    """A UNet moved from the CPU's memory to the device."""
    dtype = torch.bfloat16 if options.device.startswith("cuda") else torch.float32
    network = random_parts("tiny" if options.tiny else "sd15", dtype, "cpu").network
    device = torch.device(options.device)
    pieces, once = seconds(
        options, lambda: move(copy.deepcopy(network), device), lambda: copy.deepcopy(network).to(device)
    )
    return {"sd15 moved in pieces, of at once": pieces / once}


def flux(options: argparse.Namespace) -> dict[str, float]:
    """FLUX.1 dev: images, regions, ``fast``."""
    cuda = options.device.startswith("cuda")
    model = model_of(flux_parts(options, torch.bfloat16 if cuda else torch.float32), options.device, options.compile)
    side = 128 if options.tiny else 1024
    plain = scene_of(side, options, sampler="euler", method="bounded", guidance=3.5, negative="")
    runs = (plain, plain.replace(regions=strips(8)), plain.replace(speed="fast"))
    one, regions, fast = seconds(
        options, *(lambda scene=scene: generate(scene, model, output_type="latent") for scene in runs)
    )
    return {"flux seconds an image": one, "flux 8 regions, of none": regions / one, "flux fast, of exact": fast / one}


def flux_parts(options: argparse.Namespace, dtype: torch.dtype) -> Parts:
    """FLUX.1 dev with a T5 of its width and two layers."""
    small = options.tiny
    clip: Any = CLIPTokenizer.from_pretrained(BUILTIN / "tokenizer")
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0), *((one, -2.0) for one in "abcdefgh")]
    t5: Any = T5TokenizerFast(vocab=letters, extra_ids=0, additional_special_tokens=None, model_max_length=512)
    width = 64 if small else 4096
    shape: dict[str, Any] = {"num_layers": 2, "num_single_layers": 2, "num_attention_heads": 2} if small else {}
    with torch.device(options.device):
        transformer = FluxTransformer2DModel(
            **shape, joint_attention_dim=width, pooled_projection_dim=768, guidance_embeds=True
        )
        encoder = T5EncoderModel(
            T5Config(vocab_size=len(t5), d_model=width, d_ff=2 * width, d_kv=64, num_heads=width // 64, num_layers=2)
        )
        vae = AutoencoderKL(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        first = text_part(clip, CLIPTextModel, 768, 12, 12)
    for module in (transformer, encoder, vae, first.module):
        module.to(dtype).eval()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return Parts(
        family="flux",
        network=transformer,
        vae=vae,
        texts=(first, TextPart(encoder, t5)),
        scheduler={**scheduler.config, "_class_name": "FlowMatchEulerDiscreteScheduler"},
    )


SECTIONS = {
    "images": images,
    "texts": one_step,
    "sdxl": xl,
    "edits": edits,
    "large": large,
    "loading": loading,
    "flux": flux,
}

if __name__ == "__main__":
    main()
