"""The benchmark of region edits: every row edits the same pairs, the judge and the truth measure, and tables come out.

OUT/run.json                 what was run; another run is refused
OUT/rows/<row>/run.json      what the row is; another one of the same name is refused
OUT/rows/<row>/items.jsonl   one line a pair, written as it is measured
OUT/pictures/<row>/*.png     before, truth and after, if asked for; with drawn pictures before and after
OUT/edits.md                 the tables
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.eval.items import Items, open_folder, save_picture, write_whole
from cloisonne.eval.metrics.bootstrap import Sample, difference, mean
from cloisonne.eval.metrics.edits import Picture, Similarity, edit_figures
from cloisonne.eval.metrics.layouts import Judging
from cloisonne.eval.pairs import TASKS, Pair, pair
from cloisonne.eval.report import figure, table
from cloisonne.eval.row_names import CEILINGS, COPY, MODES, Mode

TRUTH_VAE, TRUTH = CEILINGS


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """What a row made of a pair; pictures uint8 [128, 128, 3].

    raw: after as it was decoded, where nothing is put back. rows: of the network. seconds: of the whole edit.
    """

    before: Picture
    after: Picture
    raw: Picture | None = None
    rows: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """make: (pair, seed) -> what is measured. about: what tells it from another row of the same name."""

    make: Callable[[Pair, int], Made]
    about: str = ""


MEASURES = {
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
    "raw_mean": ("raw outside, mean", False),
    "raw_max": ("raw outside, max", False),
    "rows": ("rows", False),
    "seconds": ("seconds", False),
}
"""Heading of each figure, and whether it is a share."""

LEGEND = """### Columns

- before: objects that the picture before should show and does, by the crops of their boxes. Where a row draws it
  without the thing to be removed, its success in removing is empty
- success: all edits of a pair came. Added or changed: the judge takes the crop of the edit's box for the new class, and
  for the colour where one is told. Removed: no object of the class has an IoU of 0.3 with the box, and the crop is not
  taken for it. edits: the same, of single edits
- kept: objects of the other regions that are found in their boxes, IoU at least one half
- leakage: share of the cells more than one cell away from an edit's box that show its new class
- text: 100 x cosine of the built-in CLIP, crop of the edit's box and the words after; additions and changes
- SSIM-e, SSIM-i: structural similarity of the lumas before and after, in the edited boxes (those of what comes or goes
  grown by 20 % of half of their shorter side) and in the boxes of kept objects without the edited ones; mapped on whole
  pictures. SSIM-e is 100 where nothing was done
- background PSNR (dB; 99 = identical), MSE, SSIM: PIE-Bench's names; before against after, outside of the edited boxes.
  The map of SSIM is taken of whole pictures, so that windows at the border see the edit
- structure: our stand-in for PIE-Bench's distance on DINO's keys: mean squared difference of the cosine similarities of
  all of the judge's 16 x 16 cells, by its class probabilities
- truth PSNR: dB, in the edited boxes, against the known answer; given pictures only
- raw outside: difference to the picture before, in grey levels, outside of the edited boxes, of the picture after as
  decoded, before anything is put back; what lies outside of the window that a row works on counts as 0
