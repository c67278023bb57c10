"""What translations are compared with that are told in words, not by a reference: edges and words, prompt-to-prompt."""

from typing import Any

from PIL import Image

from cloisonne.eval.translation_items import Asked
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.editing.result import Edited
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.result import Result
from cloisonne.scene import Region, Scene
from cloisonne.scene.conditions.edit import Edit

_WHOLE = (0.0, 0.0, 1.0, 1.0)
_EDGE = 1e-6
"""So narrow a feather that the window of all of the picture has no soft edge, at which the background would count."""


def controlled(item: Asked, seed: int, model: Model) -> Result:
    """The truth in words along the source's edges: all anew for a style, in the object's box for a subject."""
    source = Image.fromarray(item.source)
    edges = {"kind": "canny", "from": source}
    if item.task == "style":
        region, size = Region(name="all", box=_WHOLE, control=edges), {"width": source.width, "height": source.height}
        return generate(Scene(caption=item.after, regions=(region,), seed=seed, **size), model)
    region = Region(name="object", box=item.box, phrase=item.after, control=edges)
    told = f"{item.after} {item.where}"
    return generate(Scene(background=source, caption=told, regions=(region,), seed=seed), model)


def reworded(item: Asked, seed: int, model: Model, changes: dict[str, Any]) -> Edited:
    """The source with its words changed: all of it for a style, in the object's box for a subject."""
    styled = item.task == "style"
    told = Edit(kind="change", before=item.before, after=item.after)
    shape = {"box": _WHOLE, "feather": _EDGE} if styled else {"box": item.box}
    region = Region(name="changed", edit=told, **shape)
    scene = Scene(background=Image.fromarray(item.source), caption=item.where, regions=(region,), seed=seed)
    return edit(scene, model, **changes)
