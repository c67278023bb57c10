"""What is measured of an edited picture: whether the edits came, what stayed, how well they sit, what was touched.

Pictures are uint8 [128, 128, 3]. SSIM is mapped on whole pictures and averaged over a part of the map afterwards, so
that no constant area counts as alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoTokenizer, CLIPModel

from cloisonne.eval.metrics.holes import batch
from cloisonne.eval.metrics.layouts import Judging, Measured, measure
from cloisonne.eval.pairs import SIZE, Edited, Pair, covered, pixels
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.models.checkpoints.files import pretrained, read
from cloisonne.scene import Box

Picture = NDArray[np.uint8]
Similarity = Callable[[Sequence[Picture], Sequence[str]], list[float]]
"""Crops of any size and as many texts -> 100 times the cosine of each with its own."""

GONE = 0.3
"""A removed object is there still where one of its class has at least this IoU with the edit's box."""
FEATHER = 0.2
"""Share of half of the shorter side by which boxes of what comes or goes grow for SSIM-e."""
MOST_PSNR = 99.0
"""PSNR, dB, of what is identical."""
_C1, _C2 = 0.01**2, 0.03**2
"""Of SSIM, for a range of 1."""


@dataclass(frozen=True, kw_only=True)
class EditFigures:
    """One pair's figures; None where there is nothing to measure.

    shown: whether the picture before shows each object that it should, by its box's crop: without it nothing is there
    to be removed. success: every edit came. edits: whether each did. kept: whether each kept object is found in its
    box. leakage: of each edit that shows something new, the share of the cells more than one cell away from its box
    that show that class. text: 100 x cosine of the built-in CLIP, crop and words, of the same edits. ssim_e, ssim_i: in
    the edited places, and in those of kept objects, before against after. background_psnr (dB), background_mse,
    background_ssim: outside of the edits' boxes, before against after. structure: see :func:`structure`. truth_psnr:
    dB, in the edits' boxes, against the known answer. raw_mean, raw_max: differences outside, in grey levels, of the
    picture as decoded.
    """

    shown: list[bool]
    success: bool
    edits: list[bool]
    kept: list[bool]
    leakage: list[float]
    text: list[float]
    ssim_e: float
    ssim_i: float | None
    background_psnr: float
    background_mse: float
    background_ssim: float
    structure: float
    truth_psnr: float | None
    raw_mean: float | None
    raw_max: int | None


def edit_figures(
    before: Picture,
    after: Picture,
    raw: Picture | None,
    item: Pair,
    judge: Judging,
    similarity: Similarity,
    *,
    known: bool,
) -> EditFigures:
    """Measure an edit of ``before`` by what the item asks.

    raw: after as it was decoded. known: before is the item's own, so that its after is the answer.
    """
    wanted = [edit.after or edit.before for edit in item.edits]
    regions = measure(after, [*item.kept.values(), *(one for one in wanted if one)], judge).regions
    asked = [*item.kept.values(), *(edit.before for edit in item.edits if edit.before)]
    of_edits = list(zip(item.edits, regions[len(item.kept) :], strict=True))
    came = [_came(edit, seen) for edit, seen in of_edits]
    shown = [(edit.box, edit.after.phrase) for edit in item.edits if edit.after]
    likeness = ssim_map(before, after)
    outside = ~item.mask
    inherent = covered([one.box for one in item.kept.values()]) & outside
    apart = None if raw is None else np.abs(raw.astype(int) - before)[outside]
    return EditFigures(
        shown=[seen.crop for seen in measure(before, asked, judge).regions],
        success=all(came),
        edits=came,
        kept=[seen.found for seen in regions[: len(item.kept)]],
        leakage=[seen.leakage for edit, seen in of_edits if edit.after],
        text=similarity([_cut(after, box) for box, _ in shown], [phrase for _, phrase in shown]),
        ssim_e=float(likeness[_around_edits(item)].mean()),
        ssim_i=float(likeness[inherent].mean()) if inherent.any() else None,
        background_psnr=psnr(before, after, outside),
        background_mse=mse(before, after, outside) * 1e4,
        background_ssim=float(likeness[outside].mean()) * 1e2,
        structure=structure(before, after, judge) * 1e3,
        truth_psnr=psnr(item.after, after, item.mask) if known else None,
        raw_mean=None if apart is None else float(apart.mean()),
        raw_max=None if apart is None else int(apart.max()),
    )


