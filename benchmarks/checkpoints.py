"""Times published network shapes against diffusers' pipelines, in one run.

    python benchmarks/checkpoints.py
    python benchmarks/checkpoints.py --device cuda
    python benchmarks/checkpoints.py --device cuda --mode compiled

A CPU runs float32, 256 x 256 pixels, 2 steps; a GPU bfloat16, native size, 20
steps. Mode compiled compiles the UNet, graph also captures a CUDA graph.

Both generate latents from the same initial latents and prompt, with guidance
and without the autoencoder. They alternate; each row is its best round, with
the difference of the latents. With --regions K, cloisonne also generates a
scene of K disjoint regions (method attention), which diffusers has no
counterpart for. Weights are random; only their shape matters.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cloisonne.eval.report import Column, Report, Table
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.assemble import Placement, assemble
from cloisonne.models.checkpoints.parts import Parts, TextPart
from cloisonne.models.families import family_of
from cloisonne.models.model import Model
from cloisonne.models.options import CompileMode
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {
        "down_block_types": (DOWN, DOWN, DOWN, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", UP, UP, UP),
        "block_out_channels": (320, 640, 1280, 1280),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 64,
    },
    "sdxl": {
        "down_block_types": ("DownBlock2D", DOWN, DOWN),
        "up_block_types": (UP, UP, "UpBlock2D"),
        "block_out_channels": (320, 640, 1280),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "sample_size": 128,
    },
    "tiny": {
        "down_block_types": (DOWN, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", UP),
        "block_out_channels": (32, 64),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "sample_size": 16,
    },
}
"""UNets by their config; "tiny" only checks that the benchmark runs."""

PROMPT = "a cat in the snow"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One row: seconds of the best round, also relative to diffusers'. difference: of the latents, relative (L2)."""

    shape: str
    side: str
    steps: int
    pixels: int
    seconds: float
    ratio: float
    difference: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=UNETS, default=["sd15", "sdxl"], help="(default: sd15 sdxl)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument(
        "--mode", choices=["eager", "compiled", "graph"], default="eager", help="execution of the UNet (default: eager)"
    )
    parser.add_argument("--pixels", type=int, help="side of the image (default: 256 on a CPU, else the native size)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: 2 on a CPU, else 20)")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each row (default: 5)")
    parser.add_argument("--regions", type=int, nargs="*", default=[8], help="numbers of regions (default: 8)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("checkpoints.json"), help="JSON file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = [row for shape in options.shapes for row in measure(shape, options)]
    chip = torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {options.threads} threads"
    caption = f"{chip}, {options.mode}, torch {torch.__version__}"
    options.out.write_text(Report((table_of(rows, caption),)).json())
    print(f"The table is in {options.out}")


def table_of(results: list[Result], caption: str) -> Table:
    """One row per shape and side."""
    titles = ("steps", "pixels", "seconds", "of diffusers'", "relative difference of latents")
    columns = (Column("shape", "text"), Column("side", "text"), *(Column(title, "number") for title in titles))
    rows = []
    for r in results:
        difference = "" if r.difference is None else f"{r.difference:.1e}"
        cells = (str(r.steps), str(r.pixels), f"{r.seconds:.2f}", f"{r.ratio:.3f}", difference)
        rows.append((r.shape, r.side, *cells))
    return Table(name="latents", caption=caption, columns=columns, rows=tuple(rows))


@torch.no_grad()
def measure(shape: str, options: argparse.Namespace) -> list[Result]:
    """Measure one shape; its rows alternate."""
    cpu = options.device == "cpu"
    pixels = options.pixels or (256 if cpu else 8 * UNETS[shape]["sample_size"])
    steps = options.steps or (2 if cpu else 20)
    parts = random_parts(shape, torch.float32 if cpu else torch.bfloat16, options.device)
    theirs = dict(parts.network.attn_processors)
    model = model_of(parts, options.device)
    ours = dict(parts.network.attn_processors)
    pipeline = pipeline_of(parts).to(options.device)
    latents = torch.randn(1, 4, pixels // 8, pixels // 8, generator=torch.Generator().manual_seed(0))
    latents = latents.to(options.device)

    def run_diffusers() -> Tensor:
        size = {"height": pixels, "width": pixels, "num_inference_steps": steps, "guidance_scale": 5.0}
        given = latents.to(pipeline.unet.dtype)
        return pipeline(PROMPT, negative_prompt="dog", latents=given, output_type="latent", **size).images

    def scene_of(count: int) -> Callable[[], Tensor]:
        given = {"width": pixels, "height": pixels, "steps": steps, "guidance": 5.0, "sampler": "ddim"}
        prompts = {"caption": PROMPT, "negative": "dog", "method": "attention"}
        scene = Scene(seed=0, regions=strips(count), **given, **prompts)
        return lambda: generate(scene, model, latents=latents, output_type="latent").latents

    sides: dict[str, tuple[dict[str, Any], Callable[[], Tensor]]] = {"diffusers": (theirs, run_diffusers)}
    for count in (0, *options.regions):
        sides[f"cloisonne, {count} regions" if count else "cloisonne"] = (ours, scene_of(count))
    seconds, outputs = take_turns(parts.network, sides, options)
    expected = outputs["diffusers"].float()
    rows = []
    for side, output in outputs.items():
        difference = ((output.float() - expected).norm() / expected.norm()).item() if side == "cloisonne" else None
        ratio = seconds[side] / seconds["diffusers"]
        rows.append(
            Result(
                shape=shape,
                side=side,
                steps=steps,
                pixels=pixels,
                seconds=seconds[side],
                ratio=ratio,
                difference=difference,
            )
        )
        printed = "" if difference is None else f"{difference:10.1e}"
        print(f"{shape:6}{side:24}{pixels:6} px{steps:4} steps{seconds[side]:10.3f} s{ratio:8.3f}{printed}")
    return rows


def take_turns(
    unet: UNet2DConditionModel,
    sides: dict[str, tuple[dict[str, Any], Callable[[], Tensor]]],
    options: argparse.Namespace,
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Best time and last output of each side. The sides share one UNet; each sets its own attention processors."""
    compiled = {"compiled": "default", "graph": "reduce-overhead"}.get(options.mode)
    forwards: dict[str, Any] = {}
    plain = unet.forward
    seconds, outputs = dict.fromkeys(sides, float("inf")), dict[str, Tensor]()
    for turn in range(options.rounds + 1):
        for side, (processors, run) in sides.items():
            unet.set_attn_processor(dict(processors))
            if compiled:
                forwards.setdefault(side, torch.compile(plain, mode=compiled))
                unet.forward = forwards[side]
            begin = time.perf_counter()
            outputs[side] = run()
            if options.device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn > 0:
                seconds[side] = min(seconds[side], time.perf_counter() - begin)
    return seconds, outputs


def strips(count: int) -> list[Region]:
    """Disjoint regions that fill the canvas."""
    return [
        Region(name=f"r{k}", box=(k / count, 0.0, (k + 1) / count, 1.0), phrase=f"a cat and {k} dogs")
        for k in range(count)
    ]


def random_parts(shape: str, dtype: torch.dtype, device: str) -> Parts:
    torch.manual_seed(0)
    tokenizer: Any = CLIPTokenizer.from_pretrained(BUILTIN / "tokenizer")
    xl = shape == "sdxl"
    with torch.device(device):
        unet = UNet2DConditionModel(**UNETS[shape]).to(dtype).eval()
        # Unused: both sides stop at latents.
        vae = AutoencoderKL(
            block_out_channels=(32,) * 4,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            scaling_factor=0.18215,
        ).to(dtype)
        texts = [text_part(tokenizer, CLIPTextModel, 768, 12, 12)]
        if xl:
            texts.append(text_part(tokenizer, CLIPTextModelWithProjection, 1280, 32, 20))
    for text in texts:
        text.module.to(dtype).eval()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return Parts(
        family=family_of(unet.config),
        network=unet,
        vae=vae,
        texts=tuple(texts),
        scheduler=dict(scheduler.config),
        zeros_for_empty=xl,
    )


def text_part(tokenizer: Any, kind: Any, width: int, layers: int, heads: int) -> TextPart:
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return TextPart(kind(config), tokenizer)


def model_of(parts: Parts, device: str, compile: CompileMode | None = None) -> Model:
    placement = Placement(torch.device(device), parts.network.dtype, compile=compile)
    return assemble(parts, name="random", placement=placement)


def pipeline_of(parts: Parts) -> Any:
    scheduler = DDIMScheduler.from_config(parts.scheduler)
    shared = {"vae": parts.vae, "unet": parts.network, "scheduler": scheduler}
    first = {"text_encoder": parts.texts[0].module, "tokenizer": parts.texts[0].tokenizer}
    if len(parts.texts) > 1:
        second = {"text_encoder_2": parts.texts[1].module, "tokenizer_2": parts.texts[1].tokenizer}
        pipeline: Any = StableDiffusionXLPipeline(**shared, **first, **second, add_watermarker=False)
    else:
        none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**shared, **first, **none)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


if __name__ == "__main__":
    main()
