"""MRGD: what changes several regions of a pair of pictures at once and keeps the rest (Li et al., AAAI 2024, 38(4)).

Two canvases, before and after, walk as one plan. This file says which ways of editing there are (``PRESETS``), and how
the paper's views and attention policies come out as views and edits; ``mrgd_energy.py`` has its losses and
``mrgd_attention.py`` what it reads off the attention.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from cloisonne.core.edits import Fading, ShareSelf, ShareWords, aligned, by_position
from cloisonne.core.plan import AttentionEdit, Box, Interval, View
from cloisonne.scene.geometry import Box as Fractions

BEFORE, AFTER = "before", "after"
"""Names of the two canvases."""
CANVAS, WHOLE = "canvas", "whole"
FEATHER = 0.2
"""Share of half of the shorter side over which a window fades, where its region has no feather."""
SMALL = 16 * 16
"""Self-attention is shared on grids of at most so many pixels."""
NEAR = 2.0
"""Times the longer side of what is edited, from near."""
Role = Literal["background", "foreground", "add", "remove", "change", "whole"]


@dataclass(frozen=True)
class Policy:
    """How much a view's canvas after looks as its canvas before.

    words: share of the walk in which cross-attention is taken over, fading. self: of self-attention. positions: words
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


@dataclass(frozen=True, kw_only=True)
class Editing:
    """A way of editing. Losses' weights are those of Stable Diffusion; see ``mrgd_energy.py`` for their units.

    regions: each region is predicted by a view of its own; otherwise the scene's method says how regions are heard.
    crops: these views see their own window alone. whole: a view of the whole picture joins them late. policies:
    attention is shared as ``POLICIES`` say. looks: share of the walk in which the canvas after looks at itself as
    before, where all things stay what they are. boost: "none", "additive" or "official", how keys of the regions named
    count more in the whole picture's self-attention. keywords: so many words are looked for, those with the sharpest
    maps; 0 looks for phrases. loss_rs, loss_is, loss_ip, loss_gone, loss_seen: weights; gain: factor of all of them.
    contrast: "infonce", or "official" as in the paper's code. normalise: CLIPSeg sees pictures by CLIP's statistics.
    decoder: "vae", or "linear" for the cheap one. limit: largest change of the estimate in a step, as a share of it; 0
    = any. follow: outside of the edited regions the canvas after is the one before. tight: of an edited region, only
    what CLIPSeg sees of the things that come and go is put into the picture after. inversion: of a given picture,
    "direct" or "null-text". fresh: share of the noise that is fresh where a given picture is edited; none: all of it
    where another thing comes, half where the thing stays what it is (ours; published ways begin at what was found, 0).
    room: of a given picture, so many times the longer side of what is edited is worked on, and of the regions only
    those that are edited are told; 0: all regions are in sight, and at least 3.5 times their longer side. None: 2, and
    0 where anything is removed, whose place goes on with what is around.
    """

    regions: bool = False
    crops: bool = False
    whole: bool = False
    policies: bool = False
    looks: float = 0.0
    boost: Literal["none", "additive", "official"] = "none"
    keywords: int = 0
    loss_rs: float = 0.0
    loss_is: float = 0.0
    loss_ip: float = 0.0
    loss_gone: float = 0.0
    loss_seen: float = 0.0
    contrast: Literal["infonce", "official"] = "infonce"
    normalise: bool = True
    decoder: Literal["vae", "linear"] = "vae"
    gain: float = 1.0
    limit: float = 0.0
    follow: bool = True
    tight: bool = False
    inversion: Literal["direct", "null-text"] = "direct"
    fresh: float | None = None
    room: float | None = 0.0

    def room_for(self, kinds: Collection[str]) -> float:
        """``room``, of a scene with edits of these kinds."""
        if self.room is not None:
            return self.room
        return 0.0 if "remove" in kinds else NEAR

    @property
    def steers(self) -> bool:
        """Whether any loss counts."""
        return any((self.loss_rs, self.loss_is, self.loss_ip, self.loss_gone, self.loss_seen))


PRESETS: Mapping[str, Editing] = {
    "follow": Editing(looks=0.4, room=None),
    "mrgd": Editing(looks=0.4, room=None, tight=True, loss_seen=1000.0, gain=8.0, limit=0.1),
    "official": Editing(
        regions=True,
        crops=True,
        whole=True,
        policies=True,
        boost="official",
        keywords=15,
        loss_rs=1000.0,
        loss_is=2000.0,
        loss_ip=300.0,
        contrast="official",
        normalise=False,
        follow=False,
    ),
    "p2p": Editing(regions=True, policies=True, follow=False),
    "multidiffusion": Editing(regions=True, follow=False),
}
"""follow: the shared canvas alone. mrgd: ours, with what measures better. official: as published. p2p: prompt-to-prompt
for each region. multidiffusion: a prediction a region, nothing shared; the last two the paper compares with."""


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


_LATE = "late "
"""Before the name of a view while the whole picture counts too: a region's name follows it, so that none is doubled."""


def regional_views(
    views: Sequence[View], windows: Windows, whole: View | None, joins: float, *, crops: bool
) -> tuple[View, ...]:
    """MRGD's fusion of regions' views, on the views that the method multidiffusion makes.

    Where windows cover a pixel c times with mean feather F, each of them counts F / c, and what lies behind them 1 - F.
    whole: the view of the whole picture, one window more from the share ``joins`` of the walk on.
    """
    early = _weighed(views, windows, None, crops=crops)
    if whole is None:
        return early
    late = [replace(view, name=f"{_LATE}{view.name}") for view in _weighed(views, windows, whole, crops=crops)]
    late.append(_whole_view(views, windows, whole))
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


Ids = Callable[[View], Sequence[int] | None]
"""The tokens that a view's "cond" hears, or None where it hears no single text."""


def policy_edits(views: Sequence[View], roles: Mapping[str, Role], ids: Ids) -> tuple[AttentionEdit, ...]:
    """Attention as ``POLICIES`` share it, for each view that both canvases have.

    roles: of regions by name; ``""`` is the role of views of no region, but for that of the whole picture.
    """
    pairs: dict[str, dict[str, View]] = {}
    for view in views:
        pairs.setdefault(view.name, {})[view.stream] = view
    edits: list[AttentionEdit] = []
    for name, pair in sorted(pairs.items()):
        if set(pair) != {BEFORE, AFTER}:
            continue
        role: Role = "whole" if name.startswith(WHOLE) else roles[pair[AFTER].region or ""]
        policy = POLICIES[role]
        source, target = ids(pair[BEFORE]), ids(pair[AFTER])
        if policy.words > 0 and source is not None and target is not None:
            same = by_position({}, len(source), len(target)) if policy.positions else aligned(source, target)
            mapping = same.to(pair[AFTER].weight.device)
            edits.append(ShareWords(source=BEFORE, target=AFTER, view=name, mapping=mapping, ramp=Fading(policy.words)))
        if policy.self > 0:
            until = Interval(0.0, policy.self)
            edits.append(ShareSelf(source=BEFORE, target=AFTER, view=name, when=until, most=SMALL))
    return tuple(edits)


def whole_from(kinds: Sequence[str], count: int) -> float:
    """The share of a walk of ``count`` steps from which the whole picture's view counts: step i of T - 1 ... 0 is at
    most f T, with f = 0.5 where all edits are changes, else 0.6."""
    share = 0.5 if set(kinds) == {"change"} else 0.6
    return max(0.0, 1 - share - 1 / count)
