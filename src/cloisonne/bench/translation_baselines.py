"""Translation baselines from a prompt instead of a reference: prompt and edges, and prompt-to-prompt."""

from typing import Any

from PIL import Image

from cloisonne.eval.translation_items import TranslationItem
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.result import Result
from cloisonne.scene import Region, Scene
from cloisonne.scene.conditions.edit import Edit

_WHOLE = (0.0, 0.0, 1.0, 1.0)
_EDGE = 1e-6
"""A feather so narrow that the whole-image window has no soft edge where the background would count."""


def controlled(item: TranslationItem, seed: int, model: Model) -> Result:
    """Generate from the target prompt and the source's edges: the whole image for a style, the box for a subject."""
    source = Image.fromarray(item.source)
    edges = {"kind": "canny", "from": source}
    if item.task == "style":
        region, size = Region(name="all", box=_WHOLE, control=edges), {"width": source.width, "height": source.height}
        return generate(Scene(caption=item.after, regions=(region,), seed=seed, **size), model)
    region = Region(name="object", box=item.box, phrase=item.after, control=edges)
    caption = f"{item.after} {item.where}"
    return generate(Scene(background=source, caption=caption, regions=(region,), seed=seed), model)


def reworded(item: TranslationItem, seed: int, model: Model, changes: dict[str, Any]) -> Result:
    """Edit the source's prompt: of the whole image for a style, of the object's box for a subject."""
    styled = item.task == "style"
    change = Edit(kind="change", before=item.before, after=item.after)
    shape = {"box": _WHOLE, "feather": _EDGE} if styled else {"box": item.box}
    region = Region(name="changed", edit=change, **shape)
    scene = Scene(background=Image.fromarray(item.source), caption=item.where, regions=(region,), seed=seed)
    return edit(scene, model, **changes)
