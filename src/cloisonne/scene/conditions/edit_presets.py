"""The settings of an edit of regions, and the presets of them (MRGD, AAAI 2024, 38(4)). No tensors here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

NEAR = 2.0
"""Times the longer side of what is edited, from near."""


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
