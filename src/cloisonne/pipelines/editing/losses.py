"""Inputs of MRGD's losses for a pair of canvases: segmentation prompts, masks, and keywords chosen by attention."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Plan
from cloisonne.core.run import Run
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError, spelled
from cloisonne.methods.layout import Placed
from cloisonne.methods.mrgd.attention import Boosted, ClearWords, spans_of
from cloisonne.methods.mrgd.losses import Losses, Prompts, RegionEnergy, Wanted
from cloisonne.methods.mrgd.method import AFTER, BEFORE, CANVAS, WHOLE, latent_box, text_ids, window_feather
from cloisonne.methods.reco import cleaned
from cloisonne.models.text.encoder import TokenIdEncoder, with_token_ids
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.models.vae import Vae
from cloisonne.pipelines.editing.pair import Pair, Segment
from cloisonne.pipelines.prepare import Prepared
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.prompt import escaped, plain
from cloisonne.scene.region import Region
from cloisonne.scene.shapes.masks import Mask

if TYPE_CHECKING:
    from cloisonne.models.adapters.clipseg import Segmenter

Side = Literal["before", "after"]

SURE = -2.0
"""Logit above which a pixel belongs to an object."""
LEAST = 0.05
"""An object's mask is ignored if it covers less than this fraction of its region."""
GROWN = 0.04
"""Dilation of an object's mask, as a fraction of the image's longer side; twice as much where an object is removed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeywordSelection:
    """Selects the words with the sharpest attention maps in the whole image's view, after 1/2 and 3/4 of the steps.

    reader: reads the maps. boosted: strengthens the selected tokens. count: the most words to select. text: the text
    encoder. streams: by side, the name of the canvas. ids: by side, the view's token ids. spans: by side and region,
    positions of the region's words among them. A run keeps the selected prompts.
    """

    reader: ClearWords
    boosted: Boosted | None
    count: int
    text: TokenIdEncoder
    wanted: tuple[Region, ...]
    streams: Mapping[Side, str]
    ids: Mapping[Side, tuple[int, ...]]
    spans: Mapping[Side, Mapping[str, list[int]]]

    @classmethod
    def of(cls, pair: Pair, both: Plan, editing: Editing) -> "KeywordSelection | None":
        """For a plan of both canvases; None where the settings use neither keywords nor boost."""
        if not editing.keywords and editing.boost == "none":
            return None
        text = with_token_ids(pair.model.text, "Editing settings with keywords or a boost need")
        name = WHOLE if editing.whole else CANVAS
        views = {view.stream: view for view in both.views if view.name == name}
        streams: dict[Side, str] = {"before": BEFORE, "after": AFTER}
        halves: dict[Side, Prepared] = {"before": pair.before, "after": pair.after}
        ids: dict[Side, tuple[int, ...]] = {}
        spans: dict[Side, dict[str, list[int]]] = {}
        for side, stream in streams.items():
            ids[side] = (text_ids(views[stream]) if stream in views else None) or ()
            regions = halves[side].scene.active_regions
            phrases = {r.name or "": _token_ids(r.phrase, text, pair.model.text.learned) for r in regions if r.phrase}
            spans[side] = spans_of(ids[side], phrases)
        boosted = None
        if editing.boost != "none":
            tokens = {streams[side]: tuple(sorted(chain(*own.values()))) for side, own in spans.items()}
            boosted = Boosted(view=name, mode=editing.boost, source=BEFORE, tokens=tokens)
        return cls(
            reader=ClearWords(view=name),
            boosted=boosted,
            count=editing.keywords,
            text=text,
            wanted=pair.scene.active_regions,
            streams=streams,
            ids=ids,
            spans=spans,
        )

    @property
    def edits(self) -> tuple[AttentionEdit, ...]:
        """The reader and the boost."""
        return (self.reader,) if self.boosted is None else (self.reader, self.boosted)

    def prompts(self, step: Step, run: Run) -> Prompts:
        """Segmentation prompts by (side, region) that replace the region's own phrase."""
        left = step.count - 1 - step.index
        found: dict[tuple[str, str], str] = run.state((KeywordSelection, self.streams["before"]), dict)
        if self.count and left in (step.count // 2 - 1, step.count // 4 - 1):
            for side in self.streams:
                found |= self._selected(side, run)
        return found

    def in_scene(self, scene: str) -> "KeywordSelection":
        """The same for streams named ``scene/stream``."""
        return replace(
            self,
            boosted=None if self.boosted is None else self.boosted.in_scene(scene),
            streams={side: f"{scene}/{stream}" for side, stream in self.streams.items()},
        )

    def _selected(self, side: Side, run: Run) -> Prompts:
        """The prompts of one side by what the run has read; the boost is of the selected tokens from now on."""
        stream, spans = self.streams[side], self.spans[side]
        chosen = set(self.reader.clearest(stream, sorted(chain(*spans.values())), self.count, run))
        found: dict[tuple[str, str], str] = {}
        for region in self.wanted:
            name = region.name or ""
            places = [place for place in spans.get(name, []) if place in chosen]
            clear = [self.text.token_text(self.ids[side][place]).strip() for place in places]
            if words := list(dict.fromkeys([*region.keywords, *clear])):
                found[side, name] = ",".join(words)
        if self.boosted is not None:
            self.boosted.state(stream, run).tokens = tuple(sorted(chosen))
        return found


def _token_ids(phrase: str, text: TokenIdEncoder, learned: LearnedWords) -> list[int]:
    """Token ids of a phrase inside a longer text. learned: the encoder's learned words."""
    return [i for piece in cleaned(escaped(plain(phrase)), learned) for i in text.token_ids(piece.words)]


def energy(pair: Pair, editing: Editing, selection: KeywordSelection | None) -> RegionEnergy:
    """MRGD's losses between the canvases. Raises CapabilityError where the model has no segmenter."""
    vae = pair.model.vae
    return RegionEnergy(
        source=BEFORE,
        target=AFTER,
        wanted=_wanted(pair),
        preserved=_preserved(pair).to(pair.model.device),
        weights=Losses(**{f.name: getattr(editing, f.name) for f in fields(Losses)}),
        segmenter=_segmenter(pair),
        decode=vae.decoded if editing.decoder == "vae" else _linear(vae),
        keywords=selection,
    )


def _linear(vae: Vae) -> Callable[[Tensor], Tensor]:
    """A linear decoder of latents at the VAE's output size."""

    def decode(latents: Tensor) -> Tensor:
        size = (latents.shape[-2] * vae.factor, latents.shape[-1] * vae.factor)
        small = vae.preview(latents)
        return F.interpolate(small, size, mode="bilinear", align_corners=False)

    return decode


def _preserved(pair: Pair) -> Tensor:
    """L_IP's mask [H, W] in [0, 1]: 1 minus the feathered windows of the edited regions."""
    preserved = torch.ones(pair.grid)
    for p in pair.placed():
        if p.region.edit is not None:
            box = latent_box(p.box, pair.grid)
            preserved[box.window] -= window_feather(box.bottom - box.top, box.right - box.left)
    return preserved.clamp(min=0)


def _wanted(pair: Pair) -> list[Wanted]:
    """Segmentation targets of all regions with text, except unedited backgrounds."""
    candidates = [p for p in pair.placed() if p.region.priority >= 0 or p.region.edit is not None]
    prompts = [(p, *_segmentation_prompts(p)) for p in candidates]
    prompts = [(p, before, after) for p, before, after in prompts if before or after]
    boxes = {p.name: (torch.from_numpy(p.mask) > 0).float().to(pair.model.device) for p, _, _ in prompts}
    found = []
    for p, before, after in prompts:
        same = [boxes[q.name] for q, b, a in prompts if {b, a} & {before, after} - {""}]
        home = torch.stack(same).amax(0)
        found.append(Wanted(name=p.name, box=boxes[p.name], home=home, before=before, after=after))
    return found


def _segmentation_prompts(placed: Placed) -> tuple[str, str]:
    """Prompts before and after: a region's keywords, else its phrase. A changed region's keywords describe after."""
    region, edit = placed.region, placed.region.edit
    keywords = ", ".join(region.keywords)
    if edit is None:
        return keywords or plain(region.phrase), keywords or plain(region.phrase)
    before, after = plain(edit.words_before), plain(edit.words_after)
    if not keywords:
        return before, after
    return (keywords if edit.kind == "remove" else before), (keywords if after else "")


def _segmenter(pair: Pair) -> "Segmenter":
    """The model's segmenter. Raises CapabilityError where it has none."""
    if pair.model.segmenter is None:
        raise CapabilityError(
            f'The model "{pair.model.name}" has no segmenter, which these editing settings need; load a CLIPSeg with '
            f"it, {spelled('load(..., segmenter=FOLDER)', '--segmenter FOLDER')}, or choose the preset "
            '"follow".'
        )
    return pair.model.segmenter()


def changed_objects(pair: Pair) -> Segment:
    """A function that segments the changed objects of the edited regions in the decoded images before and after.

    An object's mask is dilated and blurred. Where almost nothing is found, the whole region counts.
    """
    segmenter, wanted = _segmenter(pair), [w for w in _wanted(pair) if w.before != w.after]

    @torch.no_grad()
    def segmented(images: Tensor) -> Mask:
        height, width = images.shape[-2:]
        changed = np.zeros((height, width), np.float32)
        encoded = [segmenter.image_features(image[None]) for image in images]
        for region in wanted:
            prompts = [(k, text) for k, text in enumerate((region.before, region.after)) if text]
            maps = [segmenter.logits(encoded[k], segmenter.encode_texts([text])) for k, text in prompts]
            found = torch.cat(maps).amax(0)[None, None]
            found = F.interpolate(found, (height, width), mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
            box = F.interpolate(region.box[None, None], (height, width))[0, 0].cpu().numpy() > 0
            mask = box & (found > SURE)
            if mask.sum() < LEAST * box.sum():
                mask = box
            changed = np.maximum(changed, _softened(mask, GROWN if region.after else 2 * GROWN))
        return changed

    return segmented


def _softened(mask: NDArray[np.bool_], grown: float) -> Mask:
    """The mask dilated and blurred, [h, w] in [0, 1]."""
    reach = max(1, round(grown * max(mask.shape)))
    wide = cv2.dilate(mask.astype(np.float32), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    return cv2.GaussianBlur(wide, (0, 0), reach / 2).astype(np.float32)
