"""MRGD: what changes several regions of a pair of pictures at once and keeps the rest (Li et al., AAAI 2024, 38(4)).

Two canvases, before and after, are denoised as one plan. ``scene/conditions/edit_presets.py`` has the presets; this
file makes views and attention edits of the paper's views and attention policies; ``losses.py`` has its losses and
``attention.py`` what it reads from the attention maps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cloisonne.core.attention.edits import Fading, ShareSelf, ShareWords, aligned, by_position
from cloisonne.core.plan import AttentionEdit, Box, Conditioning, Interval, View
from cloisonne.scene.conditions.edit_presets import PRESETS as PRESETS
from cloisonne.scene.shapes.geometry import Box as Fractions

BEFORE, AFTER = "before", "after"
"""Names of the two canvases."""
CANVAS, WHOLE = "canvas", "whole"
FEATHER = 0.2
"""Share of half of the shorter side over which a window fades, where its region has no feather."""
SMALL = 16 * 16
"""Self-attention is shared on grids of at most so many pixels."""
Role = Literal["background", "foreground", "add", "remove", "change", "whole"]


@dataclass(frozen=True)
class Policy:
    """How much attention the canvas after the edit takes from the canvas before it.

    words: fraction of steps in which cross-attention is taken over, fading. self: of self-attention. positions: words
    stand for those at their own place (replacement); otherwise for equal ones (refinement).
    """

    words: float
    self: float
    positions: bool = True


POLICIES: Mapping[Role, Policy] = {
    "background": Policy(1.0, 0.5),
    "foreground": Policy(1.0, 0.7),
    "add": Policy(0.0, 0.0),
    "remove": Policy(0.0, 0.0),
    "change": Policy(0.6, 0.3),
    "whole": Policy(0.5, 0.2, positions=False),
}
"""As MRGD's code has them, by what its region is."""


