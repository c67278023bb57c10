"""The benchmark of region edits: each row edits the same pairs; the judge and the ground truth measure the results.

OUT/run.json                 the settings of the run; other settings are refused
OUT/rows/<row>/run.json      the settings of the row; another row of the same name is refused
OUT/rows/<row>/items.jsonl   one line per pair, written when it is measured
OUT/pictures/<row>/*.png     images before, truth and after, if requested; in mode "generated" before and after
OUT/edits.md, .json          the tables
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.items import Items, open_folder, save_picture
from cloisonne.eval.judge import COLOUR
from cloisonne.eval.metrics.bootstrap import Estimate, Sample
from cloisonne.eval.metrics.edits import Picture, Similarity, edit_figures
from cloisonne.eval.metrics.layouts import Judging
from cloisonne.eval.pairs import PAIRS, TASKS, Pair
from cloisonne.eval.report import Headings, Report, Table, estimates
from cloisonne.eval.row_names import CEILINGS, COPY, MODES, Mode
from cloisonne.eval.samples import differences_of, means, sample

TRUTH_VAE, TRUTH = CEILINGS


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """The result of a row for a pair; images uint8 [128, 128, 3].

    raw: ``after`` as decoded, before compositing. rows: network rows. seconds: time of the whole edit.
    """

    before: Picture
    after: Picture
    raw: Picture | None = None
    rows: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """make: (pair, seed) -> result. about: describes the row, to distinguish it from another of the same name."""

    make: Callable[[Pair, int], Made]
    about: str = ""


MEASURES: Headings = {
    "shown": ("before", True),
    "success": ("success", True),
    "edits": ("edits", True),
    "kept": ("kept", True),
    "leakage": ("leakage", True),
    "text": ("text", False),
    "ssim_e": ("SSIM-e", True),
    "ssim_i": ("SSIM-i", True),
    "background_psnr": ("background PSNR", False),
    "background_mse": ("background MSE x1e4", False),
    "background_ssim": ("background SSIM x1e2", False),
    "structure": ("structure x1e3", False),
    "truth_psnr": ("truth PSNR", False),
    "ghost": ("ghost", True),
    "excess": ("excess", False),
    "raw_mean": ("raw outside, mean", False),
    "raw_max": ("raw outside, max", False),
    "rows": ("rows", False),
    "seconds": ("seconds", False),
}
LEGEND = """### Columns

- before: fraction of the requested objects found in the image before, by the crops of their boxes. If a row does
  not generate the object to be removed, its success in removing it means nothing
- success: fraction of the pairs with all edits successful. Added or changed: the judge classifies the crop of the
  edit's box as the new class, and of the seven colours as the given one, if any. Removed: no object of the class has an
  IoU of 0.3 with the box, and the crop is not classified as it. edits: the same for single edits
- kept: fraction of the objects of unedited regions found in their boxes, IoU at least one half
- leakage: fraction of the cells more than one cell away from an edit's box that show its new class
- text: 100 x CLIP cosine (built-in CLIP) of the crop of the edit's box and the target phrase; additions and changes
- SSIM-e, SSIM-i: structural similarity of the lumas before and after, in the edited boxes (for additions and removals
  grown by 20 % of half of their shorter side) and in the boxes of unedited objects without the edited ones; computed on
  whole images. SSIM-e is 100 if nothing changed
- background PSNR (dB; 99 = identical), MSE, SSIM: PIE-Bench's names; before against after, outside the edited boxes.
  SSIM is computed on whole images, so windows at the border include the edit
- structure: in place of PIE-Bench's distance on DINO keys: mean squared difference of the cosine similarities of
  all of the judge's 16 x 16 cells, by its class probabilities
- truth PSNR: dB, in the edited boxes, against the ground truth; given images only
- ghost: of objects that are added, removed or replaced, how much what is wrong in the box resembles what was there: the
  correlation of after - truth and before - truth without their local means, the truth through the VAE; 0 for that, and
  for errors of another pattern, 100 for the copy. Given images only
- excess: of the same edits, root mean squared distance to the truth in the box in grey levels, less that of the truth
  through the VAE
- raw outside: difference in grey levels, outside the edited boxes, between the image before and the image after as
  decoded, before compositing; pixels outside a row's working window count as 0
