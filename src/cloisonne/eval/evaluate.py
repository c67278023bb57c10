"""Evaluates an image against its scene: whether each region shows the object of its phrase."""

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
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.prompt import plain
from cloisonne.world.glyphs import COLOURS, CORE, TRAINING, words_of

_RECOLOURABLE = {row.char for row in CORE if row.recolourable}


@dataclass(frozen=True, kw_only=True)
class RegionEvaluation:
    """The evaluation of one region.

    object: name of the object class in the phrase; None, like all other figures, if the phrase does not name exactly
    one class that the judge knows. found: an object of that class has an IoU of at least 0.5 with the region's box.
    iou: that IoU, in [0, 1]. class_right: the crop of the box is classified as that class. colour_right: it has the
    colour in the phrase; None if the phrase names none of the seven colours, or the object has a single colour.
    leakage: fraction, in [0, 1], of the area outside the box that shows the class.
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
    """The evaluations of an image's regions, in the scene's order; ``evaluation["pet"]`` is that of region pet."""

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
    """Evaluate an image (a path, PIL image, array or tensor) by the phrases and boxes of a scene's regions.

    Regions that are inactive, by their weight or interval, are skipped. Raises ImageError or CheckpointError.
    """
    rgb = np.asarray(open_rgb(given_picture(image), "picture"))
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
    """The object of a region's phrase; None if the phrase names no known object, or several."""
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
    """All object names with their glyphs, longest name first; a shared name belongs to the first glyph."""
    names: dict[str, str] = {}
    for char in TRAINING:
        for words in words_of(char):
            names.setdefault(words, char)
    return tuple(sorted(names.items(), key=lambda one: -len(one[0])))


@functools.cache
def _judge() -> Judge:
    return Judge.load(BUILTIN / "judge")
