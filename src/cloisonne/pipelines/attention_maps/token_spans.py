"""Token positions of each region's phrase in the views' texts, and the readers of their attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.token_maps import TokenMaps
from cloisonne.core.plan import Conditioning, Tokens, View
from cloisonne.core.run import Run
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.layout import Placed
from cloisonne.methods.mrgd.attention import READ, spans_of
from cloisonne.methods.mrgd.method import CANVAS
from cloisonne.methods.reco import cleaned
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import with_token_ids
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.scene import Region, Scene, Window
from cloisonne.scene.prompt import at, pieces
from cloisonne.scene.shapes.geometry import area

_NORMALISED = ("reco", "words")
"""Methods that encode phrases after ReCo's published clean-up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """Readers of a scene's attention.

    readers: by region, one for each view whose text holds its phrase. inside: [h, w] by region, the cells of the maps
    that lie within it, or that hold most of it. unread: the other regions, with the reason. count: number of steps.
    window: the canvas's area in the image, in pixels.
    """

    readers: dict[str, list[TokenMaps]]
    inside: dict[str, Tensor]
    unread: dict[str, str]
    count: int
    window: Window


def read_words(scene: Scene, model: Model) -> Reading:
    """Readers for the phrases of a scene; no network is run. Raises what ``generate`` raises."""
    prepared = prepare(scene, model, blank=True)
    for region in scene.active_regions:
        if region.lora:
            raise SceneError(
                f'lora names "{region.lora[0].name}", which splits the texts by region, so attention cannot be read; '
                "leave it out.",
                region=region.name,
            )
    if not prepared.steps:
        raise SceneError("The strength is too small for a single step, so there is no attention to read; raise it.")
    placed = [p for p in _canonical(prepared) if p.region.phrase and p.name not in prepared.compiled.dropped]
    grid = _grid(model, prepared.grid)
    readers: dict[str, list[TokenMaps]] = {}
    for view in prepared.compiled.plan.views:
        for name, words in _words_in(view, placed, prepared).items():
            reader = TokenMaps(stream=view.stream, words=words, grid=grid, view=view.name, when=view.when)
            readers.setdefault(name, []).append(reader)
    width, height = size_of(prepared.scene)
    masks = {p.name: F.adaptive_avg_pool2d(torch.from_numpy(p.mask)[None], grid)[0] for p in placed}
    return Reading(
        readers={name: readers[name] for name in (region.name or "" for region in scene.regions) if name in readers},
        inside={name: mask > 0.99 * mask.max() for name, mask in masks.items()},
        unread={r.name or "": _why(r, prepared) for r in scene.regions if r.name not in readers},
        count=len(prepared.steps),
        window=prepared.edit.window if prepared.edit else Window(0, 0, width, height),
    )


def mean_map(readers: Sequence[TokenMaps], run: Run, step: int | None = None) -> Tensor | None:
    """Mean map [h, w] in [0, 1] over words and readers of a run, or of one step of it; None if nothing was read."""
    found = [own.mean(0) for reader in readers if (own := reader.mean(run, step)) is not None]
    return torch.stack(found).mean(0).cpu() if found else None


def phrase_share(name: str, reading: Reading, run: Run) -> float | None:
    """How much of the attention within a region its phrase has, in [0, 1]; None if nothing was read.

    The mean over steps, heads, cells, and layers of the maps' grid.
    """
    found = [own.sum(0) for reader in reading.readers[name] if (own := reader.mean(run)) is not None]
    return float(torch.stack(found).mean(0).cpu()[reading.inside[name]].mean()) if found else None


def _why(region: Region, prepared: Prepared) -> str:
    """Why a region is not read, as the end of a sentence that begins with its name."""
    if not region.active:
        return "is inactive: its weight is 0 or its interval is empty"
    if not region.phrase:
        return f"has {' and '.join(region.conditions)}, but no phrase"
    if region.name in prepared.compiled.dropped:
        return "does not fit the model's text"
    return f'is not conditioned on its phrase by the method "{prepared.scene.method}"'


def _canonical(prepared: Prepared) -> list[Placed]:
    """The regions in the order of their phrases in a text."""
    return sorted(prepared.placed, key=lambda p: (-area(p.box), p.name))


def _words_in(view: View, placed: Sequence[Placed], prepared: Prepared) -> dict[str, tuple[int, ...]]:
    """By region, the positions of its phrase in a view's text.

    A region with a view of its own is searched there alone. The search runs from the end, since the caption comes first
    and may hold the same words.
    """
    branch = view.branches["cond"]
    if prepared.scene.method == "caption" or callable(branch):
        return {}
    own = [p for p in placed if view.region == p.name]
    if not own and view.name == CANVAS:
        separate = {v.region for v in prepared.compiled.plan.views}
        own = [p for p in placed if _within(view, p.region) and p.name not in separate]
    if not own:
        return {}
    if boosted := _boosted(branch):
        return {p.name: boosted[p.name] for p in own if p.name in boosted}
    ids = _ids(branch, prepared)
    backwards = {p.name: _tokens(p.region.phrase, view.when.start, prepared)[::-1] for p in reversed(own)}
    found = spans_of(ids[::-1], backwards)
    return {name: tuple(sorted(len(ids) - 1 - place for place in places)) for name, places in found.items() if places}


def _within(view: View, region: Region) -> bool:
    return region.start <= view.when.start and view.when.stop <= region.stop


def _ids(branch: Conditioning, prepared: Prepared) -> list[int]:
    """The token ids of a branch in the order of its text sequences; -1 for tokens that are no text."""
    return [i for piece in _sequences(branch) for i in piece.ids or [-1] * len(piece.value)]


def _boosted(branch: Conditioning) -> dict[str, tuple[int, ...]]:
    """By region, the positions of the tokens that count several times in its text."""
    found: dict[str, tuple[int, ...]] = {}
    begin = 0
    for piece in _sequences(branch):
        if piece.counts and piece.region:
            found[piece.region] = tuple(begin + i for start, stop, _ in piece.counts for i in range(start, stop))
        begin += len(piece.value)
    return found


def _sequences(branch: Conditioning) -> list[Tokens]:
    """The pieces of a branch in the order of its text sequences: those with a mask first."""
    return sorted(branch.tokens, key=lambda piece: piece.mask is None)


def _tokens(phrase: str, moment: float, prepared: Prepared) -> list[int]:
    """The token ids of a phrase at ``moment``, the fraction in [0, 1) of the steps that are done."""
    learned = prepared.ctx.model.text.learned
    text = with_token_ids(prepared.ctx.model.text, "Attention maps of phrases need")
    plain = at(phrase, moment, len(prepared.steps))
    parts = cleaned(plain, learned) if prepared.scene.method in _NORMALISED else pieces(plain)
    return [i for part in parts for i in text.token_ids(part.words)]


def _grid(model: Model, canvas: tuple[int, int]) -> tuple[int, int]:
    """The finest grid (height, width) of cross-attention that is not finer than ``READ``; without one, the coarsest."""
    grids = {site.grid for site in model.net.sites(canvas) if site.cross}
    if not grids:
        raise CapabilityError(
            f'The network of "{model.name}" has no cross-attention, which attention maps are read from.'
        )
    return max((grid for grid in grids if max(grid) <= READ), default=min(grids))