def latent_box(box: Fractions, grid: tuple[int, int]) -> Box:
    """A box of fractions on a grid (H, W) of latents, as MRGD cuts it: left and top floored, sizes rounded up."""
    height, width = grid
    left, top = min(int(box[0] * width), width - 1), min(int(box[1] * height), height - 1)
    right = min(left + max(1, -int(-(box[2] - box[0]) * width // 1)), width)
    bottom = min(top + max(1, -int(-(box[3] - box[1]) * height // 1)), height)
    return Box(top, left, bottom, right)


def window_feather(height: int, width: int, ratio: float = FEATHER) -> Tensor:
    """[height, width] in [0, 1]: 1 inside, falling as ``(d / radius)^2`` with the distance d to the border."""
    radius = int(min(width // 2, height // 2) * ratio)
    rows, columns = torch.arange(height), torch.arange(width)
    to_edge = torch.minimum(
        torch.minimum(rows, height - 1 - rows)[:, None], torch.minimum(columns, width - 1 - columns)[None]
    )
    return (to_edge / radius).clamp(max=1).square() if radius else torch.ones(height, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """Where the regions of one canvas have their windows. boxes: of latents, by region. ratios: their feathers.

    backgrounds: the regions that lie below the others, and fill what these leave.
    """

    grid: tuple[int, int]
    boxes: Mapping[str, Box]
    ratios: Mapping[str, float]
    backgrounds: frozenset[str] = frozenset()

    def feather(self, name: str) -> Tensor:
        """[H, W]: how much a region's window counts, 0 outside of it."""
        box = self.boxes[name]
        canvas = torch.zeros(self.grid)
        canvas[box.window] = window_feather(box.bottom - box.top, box.right - box.left, self.ratios.get(name, FEATHER))
        return canvas

    def covered(self, name: str) -> Tensor:
        """[H, W]: 1 in a region's window."""
        canvas = torch.zeros(self.grid)
        canvas[self.boxes[name].window] = 1
        return canvas


LATE = 1000
"""Added to ``View.interval_index`` of the views while the whole picture counts too."""


def regional_views(
    views: Sequence[View], windows: Windows, whole: View | None, joins: float, *, crops: bool
) -> tuple[View, ...]:
    """MRGD's fusion of regions' views, on the views that the method multidiffusion makes.

    Where windows cover a pixel c times with mean feather F, each of them counts F / c, and what lies behind them 1 - F.
    whole: the view of the whole picture, one window more from the fraction ``joins`` of the steps on.
    """
    early = _weighed(views, windows, None, crops=crops)
    if whole is None:
        return early
    late = [*_weighed(views, windows, whole, crops=crops), _whole_view(views, windows, whole)]
    late = [replace(view, interval_index=view.interval_index + LATE) for view in late]
    return (*(_during(view, 0.0, joins) for view in early), *(_during(view, joins, 1.0) for view in late))


def _during(view: View, start: float, stop: float) -> View:
    return replace(view, when=Interval(max(view.when.start, start), max(start, min(view.when.stop, stop))))


def _parts(views: Sequence[View], windows: Windows, whole: View | None) -> tuple[list[str], Tensor, Tensor]:
    """Names of the windows, how often they cover each pixel, [H, W], and their mean feather there."""
    names = [name for view in views if (name := view.region) is not None and name not in windows.backgrounds]
    feathers = [windows.feather(name) for name in names]
    counts = [windows.covered(name) for name in names]
    if whole is not None:
        feathers.append(window_feather(*windows.grid))
        counts.append(torch.ones(windows.grid))
    nothing = torch.zeros(windows.grid)
    count = torch.stack([nothing, *counts]).sum(0)
    return names, count, torch.stack([nothing, *feathers]).sum(0) / count.clamp(min=1)


def _weighed(views: Sequence[View], windows: Windows, whole: View | None, *, crops: bool) -> tuple[View, ...]:
    names, count, mean = _parts(views, windows, whole)
    behind = [name for view in views if (name := view.region) is not None and name in windows.backgrounds]
    behind_count = torch.stack([torch.zeros(windows.grid), *(windows.covered(name) for name in behind)]).sum(0)
    made = []
    for view in views:
        name = view.region
        device = view.weight.device
        if name in names:
            weight = windows.covered(name) * mean / count.clamp(min=1)
        elif name is not None:
            weight = windows.covered(name) * (1 - mean) / behind_count.clamp(min=1)
        else:
            weight = (1 - mean) * (behind_count == 0)
        box = windows.boxes[name] if name is not None and crops else None
        made.append(replace(view, weight=(weight if box is None else weight[box.window]).to(device), box=box))
    return tuple(made)


def _whole_view(views: Sequence[View], windows: Windows, whole: View) -> View:
    _, count, mean = _parts(views, windows, whole)
    return replace(whole, name=WHOLE, weight=(mean / count).to(whole.weight.device))


def text_ids(view: View) -> tuple[int, ...] | None:
    """The token ids of a view's "cond", or None where that is no single text."""
    branch = view.branches["cond"]
    return branch.tokens[0].ids if isinstance(branch, Conditioning) and len(branch.tokens) == 1 else None


def policy_edits(views: Sequence[View], roles: Mapping[str, Role]) -> tuple[AttentionEdit, ...]:
    """Attention as ``POLICIES`` share it, for each view that both canvases have.

    roles: of regions by name; ``""`` is the role of views of no region, but for that of the whole picture.
    """
    edits: list[AttentionEdit] = []
    before, after = ([view for view in views if view.stream == stream] for stream in (BEFORE, AFTER))
    for target in sorted(after, key=lambda view: view.key):
        for source in sorted((view for view in before if view.name == target.name), key=lambda view: view.key):
            when = source.when & target.when
            if not when.empty:
                role: Role = "whole" if target.name == WHOLE else roles[target.region or ""]
                edits += _shared(source, target, POLICIES[role], when)
    return tuple(edits)


def _shared(source: View, target: View, policy: Policy, when: Interval) -> list[AttentionEdit]:
    """The edits of one view of both canvases, in an interval of the steps."""
    edits: list[AttentionEdit] = []
    own, others = text_ids(target), text_ids(source)
    if policy.words > 0 and own is not None and others is not None:
        same = by_position({}, len(others), len(own)) if policy.positions else aligned(others, own)
        mapping = same.to(target.weight.device)
        ramp = Fading(policy.words)
        edits.append(ShareWords(source=BEFORE, target=AFTER, view=target.name, mapping=mapping, ramp=ramp, when=when))
    if policy.self > 0:
        until = when & Interval(0.0, policy.self)
        edits.append(ShareSelf(source=BEFORE, target=AFTER, view=target.name, when=until, most=SMALL))
    return edits


def whole_from(kinds: Sequence[str], count: int) -> float:
    """The fraction of ``count`` steps from which the whole picture's view counts: step i of T - 1 ... 0 is at
    most f T, with f = 0.5 where all edits are changes, else 0.6."""
    share = 0.5 if set(kinds) == {"change"} else 0.6
    return max(0.0, 1 - share - 1 / count)
