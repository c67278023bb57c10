"""Which memory format draws faster: a UNet's forward with channels last, of the same with contiguous tensors.

    python benchmarks/memory_format.py
    python benchmarks/memory_format.py --device cuda --dtype float16 --side 64

Both take turns; the time is the least of the rounds, of the CPU where they run there.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from cloisonne.models.builtin import BUILTIN
from cloisonne.train.builtin.resume import base_of

SD15: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the ratio for both networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="device (default: cpu)")
    parser.add_argument("--dtype", default="float32", help="dtype (default: float32)")
    parser.add_argument("--side", type=int, default=32, help="side of the latents at SD 1.5's shapes (default: 32)")
    parser.add_argument("--rounds", type=int, default=3, help="forwards of each after a warm-up (default: 3)")
    options = parser.parse_args(arguments)
    place: dict[str, Any] = {"device": options.device, "dtype": getattr(torch, options.dtype)}
    torch.manual_seed(0)
    networks = {"built-in": (base_of(BUILTIN)[1], 16), "SD 1.5's shapes": (UNet2DConditionModel(**SD15), options.side)}
    for name, (unet, side) in networks.items():
        z = torch.randn(2, unet.config["in_channels"], side, side).to(**place)
        text = torch.randn(2, 77, unet.config["cross_attention_dim"]).to(**place)
        ratio = compared(nn.Module.to(unet.eval(), **place), z, text, options.rounds)
        print(f"{name}, {side} x {side} latents, {options.dtype} on {options.device}: {ratio:.3f}")


@torch.no_grad()
def compared(unet: Any, z: Tensor, text: Tensor, rounds: int) -> float:
    """Time with channels last, of the time with contiguous tensors."""
    last: Any = copy.deepcopy(unet).to(memory_format=torch.channels_last)
    pairs = [(unet, z), (last, z.contiguous(memory_format=torch.channels_last))]
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for (network, latents), taken in zip(pairs, seconds, strict=True):
            taken.append(timed(network, latents, text))
    return min(seconds[1][1:]) / min(seconds[0][1:])


def timed(network: Any, z: Tensor, text: Tensor) -> float:
    """Seconds of a forward: of the CPU, or until a GPU is done."""
    clock = time.perf_counter if z.is_cuda else time.process_time
    started = clock()
    network(z, 500, encoder_hidden_states=text)
    if z.is_cuda:
        torch.cuda.synchronize()
    return clock() - started


if __name__ == "__main__":
    main()
