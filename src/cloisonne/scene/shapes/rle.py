"""COCO's run-length encoding of hard masks: runs down the columns, starting with a run of zeros, which may be empty.

``counts`` is a list of runs, or COCO's compressed text of them (pycocotools' maskApi, rleToString).
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io.images import MAX_PIXELS
from cloisonne.scene.values import Value, brief


class Rle(Value):
    """A hard mask as runs.

    Attributes:
        size: [h, w].
        counts: lengths of the runs; compressed text is converted.
    """

    size: tuple[int, int]
    counts: tuple[int, ...]

    @model_validator(mode="before")
    @classmethod
    def _check(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        size, counts = data.get("size"), data.get("counts")
        if not _whole_numbers(size, 1) or len(size) != 2 or size[0] * size[1] > MAX_PIXELS:
            limit = f"at most {MAX_PIXELS // 10**6} megapixels"
            raise SceneError(f"rle has the size {brief(size)}; give [height, width], {limit}.")
        if isinstance(counts, str):
            counts = decompress(counts)
        if not _whole_numbers(counts, 0):
            raise SceneError(f"rle has the counts {brief(counts)}; give the lengths of its runs.")
        height, width = size
        if sum(counts) != height * width:
            raise SceneError(
                f"rle has runs that add up to {sum(counts)} pixels, but its size is {height} x {width}; "
                f"give size as [height, width] and counts that add up to {height * width}."
            )
        return {"size": (height, width), "counts": tuple(counts)}

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> "Rle":
        """Encode a hard mask [h, w]."""
        return cls(size=(mask.shape[0], mask.shape[1]), counts=tuple(encode(mask)))

    def pixels(self) -> NDArray[np.bool_]:
        """The mask [h, w]."""
        return decode(self.size, self.counts)


def _whole_numbers(value: Any, least: int) -> TypeGuard[Sequence[int]]:
    return isinstance(value, list | tuple) and all(type(number) is int and number >= least for number in value)


def decode(size: Sequence[int], counts: Sequence[int]) -> NDArray[np.bool_]:
    """Decode runs into a mask [h, w] of ``size`` (h, w)."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(tuple(size), order="F")


def encode(mask: NDArray[np.bool_]) -> list[int]:
    """Encode a hard mask [h, w] as runs."""
    flat = np.asarray(mask, dtype=bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size])))
    return [*([0] if flat[0] else []), *runs.tolist()]


def decompress(text: str) -> list[int]:
    """Decode COCO's compressed runs: groups of 5 bits; from the fourth on, differences to the run two before."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise SceneError("rle has counts that are not COCO's compressed runs; give them as a list of numbers.")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise SceneError("rle has compressed counts that end in the middle of a run; give all of them.")
    return counts
