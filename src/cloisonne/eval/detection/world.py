"""layouts-v1 for a detector: the same scenes, with the names of their objects as classes."""

from cloisonne.eval.detection.colours import HSV
from cloisonne.eval.detection.layouts import BoxLayout, Instance, LayoutList, labels_of
from cloisonne.eval.layouts import Wanted, layouts
from cloisonne.world.glyphs import words_of


def world_layouts() -> LayoutList:
    """The list. Colours without an HSV range are not judged."""
    found = tuple(
        BoxLayout(index=layout.index, caption=layout.caption, instances=tuple(map(_instance, layout.regions)))
        for layout in layouts()
    )
    return LayoutList(name="layouts-v1", layouts=found, classes=labels_of(found))


def _instance(region: Wanted) -> Instance:
    colour = region.colour if region.colour in HSV else None
    return Instance(label=words_of(region.char)[0], phrase=region.phrase, box=region.box, colour=colour)
