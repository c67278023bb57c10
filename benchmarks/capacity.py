"""What an H100 or H200 generates with each family, from the shapes of the networks alone.

``python benchmarks/capacity.py`` prints a table in Markdown. Operations are counted on the meta device: no weights are
loaded, and nothing is computed or measured. Between ``SHARES`` of the chip's peak are assumed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)
from torch import Tensor, empty

from cloisonne.models.cost import count_cost

PEAK = 989e12
"""Operations a second of an H100 SXM or H200 in bfloat16, dense (NVIDIA's data sheets)."""
SHARES = (0.3, 0.5)
"""Assumed shares of the peak. Published figures of tuned servers lie there; this package has not been measured."""
DAY = 86_400
PER_DAY = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A family at its usual size.

    side: of the image. tokens: of the caption and four regions. steps, rows: forward passes, and batch rows of each.
    network: makes it and its inputs, for a canvas of ``side / 8`` latent pixels.
    """

    name: str
    side: int
    tokens: int
    steps: int
    rows: int
    network: Callable[[int, int], tuple[Any, dict[str, Any]]]


def _unet(cross: int, **given: Any) -> Callable[[int, int], tuple[Any, dict[str, Any]]]:
    def make(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
        network = UNet2DConditionModel(sample_size=side, cross_attention_dim=cross, **given)
        inputs = {"sample": empty(1, given.get("in_channels", 4), side, side), "timestep": empty(1)}
        inputs["encoder_hidden_states"] = empty(1, tokens, cross)
        if given.get("addition_embed_type"):
            inputs["added_cond_kwargs"] = {"text_embeds": empty(1, 1280), "time_ids": empty(1, 6)}
        return network, inputs

    return make


SDXL: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


SD2: dict[str, Any] = {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}


def _sd3(blocks: int) -> Callable[[int, int], tuple[Any, dict[str, Any]]]:
    """blocks: also the number of heads of 64 channels."""

    def make(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
        sizes = {"num_layers": blocks, "num_attention_heads": blocks, "caption_projection_dim": 64 * blocks}
        return SD3Transformer2DModel(**sizes, pos_embed_max_size=192), {
            "hidden_states": empty(1, 16, side, side),
            "encoder_hidden_states": empty(1, tokens, 4096),
            "pooled_projections": empty(1, 2048),
            "timestep": empty(1),
        }

    return make


def _kontext(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    """With a reference image of the same size."""
    network, inputs = _flux(side, tokens)
    image = 2 * inputs["img_ids"].shape[0]
    return network, inputs | {"hidden_states": empty(1, image, 64), "img_ids": empty(image, 3)}


def _flux(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    image = (side // 2) ** 2
    return FluxTransformer2DModel(guidance_embeds=True), {
        "hidden_states": empty(1, image, 64),
        "encoder_hidden_states": empty(1, tokens, 4096),
        "pooled_projections": empty(1, 768),
        "timestep": empty(1),
        "guidance": empty(1),
        "txt_ids": empty(tokens, 3),
        "img_ids": empty(image, 3),
    }


def _klein(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    """FLUX.2 klein 4B."""
    image = (side // 2) ** 2
    sizes = {"num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680}
    return Flux2Transformer2DModel(**sizes, guidance_embeds=False), {
        "hidden_states": empty(1, image, 128),
        "encoder_hidden_states": empty(1, tokens, 7680),
        "timestep": empty(1),
        "txt_ids": empty(tokens, 4),
        "img_ids": empty(image, 4),
    }


def _zimage(side: int, tokens: int) -> tuple[Any, dict[str, Any]]:
    inputs = {"x": [empty(16, 1, side, side)], "t": empty(1), "cap_feats": [empty(tokens, 2560)]}
    return ZImageTransformer2DModel(), inputs


ROWS = (
    Row(name="Stable Diffusion 1.5", side=512, tokens=77, steps=20, rows=2, network=_unet(768)),
    Row(name="Paint by Example", side=512, tokens=1, steps=20, rows=2, network=_unet(768, in_channels=9)),
    Row(name="Stable Diffusion 2.1", side=768, tokens=77, steps=20, rows=2, network=_unet(1024, **SD2)),
    Row(name="Stable Diffusion XL", side=1024, tokens=77, steps=30, rows=2, network=_unet(2048, **SDXL)),
    Row(name="Stable Diffusion 3 medium", side=1024, tokens=640, steps=28, rows=2, network=_sd3(24)),
    Row(name="Stable Diffusion 3.5 large", side=1024, tokens=640, steps=28, rows=2, network=_sd3(38)),
    Row(name="Z-Image", side=1024, tokens=512, steps=50, rows=2, network=_zimage),
    Row(name="Z-Image Turbo", side=1024, tokens=512, steps=8, rows=1, network=_zimage),
    Row(name="FLUX.1 schnell", side=1024, tokens=512, steps=4, rows=1, network=_flux),
    Row(name="FLUX.1 dev", side=1024, tokens=768, steps=28, rows=1, network=_flux),
    Row(name="FLUX.1 Kontext, a reference", side=1024, tokens=768, steps=28, rows=1, network=_kontext),
    Row(name="FLUX.2 klein 4B", side=1024, tokens=768, steps=4, rows=1, network=_klein),
    Row(name="FLUX.2 klein base 4B", side=1024, tokens=768, steps=50, rows=2, network=_klein),
)


@torch.no_grad()
def operations(row: Row) -> tuple[float, float]:
    """Operations of all steps of an image, and of its decoder."""
    with torch.device("meta"):
        network, inputs = row.network(row.side // 8, row.tokens)
        step = count_cost(network, **inputs).flops
        decoder = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        decoded = count_cost(_Decoder(decoder), empty(1, 4, row.side // 8, row.side // 8)).flops
    return float(step * row.steps * row.rows), float(decoded)


class _Decoder(torch.nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decoder = vae.decoder

    def forward(self, latents: Tensor) -> Tensor:
        return self.decoder(latents)


def table() -> str:
    """The table, as Markdown."""
    heads = ["family", "image", "steps x rows", "TFLOP an image", "of it decoding", "seconds", "images a day, one GPU"]
    lines = [_line([*heads, "GPUs for 10^6 a day"]), _line(["---", *["---:"] * 7])]
    for row in ROWS:
        steps, decoder = operations(row)
        total = steps + decoder
        slow, fast = (total / (PEAK * share) for share in SHARES)
        lines.append(
            _line(
                [
                    row.name,
                    f"{row.side}²",
                    f"{row.steps} x {row.rows}",
                    f"{total / 1e12:,.0f}",
                    f"{decoder / total:.0%}",
                    f"{fast:.2f} to {slow:.2f}",
                    f"{_round(DAY / slow)} to {_round(DAY / fast)}",
                    f"{PER_DAY * fast / DAY:,.1f} to {PER_DAY * slow / DAY:,.1f}",
                ]
            )
        )
    return "\n".join(lines)


def _round(value: float) -> str:
    """Two digits: the assumption is no better."""
    return f"{float(f'{value:.2g}'):,.0f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(table())


if __name__ == "__main__":
    main()
