"""Initial noise arranged by region: each region gets the part of the noise in which its phrase is attended to most.

An object tends to be drawn where the noise already attends to it (Mao et al., arXiv 2305.03382). The parts change
places, so that the noise keeps its values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.core.attention.layout_guidance import boosted_attention
from cloisonne.core.guidance import Single
from cloisonne.core.plan import AttentionEdit, Box, Call, Conditioning, Plan, Site, Step, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError
from cloisonne.methods.layout import Placed
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.phrase_boost import PROBE


def arrangeable(plan: Plan, placed: Sequence[Placed], step: Step) -> list[tuple[Placed, View]]:
    """The regions whose part of the noise is chosen, with the view of all of the canvas that has their phrase.

    These are the regions whose phrase is boosted in the first step and that have no seed of their own, the largest
    first.
    """
    views = [view for view in plan.views if view.box is None and step in view.when]
    ordered = sorted(placed, key=lambda one: (-float(one.mask.sum()), one.name))
    found = [(one, view) for one in ordered if one.region.seed is None for view in views if _tokens_of(one, view)]
    return list({one.name: (one, view) for one, view in reversed(found)}.values())[::-1]


def arranged(z: Tensor, regions: Sequence[tuple[Placed, View]], step: Step, model: Model, run: Run) -> Tensor:
    """The unit noise z [C, H, W] with its parts swapped, region by region; one forward pass of one row for each.

    regions: of :func:`arrangeable`. step: the first one. Raises CapabilityError where the network has no
    cross-attention.
    """
    grid = (z.shape[-2], z.shape[-1])
    if regions and not any(site.cross for site in model.net.sites(grid)):
        raise CapabilityError(
            f'noise is arranged, but "{model.name}" has no cross-attention to arrange noise by; leave it out.'
        )
    for placed, view in regions:
        reader, own = _PhraseMap(), run.part()
        with torch.no_grad():
            predict(Plan(views=(_alone(placed, view),), edits=(reader,)), (step.s * z)[None], step, own)
        maps = [F.interpolate(one, grid, mode="bilinear") for one in own.state(reader, list[Tensor])]
        z = z.flatten(1)[:, swapped(torch.stack(maps).mean(0)[0, 0], _bounds(placed.mask))].view_as(z)
    return z


def swapped(attention: Tensor, target: Box) -> Tensor:
    """[H * W]: from where each pixel is taken, so that ``target`` gets the window with the most attention [H, W].

    What was in the target goes to where the window was.
    """
    (height, width), (rows, columns) = attention.shape, (target.bottom - target.top, target.right - target.left)
    sums = F.avg_pool2d(attention[None, None], (rows, columns), stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    places = torch.arange(height * width).view(height, width)
    to, source = (p.flatten() for p in (places[target.window], places[top : top + rows, left : left + columns]))
    order = places.flatten().clone()
    order[to] = source
    order[source[~torch.isin(source, to)]] = to[~torch.isin(to, source)]
    return order


def _bounds(mask: NDArray[np.float32]) -> Box:
    """The box of the pixels at least half as opaque as the most opaque one."""
    rows, columns = (np.flatnonzero((mask >= mask.max() / 2).any(axis)) for axis in (1, 0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _tokens_of(placed: Placed, view: View) -> list[Tokens]:
    branch = view.branches.get("cond")
    tokens = branch.tokens if isinstance(branch, Conditioning) else ()
    return [piece for piece in tokens if piece.region == placed.name and piece.counts]


def _alone(placed: Placed, view: View) -> View:
    """The text of a region on all of the canvas, its phrase counted ``PROBE`` times, and nothing else of the view."""
    branch, piece = view.branches["cond"], _tokens_of(placed, view)[0]
    assert isinstance(branch, Conditioning), "checked above"
    counts = tuple((start, stop, PROBE) for start, stop, _ in piece.counts)
    text = Conditioning(
        tokens=(replace(piece, mask=None, counts=counts, peak=False),),
        channels=branch.channels,
        pooled=branch.pooled,
        micro=branch.micro,
    )
    return replace(view, branches={"cond": text}, guide=Single(), weight=torch.ones_like(view.weight))


@dataclass(frozen=True)
class _PhraseMap(AttentionEdit):
    """Reads the attention to boosted tokens, [1, 1, h, w] for each layer; changes nothing."""

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        (text,) = call.texts.texts
        share = boosted_attention(p[text.row].float(), text)
        call.run.state(self, list[Tensor]).append(share.mean(0).view(1, 1, *site.grid))
        return p

    def in_scene(self, scene: str) -> "_PhraseMap":
        return self