- rows, seconds: what an edit cost: rows of the network, and time
- truth, truth-vae, copy: the known answer, the same with its edited boxes through the VAE, and nothing done
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
    mode: Mode = "real",
    seed: int = 0,
    about: Mapping[str, str | int | float] | None = None,
    save_pictures: bool = False,
    report: Callable[[str], None] = print,
) -> str:
    """Measure ``rows`` on the first ``limit`` pairs of each of ``tasks`` (None = all); returns the tables, in markdown.

    mode: "real" gives rows the picture before, beside the ceilings and the copy; "generated" has them draw both. What
    is already in ``out`` is kept, so the same call continues a run that was stopped, adds rows or tasks, or raises the
    limit. Raises OutputError for a folder that holds another run, and ValueError for an impossible request.
    """
    chosen = tuple(task for task in TASKS if task in (tasks or TASKS))
    if limit < 1 or mode not in MODES or set(tasks or ()) - set(TASKS):
        raise ValueError(
            f"limit is {limit}, tasks are {tasks} and mode is {mode}: give a limit of at least 1, "
            f"tasks of {', '.join(TASKS)} and one of the modes {', '.join(MODES)}."
        )
    if not rows and mode != "real":
        raise ValueError("There are no rows: with drawn pictures at least one must be evaluated.")
    open_folder(out, {"benchmark": "edits-v1", "mode": mode, "seed": seed, **(about or {})})
    making = dict(rows) | (_references(round_trip) if mode == "real" else {})
    kept = {name: _items(out / "rows" / name, row) for name, row in making.items()}
    indices = [index for index in range(limit * len(TASKS)) if TASKS[index % len(TASKS)] in chosen]
    for done, index in enumerate(indices, 1):
        missing = [name for name in making if index not in kept[name]]
        item = pair(index) if missing else None
        for name in missing:
            assert item is not None
            made = making[name].make(item, seed + index)
            kept[name].add(index, _line(made, item, judge, similarity, known=mode == "real"))
            if save_pictures:
                shown = [made.before, item.after, made.after] if mode == "real" else [made.before, made.after]
                save_picture(np.concatenate(shown, 1), out / "pictures" / name / f"{index:04d}.png")
        if missing or done == len(indices):
            report(f"{done} of {len(indices)} pairs")
    text = _tables(kept, indices, chosen, mode)
    write_whole(out / "edits.md", text)
    return text


def _references(round_trip: Callable[[Picture], Picture]) -> dict[str, Row]:
    """What a given picture's rows are held against."""

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


def _line(made: Made, item: Pair, judge: Judging, similarity: Similarity, *, known: bool) -> dict[str, Any]:
    figures = edit_figures(made.before, made.after, made.raw, item, judge, similarity, known=known)
    return {**vars(figures), "rows": made.rows, "seconds": made.seconds}


def _tables(kept: Mapping[str, Items], indices: Sequence[int], tasks: Sequence[str], mode: str) -> str:
    given = "The picture before is given." if mode == "real" else "Both pictures are drawn."
    parts = [
        f"### Edits of {'given' if mode == 'real' else 'drawn'} pictures\n",
        f"{given} Percent, but for what is told in other units [95 % interval, bootstrapped over pairs].\n",
    ]
    for task in tasks:
        own = [index for index in indices if TASKS[index % len(TASKS)] == task]
        parts += [f"#### {task}, n = {len(own)} pairs\n", _table(_samples(kept, own))]
    samples = _samples(kept, indices)
    if len(tasks) > 1:
        parts += [f"#### all tasks, n = {len(indices)} pairs\n", _table(samples)]
    first, *rest = samples
    if rest:
        lines = [
            [row]
            + [
                figure(difference(*_paired(samples[row][name], samples[first][name])), percent=share)
                for name, (_, share) in MEASURES.items()
            ]
            for row in rest
        ]
        parts += [f"Row minus {first}, paired over all of these pairs:\n", table(_header(), lines)]
    return "\n".join([*parts, LEGEND])


def _header() -> list[str]:
    return ["", *(title for title, _ in MEASURES.values())]


def _table(samples: Mapping[str, Mapping[str, Sample]]) -> str:
    body = [
        [row, *(figure(mean(own[name]), percent=share) for name, (_, share) in MEASURES.items())]
        for row, own in samples.items()
    ]
    return table(_header(), body)


def _samples(kept: Mapping[str, Items], indices: Sequence[int]) -> dict[str, dict[str, Sample]]:
    return {row: {name: _sample(items, indices, name) for name in MEASURES} for row, items in kept.items()}


def _sample(items: Items, indices: Sequence[int], name: str) -> Sample:
    """A figure of every pair, or a list of them; None is left out."""
    values = [items[index][name] for index in indices]
    listed: list[list[Any]] = [value if isinstance(value, list) else [value] for value in values]
    said = [[value for value in one if value is not None] for one in listed]
    return Sample(np.array([sum(one) for one in said], float), np.array([len(one) for one in said]))


def _paired(a: Sample, b: Sample) -> tuple[Sample, Sample]:
    """Both, of the pairs alone that have a figure in both."""
    both = (a.counts > 0) & (b.counts > 0)
    return Sample(a.totals * both, a.counts * both), Sample(b.totals * both, b.counts * both)