- rows, seconds: network rows and time of an edit
- truth, truth-vae, copy: the ground truth, the same with its edited boxes through the VAE, and the image before
"""


def evaluate_edits(
    rows: Mapping[str, Row],
    judge: Judging,
    similarity: Similarity,
    round_trip: Callable[[Picture], Picture],
    out: Path,
    *,
    limit: int = 200,
    tasks: Sequence[str] | None = None,
    pairs: str = "edits-v1",
    mode: Mode = "real",
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Measure ``rows`` on the first ``limit`` pairs of each of ``tasks`` (None = all); returns the tables in markdown.

    pairs: the list of pairs, one of ``PAIRS``.
    mode: "real" gives the rows the image before, and adds the upper bounds and the copy; "generated" has them generate
    both. Measurements already in ``out`` are reused: the same call resumes a stopped run, adds rows or tasks, or raises
    the limit. Raises OutputError if the folder holds another run, and ValueError for an invalid argument.
    """
    chosen = tuple(task for task in TASKS if task in (tasks or TASKS))
    if limit < 1 or mode not in MODES or set(tasks or ()) - set(TASKS):
        raise ValueError(
            f"limit is {limit}, tasks are {tasks} and mode is {mode}: give a limit of at least 1, "
            f"tasks of {', '.join(TASKS)} and one of the modes {', '.join(MODES)}."
        )
    if not rows and mode != "real":
        raise ValueError("There are no rows: mode generated needs at least one.")
    open_folder(out, {"benchmark": pairs, "mode": mode, "colour": COLOUR, "seed": seed, **(about or {})})
    makers = dict(rows) | (_references(round_trip) if mode == "real" else {})
    items = {name: _items(out / "rows" / name, row) for name, row in makers.items()}
    indices = [index for index in range(limit * len(TASKS)) if TASKS[index % len(TASKS)] in chosen]
    for done, index in enumerate(indices, 1):
        missing = [name for name in makers if index not in items[name]]
        item = PAIRS[pairs](index) if missing else None
        truth = round_trip(item.after) if item and mode == "real" else None
        for name in missing:
            assert item is not None
            made = makers[name].make(item, seed + index)
            items[name].add(index, _line(made, item, judge, similarity, truth))
            if save_pictures:
                panels = [made.before, item.after, made.after] if mode == "real" else [made.before, made.after]
                save_picture(np.concatenate(panels, 1), out / "pictures" / name / f"{index:04d}.png")
        if missing or done == len(indices):
            report(f"{done} of {len(indices)} pairs")
    return _report(items, indices, chosen, mode).write(out, "edits")


def _references(round_trip: Callable[[Picture], Picture]) -> dict[str, Row]:
    """The reference rows of mode "real"."""

    def through_vae(item: Pair, seed: int) -> Made:
        decoded = round_trip(item.after)
        return Made(before=item.before, after=np.where(item.mask[..., None], decoded, item.before), raw=decoded)

    return {
        COPY: Row(make=lambda item, seed: Made(before=item.before, after=item.before)),
        TRUTH_VAE: Row(make=through_vae),
        TRUTH: Row(make=lambda item, seed: Made(before=item.before, after=item.after)),
    }


def _items(folder: Path, row: Row) -> Items:
    open_folder(folder, {"row": folder.name, "about": row.about})
    return Items(folder / "items.jsonl")


def _line(
    made: Made, item: Pair, judge: Judging, similarity: Similarity, through_vae: Picture | None
) -> dict[str, Any]:
    figures = edit_figures(made.before, made.after, made.raw, item, judge, similarity, through_vae=through_vae)
    return {**vars(figures), "rows": made.rows, "seconds": made.seconds}


def _report(items: Mapping[str, Items], indices: Sequence[int], tasks: Sequence[str], mode: str) -> Report:
    given = "The image before is given." if mode == "real" else "Both images are generated."
    parts: list[str | Table] = [
        f"### Edits of {'given' if mode == 'real' else 'generated'} images\n",
        f"{given} Percent, unless another unit is given [95 % interval, bootstrapped over pairs].\n",
    ]
    by_task = {task: [index for index in indices if TASKS[index % len(TASKS)] == task] for task in tasks}
    success: dict[str, dict[str, Estimate | None]] = {row: {} for row in items}
    for task, own in by_task.items():
        found = {row: means(one) for row, one in _samples(items, own).items()}
        parts += [f"#### {task}\n", estimates(task, f"n = {len(own)} pairs.", MEASURES, found)]
        for row, line in found.items():
            success[row][task] = line["success"]
    samples = _samples(items, indices)
    if len(tasks) > 1:
        found = {row: means(one) for row, one in samples.items()}
        parts += ["#### all tasks\n", estimates("all", f"n = {len(indices)} pairs.", MEASURES, found)]
    first = next(iter(samples))
    if apart := differences_of(samples, first):
        caption = f"Row minus {first}, paired over all of these pairs:"
        parts.append(estimates("differences", caption, MEASURES, apart))
    if len(tasks) > 1:
        parts.append(estimates("success", "", {task: (task, True) for task in tasks}, success, label="success"))
    return Report((*parts, LEGEND))


def _samples(items: Mapping[str, Items], indices: Sequence[int]) -> dict[str, dict[str, Sample]]:
    return {row: {name: sample(own, indices, name) for name in MEASURES} for row, own in items.items()}
