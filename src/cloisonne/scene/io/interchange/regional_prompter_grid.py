"""The cells of Regional Prompter's matrix mode: an image divided by ratios, once or in two levels.

With columns as the main direction, ``,`` divides from left to right; with ``;`` the image is first divided into rows,
and the first number of each row is its height: "1,2,3;2,1" is a row of height 1 divided 2 : 3 above one of height 2
that is not divided. With rows it is the same with rows and columns, and ``,`` and ``;``, exchanged. ADDROW and ADDCOL
in the prompt give the number of cells; ratios that are missing repeat the last one, further ones go to the next row.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.shapes.geometry import Box
from cloisonne.scene.values import brief

_Rows = list[list[float]]


class Grid(NamedTuple):
    """The cells of an image, in the order of their texts.

    Attributes:
        boxes: in fractions.
        counts: number of cells of each row; of each column, if the image is first divided into columns.
        groups: for each text, the cell that it belongs to.
    """

    boxes: list[Box]
    counts: list[int]
    groups: list[int]

    @classmethod
    def of(cls, ratios: str, keys: Sequence[str], *, columns: bool, report: Report) -> "Grid":
        """Divide an image.

        Args:
            ratios: numbers between , and ;.
            keys: the keywords between the texts.
            columns: whether "," divides from left to right.
            report: called with a sentence for each part that was changed.

        Raises:
            SceneError: a ratio is negative, or all are 0.
        """
        outer, inner = ("ADDROW", "ADDCOL") if columns else ("ADDCOL", "ADDROW")
        used = {outer, inner} & set(keys)
        flat = ";" not in ratios
        rows = ratios_of(ratios, missing=1.0, report=report, outer=";" if columns else ",")
        if flat:
            (line,) = ratios_of(ratios, missing=1.0, report=report)
            rows = [[one] for one in line] if used == {outer} else [[1.0, *line]] if len(used) < 2 else rows
        counts, groups = _by_keys(keys, outer, inner) if used else _by_ratios(rows, len(keys) + 1, report)
        heights, widths = _broadcast_with_size(rows, counts)
        if min((*heights, *(one for row in widths for one in row))) < 0:
            raise SceneError(f"RP Ratios is {brief(ratios)}; give ratios that are not negative.")
        boxes: list[Box] = []
        for (y0, y1), row in zip(_spans(heights, ratios), widths, strict=True):
            for x0, x1 in _spans(row, ratios):
                boxes.append((x0, y0, x1, y1) if columns else (y0, x0, y1, x1))
        return cls(boxes, counts, groups)

    def texts(self, parts: Sequence[str], report: Report) -> tuple[str, ...]:
        """The text of each cell. Texts that share a cell are joined."""
        cells: list[list[str]] = [[] for _ in self.boxes]
        for cell, part in zip(self.groups, parts, strict=True):
            cells[cell].append(part)
        if any(len(own) > 1 for own in cells):
            report(f"There are {len(parts)} texts for {len(cells)} cells; those of one cell are joined by commas.")
        return tuple(", ".join(filter(None, own)) for own in cells)


def ratios_of(text: str, *, missing: float, report: Report, outer: str = ";") -> _Rows:
    """Numbers between ``outer`` and the other of , and ;, as rows. What is no number is ``missing``."""
    inner = "," if outer == ";" else ";"

    def number(part: str) -> float:
        try:
            return float(part)
        except ValueError:
            if part.strip():
                report(f"The ratios {brief(text)} have {brief(part)}, which is taken as {missing:g}.")
            return missing

    return [[number(part) for part in row.split(inner)] for row in text.split(outer)]


def broadcast(rows: _Rows, counts: Sequence[int]) -> _Rows:
    """Fit rows to the numbers of cells: the last value is repeated, further ones go to the next row."""
    found: _Rows = []
    for row in rows:
        left = list(row)
        while left and len(found) < len(counts):
            count = counts[len(found)]
            found.append((left + left[-1:] * count)[:count])
            left = left[count:]
    return found + [[rows[-1][-1]] * count for count in counts[len(found) :]]


def _broadcast_with_size(rows: _Rows, counts: Sequence[int]) -> tuple[list[float], _Rows]:
    """The same for rows whose first value is the size of the row itself."""
    sizes: list[float] = []
    found: _Rows = []
    for row in rows:
        left = list(row)
        while left and len(found) < len(counts):
            count = counts[len(found)]
            sizes.append(left[0])
            own = left[1:] or left
            found.append((own + own[-1:] * count)[:count])
            left = own[count:]
    missing = counts[len(found) :]
    return sizes + sizes[-1:] * len(missing), found + [[1.0] * count for count in missing]


def _by_keys(keys: Sequence[str], outer: str, inner: str) -> tuple[list[int], list[int]]:
    """Cells of each row, and the cell of each text, from the keywords."""
    counts, groups = [1], [0]
    for key in keys:
        if key == outer:
            counts.append(1)
        elif key == inner:
            counts[-1] += 1
        groups.append(sum(counts) - 1)
    return counts, groups


def _by_ratios(rows: _Rows, texts: int, report: Report) -> tuple[list[int], list[int]]:
    """The same where only BREAK divides the texts: the ratios give the cells, as far as there are texts."""
    counts: list[int] = []
    for row in rows:
        if left := texts - sum(counts):
            counts.append(min(max(1, len(row) - 1), left))
    total = sum(counts)
    if sum(max(1, len(row) - 1) for row in rows) > texts:
        report(f"There are more ratios than the {texts} texts; the image is divided by the first ones.")
    return counts, [min(index, total - 1) for index in range(texts)]


def _spans(ratios: Sequence[float], given: str) -> list[tuple[float, float]]:
    """Consecutive intervals of [0, 1] in these proportions."""
    total = sum(ratios)
    if not 0 < total < float("inf") or 0 in ratios:
        raise SceneError(f"RP Ratios is {brief(given)}, which leaves a region without area; give ratios above 0.")
    edges = [0.0, *(end / total for end in accumulate(ratios[:-1])), 1.0]
    return list(pairwise(edges))
