"""What MRGD's losses look for on a pair of canvases, and which words its attention says are clearest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Plan
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError, spelled
from cloisonne.methods.layout import Placed
from cloisonne.methods.mrgd.attention import Boosted, ClearWords, spans_of
from cloisonne.methods.mrgd.losses import Losses, RegionEnergy, Wanted
from cloisonne.methods.mrgd.method import AFTER, BEFORE, CANVAS, WHOLE, latent_box, text_ids, window_feather
from cloisonne.methods.reco import tidied
from cloisonne.models.vae import Vae
from cloisonne.pipelines.editing.pair import Pair, Seen
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.prompt import escaped, plain
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.masks import Mask

if TYPE_CHECKING:
    from cloisonne.models.adapters.clipseg import Segmenter

SURE = -2.0
"""Logit above which a pixel is taken for a part of a thing."""
LEAST = 0.05
"""Share of a region below which what was found is not believed."""
GROWN = 0.04
"""How far a thing's map is grown, as a share of the picture's longer side; twice as far where nothing shall be left."""


@dataclass(eq=False)
class Listening:
    """Which words of the whole picture's view are clearest, asked half and three quarters of the way.

    reader, boosted: what reads maps, and what they are used for; ``edits`` are both. count: at most so many words.
    ids: by canvas, the tokens that the view hears; spans: by canvas and region, where its words lie among them. said:
    what is looked for, by (side, region), once clear words were found.
    """

    edits: tuple[AttentionEdit, ...] = ()
    reader: ClearWords | None = None
    boosted: Boosted | None = None
    count: int = 0
    spans: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    ids: dict[str, tuple[int, ...]] = field(default_factory=dict)
    text: Any = None
    wanted: tuple[Region, ...] = ()
    said: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, pair: Pair, both: Plan, editing: Editing) -> "Listening":
        """Of a plan of both canvases; nothing is listened to where the way of editing asks for nothing."""
        if not editing.keywords and editing.boost == "none":
            return cls()
        view = WHOLE if editing.whole else CANVAS
        own = cls(count=editing.keywords, text=pair.model.text, wanted=pair.scene.active_regions)
        heard = {v.stream: v for v in both.views if v.name == view}
        for stream, prepared in ((BEFORE, pair.before), (AFTER, pair.after)):
            ids = text_ids(heard[stream]) if stream in heard else None
            own.ids[stream] = ids or ()
            phrases = {r.name or "": own.tokens(r.phrase) for r in prepared.scene.active_regions if r.phrase}
            own.spans[stream] = spans_of(own.ids[stream], phrases)
        if editing.boost != "none":
            tokens = {stream: tuple(sorted(chain(*spans.values()))) for stream, spans in own.spans.items()}
            own.boosted = Boosted(view=view, mode=editing.boost, source=BEFORE, tokens=tokens)
        own.reader = ClearWords(view=view)
        own.edits = (own.reader, *([own.boosted] if own.boosted is not None else []))
        return own

    def tokens(self, phrase: str) -> list[int]:
        """A phrase's tokens, as they lie within a longer text."""
        return [i for piece in tidied(escaped(plain(phrase)), self.text.learned) for i in self.text.words(piece.words)]

    def words(self, step: Step) -> Mapping[tuple[str, str], str]:
        """What is looked for of each (side, region), where that is not what its region says."""
        if (
            self.reader is not None
            and self.count
            and step.count - 1 - step.index in (step.count // 2 - 1, step.count // 4 - 1)
        ):
            self._refresh(self.reader)
        return self.said

    def _refresh(self, reader: ClearWords) -> None:
        for stream, side in ((BEFORE, "before"), (AFTER, "after")):
            among = sorted(chain(*self.spans[stream].values()))
            chosen = set(reader.clearest(stream, among, self.count))
            for region in self.wanted:
                name = region.name or ""
                places = [place for place in self.spans[stream].get(name, []) if place in chosen]
                clear = [self.text.spelt(self.ids[stream][place]).strip() for place in places]
                found = list(dict.fromkeys([*region.keywords, *clear]))
                if found:
                    self.said[side, name] = ",".join(found)
            if self.boosted is not None:
                self.boosted.tokens[stream] = tuple(sorted(chosen))


def energy(pair: Pair, editing: Editing, listening: Listening) -> RegionEnergy:
    """MRGD's losses between the canvases. CapabilityError where the model has nothing that finds words."""
    vae = pair.model.vae
    return RegionEnergy(
        source=BEFORE,
        target=AFTER,
        wanted=_wanted(pair),
        kept=_kept(pair).to(pair.model.device),
        weights=Losses(**{f.name: getattr(editing, f.name) for f in fields(Losses)}),
        segmenter=_segmenter(pair),
        decode=vae.decoded if editing.decoder == "vae" else _linear(vae),
        words=listening.words,
    )


def _linear(vae: Vae) -> Callable[[Tensor], Tensor]:
    """The linear picture of latents at the size of the real one."""

    def decode(latents: Tensor) -> Tensor:
        size = (latents.shape[-2] * vae.factor, latents.shape[-1] * vae.factor)
        small = vae.preview(latents)
        return F.interpolate(small, size, mode="bilinear", align_corners=False)

    return decode


def _kept(pair: Pair) -> Tensor:
    """[H, W] in [0, 1]: 1, less the feathered windows of what is edited (L_IP's mask)."""
    kept = torch.ones(pair.grid)
    for p in pair.placed():
        if p.region.edit is not None:
            box = latent_box(p.box, pair.grid)
            kept[box.window] -= window_feather(box.bottom - box.top, box.right - box.left)
    return kept.clamp(min=0)


def _wanted(pair: Pair) -> list[Wanted]:
    """What is looked for, of all regions that say anything, but for backgrounds that stay."""
    told = [(p, *_looked_for(p)) for p in pair.placed() if p.region.priority >= 0 or p.region.edit is not None]
    told = [(p, before, after) for p, before, after in told if before or after]
    boxes = {p.name: (torch.from_numpy(p.mask) > 0).float().to(pair.model.device) for p, _, _ in told}
    found = []
    for p, before, after in told:
        alike = [boxes[q.name] for q, b, a in told if {b, a} & {before, after} - {""}]
        home = torch.stack(alike).amax(0)
        found.append(Wanted(name=p.name, box=boxes[p.name], home=home, before=before, after=after))
    return found


def _looked_for(placed: Placed) -> tuple[str, str]:
    """Words before and after: a region's keywords, or what it says. Keywords of a change are of what it becomes."""
    region, edit = placed.region, placed.region.edit
    keywords = ", ".join(region.keywords)
    if edit is None:
        return keywords or plain(region.phrase), keywords or plain(region.phrase)
    before, after = plain(edit.words_before), plain(edit.words_after)
    if not keywords:
        return before, after
    return (keywords if edit.kind == "remove" else before), (keywords if after else "")


def _segmenter(pair: Pair) -> "Segmenter":
    """What finds words in pictures. CapabilityError where the model has nothing of the kind."""
    if pair.model.segmenter is None:
        raise CapabilityError(
            f'The model "{pair.model.name}" has nothing that finds words in pictures, which this way of editing asks; '
            f"load a CLIPSeg with it, {spelled('load(..., segmenter=FOLDER)', '--segmenter FOLDER')}, or choose the "
            'preset "follow".'
        )
    return pair.model.segmenter()


def things(pair: Pair) -> Seen:
    """Where, of the edited regions, the things that come and go are seen in the pictures before and after.

    A thing's map is grown and softened; a region where next to nothing is found is taken whole.
    """
    segmenter, wanted = _segmenter(pair), [w for w in _wanted(pair) if w.before != w.after]

    @torch.no_grad()
    def seen(pictures: Tensor) -> Mask:
        height, width = pictures.shape[-2:]
        changed = np.zeros((height, width), np.float32)
        looked = [segmenter.seen(picture[None]) for picture in pictures]
        for region in wanted:
            told = [(k, text) for k, text in enumerate((region.before, region.after)) if text]
            maps = [segmenter.found(looked[k], segmenter.words([text])) for k, text in told]
            found = torch.cat(maps).amax(0)[None, None]
            found = F.interpolate(found, (height, width), mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
            box = F.interpolate(region.box[None, None], (height, width))[0, 0].cpu().numpy() > 0
            thing = box & (found > SURE)
            if thing.sum() < LEAST * box.sum():
                thing = box
            changed = np.maximum(changed, _softened(thing, GROWN if region.after else 2 * GROWN))
        return changed

    return seen


def _softened(thing: NDArray[np.bool_], grown: float) -> Mask:
    """[h, w] in [0, 1]: about 1 on the thing, then falling."""
    reach = max(1, round(grown * max(thing.shape)))
    wide = cv2.dilate(thing.astype(np.float32), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return cv2.GaussianBlur(wide, (0, 0), reach / 2).astype(np.float32)
