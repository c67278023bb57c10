"""Loading a checkpoint: seconds and peak memory, next to diffusers' own loader, in fresh processes.

    python benchmarks/loading.py
    python benchmarks/loading.py --shape flux
    python benchmarks/loading.py --shape tiny

Writes a checkpoint of random weights, in half precision, into a temporary folder. Both sides load it in half precision
and read every weight once; they alternate, with the files in the page cache. Seconds are of the CPU, after imports.
The memory is the process's peak of resident memory less what it held after its imports. Rows are medians. The
autoencoder is one that half precision suffices for; cloisonne loads any other in float32. The shape flux is FLUX.1 of a
third of its width and a quarter of its blocks, in bfloat16, with a T5 of 8 layers.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

SIDES = ("diffusers", "cloisonne")
MEASURED = ("cpu_seconds", "seconds", "peak_mib")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shape", choices=["sd15", "flux", "tiny"], default="sd15", help="of the checkpoint (default: sd15)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (default: 3)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side is not None:
        print(json.dumps(measured(options.shape, options.side, options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(options.shape, Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors")) / 2**20
        print(f"{options.shape}: {size:.0f} MiB of weights")
        found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
        for _ in range(options.rounds):
            for side in SIDES:
                found[side].append(in_a_process(options.shape, side, folder))
    for name in MEASURED:
        theirs, own = (median(one[name] for one in found[side]) for side in SIDES)
        print(f"{name:12} diffusers {theirs:9.2f}   cloisonne {own:9.2f}   ratio {own / theirs:.3f}")


def in_a_process(shape: str, side: str, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--shape", shape, "--side", side, "--folder", folder]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measured(shape: str, side: str, folder: Path) -> dict[str, float]:
    """Load the checkpoint in this process and read every weight."""
    import torch
    from diffusers import FluxPipeline, StableDiffusionPipeline

    from cloisonne.models.load import load

    flux = shape == "flux"
    if flux:
        # Both libraries import these when they are asked for.
        from diffusers import AutoencoderKL, FluxTransformer2DModel  # noqa: F401
        from transformers import CLIPTextModel, T5EncoderModel, T5Tokenizer  # noqa: F401
    held = memory("VmRSS")
    began, cpu = time.perf_counter(), time.process_time()
    if side == "diffusers" and flux:
        pipeline: Any = FluxPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16)
        modules = (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2)
    elif side == "diffusers":
        pipeline = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float16, safety_checker=None)
        modules = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    else:
        model: Any = load(folder, dtype="bfloat16" if flux else "float16")
        modules = (*model.net.modules, model.vae.module, *model.text.modules)
    read(parameter for module in modules for parameter in module.parameters())
    values = (time.process_time() - cpu, time.perf_counter() - began, memory("VmHWM") - held)
    return dict(zip(MEASURED, values, strict=True))


def read(tensors: Iterable[Any]) -> None:
    """Read every page of the tensors."""
    import torch

    for tensor in tensors:
        tensor.detach().flatten().view(torch.int16)[::1024].sum()


def memory(field: str) -> float:
    """MiB of this process: "VmRSS" is its resident memory, "VmHWM" the peak of that. ``ru_maxrss`` is its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def write(shape: str, folder: Path) -> None:
    """A diffusers folder of random weights in half precision."""
    if shape == "flux":
        write_flux(folder)
        return
    import torch
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from checkpoints import random_parts

    parts = random_parts(shape, torch.float16, "cpu")
    if shape != "tiny":
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            latent_channels=4,
            scaling_factor=0.18215,
            force_upcast=False,
        )
        parts = replace(parts, vae=vae.to(torch.float16))
    parts.save(folder)
    index = json.loads((folder / "model_index.json").read_text())
    for absent in ("feature_extractor", "safety_checker"):
        index[absent] = [None, None]
    (folder / "model_index.json").write_text(json.dumps(index))


def write_flux(folder: Path) -> None:
    """A folder of FLUX.1 with random weights in bfloat16."""
    import torch
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    from checkpoints import text_part
    from cloisonne.models.builtin import BUILTIN

    clip: Any = CLIPTokenizer.from_pretrained(BUILTIN / "tokenizer")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"\u2581{letter}", -2.0) for letter in "abcdefgh")]
    t5 = T5Config(
        vocab_size=32128,
        d_model=1024,
        d_kv=64,
        d_ff=2816,
        num_layers=8,
        num_heads=16,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    transformer = FluxTransformer2DModel(
        num_layers=5,
        num_single_layers=10,
        num_attention_heads=8,
        joint_attention_dim=1024,
        pooled_projection_dim=768,
        guidance_embeds=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=vae.to(torch.bfloat16),
        text_encoder=text_part(clip, CLIPTextModel, 768, 12, 12).module.to(torch.bfloat16),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(t5).to(torch.bfloat16),
        tokenizer_2=T5TokenizerFast(vocab=pieces, extra_ids=0, additional_special_tokens=None, model_max_length=512),
        transformer=transformer.to(torch.bfloat16),
    )
    pipeline.save_pretrained(folder)


if __name__ == "__main__":
    main()
