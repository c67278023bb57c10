"""Decoding in tiles without seams, for images whose feature maps do not fit the memory.

diffusers decodes each tile alone: its group norms take their statistics from the tile, so that tiles differ in colour
and contrast. Here the deepest layers, with their attention, run on the whole image, and the layers after them in tiles
that reach as far over their edges as convolutions do. All tiles stop at each group norm and go on with the statistics
of the whole image, so that the result is the whole decoding but for rounding.
"""

import math
from collections.abc import Generator, Iterator
from itertools import pairwise, product
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor


class Tile(NamedTuple):
    """Places of one tile along one axis, in latent pixels: with its margin, and what of that is its own."""

    start: int
    stop: int
    own_start: int
    own_stop: int

    def own(self, scale: int) -> slice:
        """The tile's own part of a feature map of the tile, which has ``scale`` pixels to a latent pixel."""
        return slice((self.own_start - self.start) * scale, (self.own_stop - self.start) * scale)


Steps: TypeAlias = Generator[tuple[Any, Tensor], Tensor, Tensor]
"""Yields each group norm with its input, takes its output, and returns the image of a tile."""


def decode_in_tiles(module: Any, z: Tensor, tile: int) -> Tensor:
    """What ``module.decode`` returns of latents [B, C, H, W]. module: an AutoencoderKL.

    tile: side of a tile in latent pixels, without its margin.
    """
    decoder = module.decoder
    deep = decoder.mid_block(decoder.conv_in(z if module.post_quant_conv is None else module.post_quant_conv(z)))
    margin = reach(decoder)
    rows, columns = (list(tiles_of(side, tile, margin)) for side in deep.shape[-2:])
    places = list(product(rows, columns))
    tiles = [
        _steps(decoder, deep[..., rows.start : rows.stop, columns.start : columns.stop]) for rows, columns in places
    ]
    inputs, parts = [next(steps) for steps in tiles], list[Tensor]()
    while not parts:
        norm = inputs[0][0]
        mean, scale = _statistics(norm, [x for _, x in inputs], places)
        for index, steps in enumerate(tiles):
            x, inputs[index] = inputs[index][1], (norm, mean)  # so that the input is not held longer
            try:
                inputs[index] = steps.send(_normalised(norm, x.to(z.device), mean, scale))
            except StopIteration as finished:
                parts.append(finished.value)
    return _joined(parts, places, (deep.shape[-2], deep.shape[-1]))


def _steps(decoder: Any, x: Tensor) -> Steps:
    """The layers after the middle block. What waits for the other tiles is in the CPU's memory."""
    device = x.device
    for block in decoder.up_blocks:
        for layer in block.resnets:
            x = x.cpu()
            h = yield layer.norm1, x
            h = yield layer.norm2, layer.conv1(layer.nonlinearity(h)).cpu()
            x = x.to(device)
            shortcut = x if layer.conv_shortcut is None else layer.conv_shortcut(x)
            x = (shortcut + layer.conv2(layer.nonlinearity(h))) / layer.output_scale_factor
        for layer in block.upsamplers or ():
            x = layer(x)
    h = yield decoder.conv_norm_out, x.cpu()
    return decoder.conv_out(decoder.conv_act(h))


def _statistics(norm: Any, inputs: list[Tensor], places: list[tuple[Tile, Tile]]) -> tuple[Tensor, Tensor]:
    """Mean and reciprocal deviation [B, groups, 1, 1, 1] of the whole input of a group norm."""
    sums, squares, count = 0.0, 0.0, 0
    for x, (rows, columns) in zip(inputs, places, strict=True):
        scale = x.shape[-2] // (rows.stop - rows.start)
        own = x[..., rows.own(scale), columns.own(scale)].double().unflatten(1, (norm.num_groups, -1)).flatten(2)
        sums, squares, count = sums + own.sum(-1), squares + own.square().sum(-1), count + own.shape[-1]
    mean: Any = sums / count
    variance = (squares / count - mean.square()).clamp_min(0)
    return mean.float()[..., None, None, None], (variance + norm.eps).rsqrt().float()[..., None, None, None]


def _normalised(norm: Any, x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    split = (x.float().unflatten(1, (norm.num_groups, -1)) - mean.to(x.device)) * scale.to(x.device)
    out = split.flatten(1, 2) * norm.weight[:, None, None].float() + norm.bias[:, None, None].float()
    return out.to(x.dtype)


def _joined(parts: list[Tensor], places: list[tuple[Tile, Tile]], grid: tuple[int, int]) -> Tensor:
    """The own parts of all tiles, as one image."""
    factor = parts[0].shape[-2] // (places[0][0].stop - places[0][0].start)
    whole = parts[0].new_empty(*parts[0].shape[:2], *(factor * side for side in grid))
    for part, (rows, columns) in zip(parts, places, strict=True):
        area = tuple(slice(one.own_start * factor, one.own_stop * factor) for one in (rows, columns))
        whole[..., area[0], area[1]] = part[..., rows.own(factor), columns.own(factor)]
    return whole


def tiles_of(length: int, tile: int, margin: int) -> Iterator[Tile]:
    """The tiles along an axis: their own parts follow one another, and margins end at the image's edges."""
    count = math.ceil(length / tile)
    edges = [round(place * length / count) for place in range(count + 1)]
    for start, stop in pairwise(edges):
        yield Tile(max(start - margin, 0), min(stop + margin, length), start, stop)


def reach(decoder: Any) -> int:
    """How many latent pixels the layers after the middle block reach over the edge of a tile."""
    total, scale = 0.0, 1
    for block in decoder.up_blocks:
        total += 2 * len(block.resnets) / scale
        for _ in block.upsamplers or ():
            scale *= 2
            total += 1 / scale
    return math.ceil(total + 1 / scale) + 1
