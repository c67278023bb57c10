"""Tables of the layouts benchmark: means with intervals, paired differences, Fréchet distances, in three groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cloisonne.eval.items import Items
from cloisonne.eval.layouts import Layout
from cloisonne.eval.metrics.bootstrap import Estimate, Sample, deviation, difference, mean
from cloisonne.eval.metrics.frechet import MIN_PICTURES, frechet, gaussian_distance
from cloisonne.eval.report import Headings, Report, Table, estimates

MEASURES: Headings = {
    "found": ("found in the box", True),
    "crop": ("class on the crop", True),
    "iou": ("mIoU", True),
    "colour": ("colour", True),
    "leakage": ("leakage", True),
    "somewhere": ("found anywhere", True),
    "natural": ("natural", True),
}
"""Of a region; "natural" of a scene."""
DISTANCES: Headings = {"frechet_whole": ("Fréchet, whole", False), "frechet_crops": ("Fréchet, crops", False)}
TITLES = {"truth-vae": "truth through the VAE"}
"""Labels of rows that are not their names."""

LEGEND = """### Columns

- found in the box: the judge's dense map shows an object of the right class whose box has an IoU of at least 0.5 with
  the requested one
- class on the crop: the crop of the requested box is classified correctly among all training glyphs
- mIoU: of the requested box with the nearest found object of the right class, 0 if there is none
- colour: of the seven colours, the crop has the one in the phrase, if the phrase names one
- leakage: fraction of the cells more than one cell outside the box that show its class
- found anywhere: an object of the right class is somewhere in the image
- natural: the image is in the natural style, as no caption names another
- Fréchet: squared Fréchet distance to real images of other scenes on the judge's embedding, of whole images and of the
  requested boxes' crops

The row caption names the objects in its prompt and has no boxes; the other rows have the background as prompt, and the
regions.
"""

Belongs = Callable[[Layout, int], bool]
GROUPS: dict[str, tuple[str, Belongs]] = {
    "all": ("Compositions of the training world", lambda layout, k: not layout.held_out),
    "overlapped": ("Overlapped boxes among these", lambda layout, k: not layout.held_out and layout.overlapped(k)),
    "held-out": ("Held-out compositions", lambda layout, k: layout.held_out),
}
"""Title of each group, and whether region k of a layout belongs to it. The first group is the main result."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The table of one group: row -> key of ``MEASURES`` or ``DISTANCES`` -> estimate, or None."""

    title: str
    scenes: int
    regions: int
    rows: dict[str, dict[str, Estimate | None]]
    differences: dict[str, dict[str, Estimate | None]]
    """Row minus the first row, in ``MEASURES``."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All tables of a run, by the keys of ``GROUPS``."""

    groups: dict[str, Group]

    def report(self) -> Report:
        """The tables: percent with 95 % intervals, distances in the judge's units."""
        parts = [part for key, group in self.groups.items() if group.scenes for part in _section(key, group)]
        return Report((*parts, LEGEND))


def summarise(
    chosen: Sequence[Layout], references: Sequence[Layout], rows: Mapping[str, Items], reference: Items
) -> Results:
    """Tables of ``rows``, which have an item for each layout in ``chosen``.

    ``reference`` has an item for each of ``references``, real images of other scenes.
    """
    groups = {}
    for key, (title, belongs) in GROUPS.items():
        members = _members(chosen, belongs)
        others = _members(references, belongs)
        real = {name: _embeddings(reference, others, name) for name in DISTANCES}
        samples = {row: {name: _sample(items, members, name) for name in MEASURES} for row, items in rows.items()}
        first = next(iter(samples.values()))
        groups[key] = Group(
            title=title,
            scenes=len(members),
            regions=sum(map(len, members.values())),
            rows={
                row: {name: mean(sample) for name, sample in samples[row].items()}
                | {name: distance(_embeddings(rows[row], members, name), real[name]) for name in DISTANCES}
                for row in rows
            },
            differences={
                row: {name: difference(sample, first[name]) for name, sample in own.items()}
                for row, own in list(samples.items())[1:]
            },
        )
    return Results(groups=groups)


def _members(items: Sequence[Layout], belongs: Belongs) -> dict[int, list[int]]:
    """Index of each layout with regions in the group -> the indices of these regions."""
    regions = {layout.index: [k for k in range(len(layout.regions)) if belongs(layout, k)] for layout in items}
    return {index: own for index, own in regions.items() if own}


def _sample(items: Items, members: dict[int, list[int]], name: str) -> Sample:
    if name == "natural":
        values = [[items[index]["natural"]] for index in members]
    else:
        values = [[items[index]["regions"][k][name] for k in own] for index, own in members.items()]
    present = [[value for value in scene if value is not None] for scene in values]
    return Sample(np.array([sum(scene) for scene in present], float), np.array([len(scene) for scene in present]))


def _embeddings(items: Items, members: dict[int, list[int]], name: str) -> list[np.ndarray]:
    """The embeddings [n, 64] of each scene: of the image, or of the crops of its regions in the group."""
    if name == "frechet_whole":
        return [np.array([items[index]["whole"]]) for index in members]
    return [np.array(items[index]["crops"])[own] for index, own in members.items()]


def distance(scenes: Sequence[np.ndarray], real: Sequence[np.ndarray]) -> Estimate | None:
    """Fréchet distance of embeddings, [n, D] per scene, to those of real images; None if there are too few."""
    n = sum(map(len, scenes))
    if min(n, sum(map(len, real))) < MIN_PICTURES:
        return None
    target = np.concatenate(real)

    def value_of(indices: np.ndarray) -> float:
        return gaussian_distance(np.concatenate([scenes[index] for index in indices]), target)

    value, error = frechet(np.concatenate(scenes), target), 1.96 * deviation(len(scenes), value_of)
    return Estimate(value=value, low=max(0.0, value - error), high=value + error, n=n, scenes=len(scenes))


def _section(key: str, group: Group) -> list[str | Table]:
    title = f"### {group.title}\n"
    parts = [title, estimates(key, _about(group), {**MEASURES, **DISTANCES}, group.rows, titles=TITLES)]
    if group.differences:
        caption = f"Row minus {next(iter(group.rows))}, paired by scene:"
        parts.append(estimates(f"{key}-differences", caption, MEASURES, group.differences, titles=TITLES))
    return parts


def _about(group: Group) -> str:
    """The summary line of a section: sample sizes and units."""
    coloured = next(iter(group.rows.values()))["colour"]
    summary = (
        f"n = {group.scenes} scenes, {group.regions} boxes, {coloured.n if coloured else 0} with a colour. "
        "Percent [95 % interval, bootstrapped over scenes]."
    )
    if min(group.scenes, group.regions) < MIN_PICTURES:
        summary += f" Fréchet distances need at least {MIN_PICTURES} images."
    if floor := group.rows.get("truth", {}).get("frechet_whole"):
        summary += f" Floor of the Fréchet distance, real images against other real ones: whole {floor.value:.2f}"
        crops = group.rows["truth"]["frechet_crops"]
        summary += f", crops {crops.value:.2f}." if crops else "."
    return summary
