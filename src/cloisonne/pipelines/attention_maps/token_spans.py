"""Where the words of each region's phrase lie in what a plan's views hear, and what reads their attention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.attention.token_maps import TokenMaps
from cloisonne.core.plan import Conditioning, View
from cloisonne.errors import SceneError
from cloisonne.methods.layout import Placed
from cloisonne.methods.mrgd.attention import READ, spans_of
from cloisonne.methods.mrgd.method import CANVAS
from cloisonne.methods.reco import tidied
from cloisonne.models.model import Model
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.scene import Region, Scene, Window
from cloisonne.scene.prompt import at, pieces
from cloisonne.scene.shapes.geometry import area

_NORMALISED = ("reco", "words")
"""Methods that say phrases in the published clean-up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """readers: by region, one for each view that hears its phrase. unread: the other regions, and why. count: steps of
    the walk. window: what of the picture is worked on, in pixels."""

    readers: dict[str, list[TokenMaps]]
    unread: dict[str, str]
    count: int
    window: Window


def read_words(scene: Scene, model: Model) -> Reading:
    """What reads where the phrases of a scene look; no network is asked. Raises what ``generate`` would raise."""
    prepared = prepare(scene, model, blank=True)
    for region in scene.active_regions:
        if region.lora:
            raise SceneError(
                f'lora names "{region.lora[0].name}", by which texts are split, so that what words look at cannot be '
                "drawn; leave it out.",
                region=region.name,
            )
    if not prepared.steps:
        raise SceneError("The strength is too small for a single step, so nothing is looked at; raise it.")
    heard = [p for p in _canonical(prepared) if p.region.phrase and p.name not in prepared.compiled.dropped]
    grid = _grid(model, prepared.grid)
    readers: dict[str, list[TokenMaps]] = {}
    for view in prepared.compiled.plan.views:
        for name, words in _words_in(view, heard, prepared).items():
            reader = TokenMaps(stream=view.stream, words=words, grid=grid, view=view.name, when=view.when)
            readers.setdefault(name, []).append(reader)
    width, height = size_of(prepared.scene)
    return Reading(
        readers={name: readers[name] for name in (region.name or "" for region in scene.regions) if name in readers},
        unread={r.name or "": _why(r, prepared) for r in scene.regions if r.name not in readers},
        count=len(prepared.steps),
        window=prepared.edit.window if prepared.edit else Window(0, 0, width, height),
    )


def mean_map(readers: Sequence[TokenMaps]) -> Tensor | None:
    """[h, w] in [0, 1]: of the readers that read something, over their words; None where none did."""
    read = [reader.mean().float().mean(0) for reader in readers if reader.seen]
    return torch.stack(read).mean(0).cpu() if read else None


def _why(region: Region, prepared: Prepared) -> str:
    """The reason why a region is not read, as the end of a sentence that begins with its name."""
    if not region.active:
        return "does not count, by its weight or its interval"
    if not region.phrase:
        return f"has {'an exemplar' if region.exemplar is not None else 'a control'} and no words"
    if region.name in prepared.compiled.dropped:
        return "does not fit the model's text"
    return f'is not heard by its words in the method "{prepared.scene.method}"'


def _canonical(prepared: Prepared) -> list[Placed]:
    """The regions in the order in which texts say them."""
    return sorted(prepared.placed, key=lambda p: (-area(p.box), p.name))


def _words_in(view: View, heard: Sequence[Placed], prepared: Prepared) -> dict[str, tuple[int, ...]]:
    """By region, the positions of its phrase in what a view hears.

    A region with a view of its own is looked for there alone. Phrases are looked for from the end, since what is said
    of the whole picture comes first and may hold the same words.
    """
    told = view.branches["cond"]
    if prepared.scene.method == "caption" or callable(told):
        return {}
    own = [p for p in heard if view.region == p.name]
    if not own and view.name == CANVAS:
        alone = {v.region for v in prepared.compiled.plan.views}
        own = [p for p in heard if _within(view, p.region) and p.name not in alone]
    if not own:
        return {}
    ids = _ids(told, prepared)
    backwards = {p.name: _tokens(p.region.phrase, view.when.start, prepared)[::-1] for p in reversed(own)}
    found = spans_of(ids[::-1], backwards)
    return {name: tuple(sorted(len(ids) - 1 - place for place in places)) for name, places in found.items() if places}


def _within(view: View, region: Region) -> bool:
    return region.start <= view.when.start and view.when.stop <= region.stop


def _ids(told: Conditioning, prepared: Prepared) -> list[int]:
    """The ids of all that a row hears, in the order of its texts; -1 for what is no text."""
    masked = [piece for piece in told.tokens if piece.mask is not None]
    ids: list[int] = []
    for piece in (*masked, *(piece for piece in told.tokens if piece.mask is None)):
        ids += piece.ids or [-1] * len(piece.value)
    return ids


def _tokens(phrase: str, moment: float, prepared: Prepared) -> list[int]:
    """The ids of what a phrase says where ``moment`` in [0, 1) of the walk lies behind."""
    text: Any = prepared.ctx.model.text
    said = at(phrase, moment, len(prepared.steps))
    spelt = tidied(said, text.learned) if prepared.scene.method in _NORMALISED else pieces(said)
    return [i for piece in spelt for i in text.words(piece.words)]


def _grid(model: Model, canvas: tuple[int, int]) -> tuple[int, int]:
    """The finest grid (height, width) of cross-attention that is not finer than ``READ``; without one, the coarsest."""
    kinds: Sequence[str] = model.net.unet.config["down_block_types"]
    grids = []
    for level, kind in enumerate(kinds):
        # The middle, as coarse as the last level, always has it.
        if "CrossAttn" in kind or level == len(kinds) - 1:
            grids.append(canvas)
        canvas = (-(-canvas[0] // 2), -(-canvas[1] // 2))
    return next((grid for grid in grids if max(grid) <= READ), grids[-1])
