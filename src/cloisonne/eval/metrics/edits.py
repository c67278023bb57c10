"""Metrics of an edited image: success of the edits, preservation of the rest, structure, distance to the truth.

Images are uint8 [128, 128, 3]. SSIM is computed on whole images and then averaged over a part of the map, so that no
constant area counts as similar.
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
"""Crops of any size and as many texts -> 100 times the cosine of each pair."""

GONE = 0.3
"""A removal fails if an object of the class has at least this IoU with the edit's box."""
FEATHER = 0.2
"""Fraction of half the shorter side by which boxes of additions and removals grow for SSIM-e."""
LOCAL = 8.0
"""Standard deviation in pixels of the local mean that the ghost's patterns are without."""
MOST_PSNR = 99.0
"""PSNR in dB of identical images."""
_C1, _C2 = 0.01**2, 0.03**2
"""Constants of SSIM for a range of 1."""


@dataclass(frozen=True, kw_only=True)
class EditFigures:
    """The figures of one pair; None if there is nothing to measure. The field names are those of the JSON records.

    shown: whether each requested object is found in the image before, by its box's crop. success: all edits succeeded.
    edits: whether each did. kept: whether each unedited object is found in its box. leakage: for each addition or
    change, the fraction of the cells more than one cell away from its box that show the new class. text: 100 x CLIP
    cosine of the crop and the phrase, for the same edits. ssim_e, ssim_i: in the edited boxes, and in those of unedited
    objects, before against after. background_psnr (dB), background_mse, background_ssim: outside the edits' boxes,
    before against after. structure: see :func:`structure`. truth_psnr: dB, in the edits' boxes, against the ground
    truth. ghost, excess: for each object that is added, removed or replaced, see :func:`ghost` and :func:`excess`.
    raw_mean, raw_max: differences outside, in grey levels, of the image before compositing.
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
    ghost: list[float]
    excess: list[float]
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
    through_vae: Picture | None,
) -> EditFigures:
    """Measure an edit of ``before`` against the item.

    raw: ``after`` before compositing. through_vae: the item's ``after`` through the VAE, where ``before`` is the item's
    own, so that the item's ``after`` is the truth.
    """
    wanted = [edit.after or edit.before for edit in item.edits]
    regions = measure(after, [*item.unchanged.values(), *(one for one in wanted if one)], judge).regions
    requested = [*item.unchanged.values(), *(edit.before for edit in item.edits if edit.before)]
    of_edits = list(zip(item.edits, regions[len(item.unchanged) :], strict=True))
    succeeded = [_succeeded(edit, seen) for edit, seen in of_edits]
    targets = [(edit.box, edit.after.phrase) for edit in item.edits if edit.after]
    similarities = ssim_map(before, after)
    outside = ~item.mask
    inherent = covered([one.box for one in item.unchanged.values()]) & outside
    redrawn = [(edit.box, through_vae) for edit in item.edits if edit.edit.redraws and through_vae is not None]
    apart = None if raw is None else np.abs(raw.astype(int) - before)[outside]
    return EditFigures(
        shown=[seen.crop for seen in measure(before, requested, judge).regions],
        success=all(succeeded),
        edits=succeeded,
        kept=[seen.found for seen in regions[: len(item.unchanged)]],
        leakage=[seen.leakage for edit, seen in of_edits if edit.after],
        text=similarity([_cut(after, box) for box, _ in targets], [phrase for _, phrase in targets]),
        ssim_e=float(similarities[_edit_areas(item)].mean()),
        ssim_i=float(similarities[inherent].mean()) if inherent.any() else None,
        background_psnr=psnr(before, after, outside),
        background_mse=mse(before, after, outside) * 1e4,
        background_ssim=float(similarities[outside].mean()) * 1e2,
        structure=structure(before, after, judge) * 1e3,
        truth_psnr=None if through_vae is None else psnr(item.after, after, item.mask),
        ghost=[ghost(before, after, vae, box) for box, vae in redrawn],
        excess=[excess(*(_cut(rgb, box) for rgb in (item.after, after, vae))) for box, vae in redrawn],
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


def ghost(before: Picture, after: Picture, truth: Picture, box: Box) -> float:
    """How much what is wrong in a box resembles what was there: the correlation of after - truth and before - truth.

    Both without their local means. 1 for the image before, 0 for the truth and for errors of another pattern.
    """
    old, new = (_details(rgb.astype(np.float64) - truth, box) for rgb in (before, after))
    energy = float(np.square(old).sum() * np.square(new).sum())
    return float((old * new).sum() / np.sqrt(energy)) if energy else 0.0


def _details(differences: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """Differences [h, w, 3] less their local means, in a box."""
    x0, y0, x1, y1 = pixels(box)
    return (differences - cv2.GaussianBlur(differences, (0, 0), LOCAL))[y0:y1, x0:x1]


def excess(truth: Picture, after: Picture, through_vae: Picture) -> float:
    """Root mean squared distance to the truth, less that of the truth through the VAE, in grey levels."""
    ours, least = (float(np.sqrt(np.square(rgb.astype(np.float64) - truth).mean())) for rgb in (after, through_vae))
    return ours - least


def psnr(a: Picture, b: Picture, where: NDArray[np.bool_]) -> float:
    """PSNR in dB over the pixels ``where`` [h, w]; at most 99, for identical pixels."""
    error = mse(a, b, where)
    return min(MOST_PSNR, float(-10 * np.log10(error))) if error else MOST_PSNR


@torch.no_grad()
def structure(a: Picture, b: Picture, judge: Judging) -> float:
    """Mean squared difference of the self-similarity matrices of a and b.

    The similarity of two of the judge's 16 x 16 cells is the cosine of their class probabilities. It replaces the
    structure distance of PIE-Bench on DINO keys, and has another scale.
    """
    probabilities = judge(batch(np.stack([a, b]))).classes.softmax(1).flatten(2)
    places = F.normalize(probabilities, dim=1)
    first, second = places.transpose(1, 2) @ places
    return float((first - second).square().mean())


class ClipSimilarity:
    """CLIP similarity of crops and texts, by a family's ``clip`` model."""

    def __init__(self, folder: Path) -> None:
        """folder: of the family. Raises CheckpointError if ``clip`` or ``tokenizer`` is missing."""
        self._clip: Any = read(folder / "clip", partial(pretrained, CLIPModel, dtype=torch.float32)).eval()
        self._tokenizer: Any = read(folder / "tokenizer", partial(AutoTokenizer.from_pretrained, local_files_only=True))

    @torch.no_grad()
    def __call__(self, crops: Sequence[Picture], texts: Sequence[str]) -> list[float]:
        if not texts:
            return []
        config = self._clip.config
        length, side = config.text_config.max_position_embeddings, config.vision_config.image_size
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        sized = [np.asarray(cv2.resize(crop, (side, side), interpolation=cv2.INTER_LINEAR)) for crop in crops]
        out = self._clip(input_ids=tokens.input_ids, pixel_values=normalised(np.stack(sized).astype(np.uint8)))
        cosines: Tensor = F.cosine_similarity(out.image_embeds, out.text_embeds)
        return [100 * float(value) for value in cosines]


def _succeeded(edit: Edited, seen: Measured) -> bool:
    """Whether an edit succeeded. seen: the figures of its box for the new object, or for the removed one."""
    if edit.kind == "remove":
        return not (seen.iou >= GONE or seen.crop)
    return seen.crop and seen.colour is not False


def _edit_areas(item: Pair) -> NDArray[np.bool_]:
    """[128, 128]: the edits' boxes; those of additions and removals grow by ``FEATHER``."""
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