def ssim_map(a: Picture, b: Picture) -> NDArray[np.float64]:
    """[h, w]: structural similarity of the lumas (Wang et al. 2004), Gaussian window of 11 x 11 with sigma 1.5."""
    x, y = (cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2GRAY).astype(np.float64) for rgb in (a, b))

    def blurred(values: Any) -> Any:
        return cv2.GaussianBlur(values, (11, 11), 1.5)

    mx, my = blurred(x), blurred(y)
    vx, vy, shared = blurred(x * x) - mx**2, blurred(y * y) - my**2, blurred(x * y) - mx * my
    return (2 * mx * my + _C1) * (2 * shared + _C2) / ((mx**2 + my**2 + _C1) * (vx + vy + _C2))


def mse(a: Picture, b: Picture, where: NDArray[np.bool_]) -> float:
    """Mean squared difference over the pixels ``where`` [h, w], for a range of 1."""
    return float(np.square((a.astype(np.float64) - b)[where] / 255).mean())


def psnr(a: Picture, b: Picture, where: NDArray[np.bool_]) -> float:
    """dB over the pixels ``where`` [h, w]; at most 99, which is what identical ones have."""
    error = mse(a, b, where)
    return min(MOST_PSNR, float(-10 * np.log10(error))) if error else MOST_PSNR


@torch.no_grad()
def structure(a: Picture, b: Picture, judge: Judging) -> float:
    """Mean squared difference of how like each other the places of a picture are, in a and in b.

    Likeness: cosine of the judge's class probabilities in two of its 16 x 16 cells. It stands in for PIE-Bench's
    structure distance, which takes keys of DINO, and is on another scale.
    """
    probabilities = judge(batch(np.stack([a, b]))).classes.softmax(1).flatten(2)
    places = F.normalize(probabilities, dim=1)
    first, second = places.transpose(1, 2) @ places
    return float((first - second).square().mean())


class ClipSimilarity:
    """How well crops fit words, by a family's contrastive pair of towers."""

    def __init__(self, folder: Path) -> None:
        """folder: of the family. Raises CheckpointError where it lacks ``clip`` or ``tokenizer``."""
        self._clip: Any = read(folder / "clip", partial(pretrained, CLIPModel, dtype=torch.float32)).eval()
        self._tokenizer: Any = read(folder / "tokenizer", partial(AutoTokenizer.from_pretrained, local_files_only=True))

    @torch.no_grad()
    def __call__(self, crops: Sequence[Picture], texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        config = self._clip.config
        length, side = config.text_config.max_position_embeddings, config.vision_config.image_size
        told = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        sized = [np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_LINEAR)) for crop in crops]
        out = self._clip(input_ids=told.input_ids, pixel_values=normalised(np.stack(sized).astype(np.uint8)))
        cosines: Tensor = F.cosine_similarity(out.image_embeds, out.text_embeds)
        return [100 * float(value) for value in cosines]


def _came(edit: Edited, seen: Measured) -> bool:
    """Whether an edit succeeded. seen: in its box, for what is wanted there, or for what was removed."""
    if edit.kind == "remove":
        return not (seen.iou >= GONE or seen.crop)
    return seen.crop and seen.colour is not False


def _around_edits(item: Pair) -> NDArray[np.bool_]:
    """[128, 128]: the edits' boxes, those of what comes or goes grown by the feather."""
    boxes = []
    for edit in item.edits:
        x0, y0, x1, y1 = pixels(edit.box)
        grown = 0 if edit.kind == "change" else int(min(x1 - x0, y1 - y0) // 2 * FEATHER)
        low = [max(0, value - grown) / SIZE for value in (x0, y0)]
        high = [min(SIZE, value + grown) / SIZE for value in (x1, y1)]
        boxes.append((*low, *high))
    return covered(boxes)


def _cut(rgb: Picture, box: Box) -> Picture:
    x0, y0, x1, y1 = pixels(box)
    return rgb[y0:y1, x0:x1]
