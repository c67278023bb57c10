"""The definition of joint attention by region, entry by entry, for oracles of transformer families."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cloisonne.scene.region import Region


class Token(NamedTuple):
    """One token of a sequence. kind: "caption" (also padding), "phrase", "pixel" or "reference".

    number: of the region, or of the pixel. times: how often it counts for pixels.
    """

    kind: str
    number: int = 0
    times: float = 1.0


def explicit_bias(tokens: Sequence[Token], shares: Sequence[Tensor], *, isolated: bool) -> Tensor:
    """[S, S] to add to the logits of a sequence. shares: of each region at each pixel [Q]."""
    weights = torch.stack(list(shares)).log().tolist() if shares else []
    inside = [[bool(share) for share in own] for own in shares]
    different = {token: place for place, token in enumerate(dict.fromkeys(tokens))}
    table = torch.tensor([[_entry(q, k, weights, inside, isolated) for k in different] for q in different])
    places = torch.tensor([different[token] for token in tokens])
    return table[places][:, places]


def _entry(query: Token, key: Token, logs: list[list[float]], inside: list[list[bool]], isolated: bool) -> float:
    regional = ("phrase", "reference")
    if query.kind in regional:
        own = key[:2] == query[:2] or (key.kind == "pixel" and inside[query.number][key.number])
        return 0.0 if own else -torch.inf
    if query.kind == "pixel" and key.kind in regional:
        return logs[key.number][query.number] + math.log(key.times)
    if query.kind == key.kind == "pixel" and isolated:
        pairs = [(own[query.number], own[key.number]) for own in inside]
        return 0.0 if any(a and b for a, b in pairs) or not any(a or b for a, b in pairs) else -torch.inf
    return 0.0


def shares_of(regions: Sequence[Region], side: int) -> list[Tensor]:
    """[side * side] of each region, by the rule of overlap "blend"; of boxes, and of masks that are 0.5 on the left."""
    masks: list[Tensor] = []
    for region in regions:
        found = torch.zeros(side, side)
        x0, y0, x1, y1 = (int(edge * side) for edge in region.box or (0, 0, 0.5, 1))
        found[y0:y1, x0:x1] = 0.5 if region.box is None else 1.0
        masks.append(found.flatten() * region.weight)
    total = torch.stack(masks).sum(0)
    return [mask / (total + (1 - total).clamp_min(0)) for mask in masks]
