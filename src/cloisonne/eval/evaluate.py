"""One's own picture against its scene: whether each region shows what its phrase asks for."""

import functools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cloisonne.eval.judge import Judge
from cloisonne.eval.layouts import Wanted
from cloisonne.eval.metrics.layouts import measure
from cloisonne.models.builtin import BUILTIN
from cloisonne.scene import Region, Scene
from cloisonne.scene.io.image_ref import given_picture
from cloisonne.scene.io.images import seen
from cloisonne.scene.prompt import plain
from cloisonne.world.glyphs import COLOURS, CORE, TRAINING, words_of

_RECOLOURABLE = {row.char for row in CORE if row.recolourable}


@dataclass(frozen=True, kw_only=True)
class RegionEvaluation:
    """One region. object: what the judge looked for, by its name; None, and all else, where the phrase names no single
    object that it knows.

    found: an object of that class has an IoU of at least one half with the region's box; iou: that IoU, in [0, 1].
    class_right: the box alone is taken for that class. colour_right: it has the colour that the phrase names; None
    where it names none of the seven, or the object comes in one colour. leakage: share, in [0, 1], of what lies outside
    of the box that shows the class.
    """

    name: str
    phrase: str
    object: str | None = None
    found: bool | None = None
    iou: float | None = None
    class_right: bool | None = None
    colour_right: bool | None = None
    leakage: float | None = None

    def __str__(self) -> str:
        if self.object is None:
            return f'{self.name}: "{self.phrase}" names no single object that the judge knows'
        colour = {True: ", colour right", False: ", colour wrong", None: ""}[self.colour_right]
        found, kind = "found" if self.found else "not found", "right" if self.class_right else "wrong"
        return f"{self.name}: {self.object} {found} (IoU {self.iou:.2f}), class {kind}{colour}"


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation:
    """A picture's regions, in the scene's order; ``evaluation["pet"]`` is that region's."""

    regions: tuple[RegionEvaluation, ...]

    def __getitem__(self, name: str) -> RegionEvaluation:
        for region in self.regions:
            if region.name == name:
                return region
        raise KeyError(f'There is no region "{name}"; there are {", ".join(one.name for one in self.regions)}.')

    def __iter__(self) -> Iterator[RegionEvaluation]:
        return iter(self.regions)

    def __len__(self) -> int:
        return len(self.regions)

    def to_dict(self) -> dict[str, Any]:
        """The figures as a JSON object."""
        return {"regions": [asdict(region) for region in self.regions]}

    def __str__(self) -> str:
        return "\n".join(map(str, self.regions))

    def __repr__(self) -> str:
        known = [region for region in self.regions if region.found is not None]
        return f"Evaluation of {len(self.regions)} regions: {sum(bool(r.found) for r in known)} of {len(known)} found"


def evaluated(image: Any, scene: Scene) -> Evaluation:
    """Judge a picture (a path, a PIL image, an array or a tensor) by the phrases and boxes of a scene's regions.

    Regions that do not count, by their weight or interval, are left out. Raises ImageError or CheckpointError.
    """
    rgb = np.asarray(seen(given_picture(image), "picture"))
    regions = scene.active_regions
    wanted = {region.name: one for region in regions if (one := _wanted(region)) is not None}
    figures = measure(rgb, list(wanted.values()), _judge()).regions if wanted else ()
    found = {
        name: {
            "object": words_of(one.char)[0],
            "found": own.found,
            "iou": own.iou,
            "class_right": own.crop,
            "colour_right": own.colour,
            "leakage": own.leakage,
        }
        for (name, one), own in zip(wanted.items(), figures, strict=True)
    }
    return Evaluation(
        regions=tuple(
            RegionEvaluation(name=region.name or "", phrase=region.phrase, **found.get(region.name, {}))
            for region in regions
        )
    )


def _wanted(region: Region) -> Wanted | None:
    """What the judge looks for in a region; None where the phrase names no object that it knows, or several."""
    text = plain(region.phrase).lower()
    named: set[str] = set()
    for words, char in _objects():
        pattern = rf"\b{re.escape(words)}\b"
        if re.search(pattern, text):
            named.add(char)
            text = re.sub(pattern, " ", text)
    if len(named) != 1:
        return None
    (char,) = named
    colours = [colour for colour in COLOURS if re.search(rf"\b{colour}\b", text)]
    colour = colours[0] if len(colours) == 1 and char in _RECOLOURABLE else None
    return Wanted(char=char, colour=colour, box=region.bounding_box(), phrase=region.phrase)


@functools.cache
def _objects() -> tuple[tuple[str, str], ...]:
    """Every name of an object and its glyph, the longest name first; the first glyph has a name that two share."""
    names: dict[str, str] = {}
    for char in TRAINING:
        for words in words_of(char):
            names.setdefault(words, char)
    return tuple(sorted(names.items(), key=lambda one: -len(one[0])))


@functools.cache
def _judge() -> Judge:
    return Judge.load(BUILTIN / "judge")
