"""Lists of layouts: prompts, and boxes with the classes that a detector is to find in them."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest

from cloisonne.scene import Box, Region, Scene
from cloisonne.scene.prompt import escaped

_VOWELS = "aeiou"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What one box is to show.

    label: the class that a detector looks for. phrase: the region's phrase. box: fractions (x0, y0, x1, y1).
    colour: its name in ``colours.HSV``; None if the phrase names none of these.
    """

    label: str
    phrase: str
    box: Box
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class BoxLayout:
    """One layout.

    index: its number in the list. caption: prompt of the whole image. relation: where the first instance is, relative
    to the second; "" without one. photo: file name of the photograph that the boxes were annotated on; "" without one.
    """

    index: int
    caption: str
    instances: tuple[Instance, ...]
    relation: str = ""
    photo: str = ""

    @property
    def sentence(self) -> str:
        """The caption, followed by the phrases that do not occur in it: the prompt of rows without regions."""
        phrases = dict.fromkeys(one.phrase for one in self.instances)
        missing = [phrase for phrase in phrases if phrase.lower() not in self.caption.lower()]
        return ", ".join([self.caption.rstrip(" ."), *missing]) if missing else self.caption

    def scene(self) -> Scene:
        """The scene with a region for each instance, at the model's native size."""
        regions = tuple(Region(box=one.box, phrase=escaped(one.phrase)) for one in self.instances)
        return Scene(caption=escaped(self.caption), regions=regions)

    def captioned(self) -> Scene:
        """The scene without regions, whose caption names all instances."""
        return Scene(caption=escaped(self.sentence))


@dataclass(frozen=True, kw_only=True)
class LayoutList:
    """The layouts of a benchmark.

    name: "layouts-v1", "coco", "coco-mig" or "spatial". classes: all classes that a crop may be classified as. side:
    images are resized to this many pixels on each side before they are judged; None leaves them as they are.
    """

    name: str
    layouts: tuple[BoxLayout, ...]
    classes: tuple[str, ...]
    side: int | None = None

    @property
    def sha256(self) -> str:
        """Hash of the layouts and classes: tables with the same hash are about the same scenes."""
        lines = [json.dumps(asdict(layout), sort_keys=True) for layout in self.layouts]
        return hashlib.sha256("\n".join([*lines, *self.classes]).encode()).hexdigest()


def phrase_of(label: str) -> str:
    """A class name with its article: "a dog", "an apple"."""
    return f"{'an' if label[:1].lower() in _VOWELS else 'a'} {label}"


def numbered(layouts: Iterable[BoxLayout]) -> tuple[BoxLayout, ...]:
    """The layouts, with their place in the list as index."""
    return tuple(replace(layout, index=index) for index, layout in enumerate(layouts))


def interleaved(layouts: Sequence[BoxLayout]) -> tuple[BoxLayout, ...]:
    """The layouts in turns of 2, 3, 4, ... instances, so that any prefix of the list is a fair sample."""
    groups: dict[int, list[BoxLayout]] = {}
    for layout in layouts:
        groups.setdefault(len(layout.instances), []).append(layout)
    turns = zip_longest(*(groups[level] for level in sorted(groups)))
    return numbered(layout for turn in turns for layout in turn if layout is not None)


def labels_of(layouts: Iterable[BoxLayout]) -> tuple[str, ...]:
    """The classes that occur in layouts, sorted."""
    return tuple(sorted(set(_labels(layouts))))


def _labels(layouts: Iterable[BoxLayout]) -> Iterator[str]:
    for layout in layouts:
        for one in layout.instances:
            yield one.label
