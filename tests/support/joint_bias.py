"""The definition of isolated texts, entry by entry, for oracles of transformer families."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cloisonne.scene.region import Region


class Token(NamedTuple):
    """One token of a sequence. kind: "caption" (also an image's padding), "phrase", "pixel" or "reference".

    number: of the region, or of the pixel.
    """

    kind: str
    number: int = 0


def explicit_bias(tokens: Sequence[Token], shares: Sequence[Tensor], *, isolated: bool) -> Tensor:
    """[S, S] to add to the logits of a sequence. shares: of each region at each pixel [Q]."""
    weights = torch.stack(list(shares)).log().tolist() if shares else []
    inside = [[bool(share) for share in own] for own in shares]
    return torch.tensor([[_entry(q, k, weights, inside, isolated) for k in tokens] for q in tokens])


def _entry(query: Token, key: Token, logs: list[list[float]], inside: list[list[bool]], isolated: bool) -> float:
    regional = ("phrase", "reference")
    if query.kind in regional:
        own = key == query or (key.kind == "pixel" and inside[query.number][key.number])
        return 0.0 if own else -torch.inf
    if query.kind == "pixel" and key.kind in regional:
        return logs[key.number][query.number]
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
