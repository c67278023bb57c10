"""The scene of inpainting: one region over a background."""

from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel


def inpaint_scene(
    image: Any,
    mask: Any,
    *,
    phrase: str | None = None,
    exemplar: Any = None,
    similarity: float | None = None,
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **fields: Any,
) -> Scene:
    """The scene of :func:`cloisonne.inpaint`: one region over a background. fields: of the scene.

    Raises SceneError without a phrase and an exemplar.
    """
    if phrase is None and exemplar is None:
        raise SceneError("There is nothing to generate under the mask; give phrase, exemplar or both.")
    box = isinstance(mask, list | tuple) and len(mask) == 4 and all(isinstance(side, int | float) for side in mask)
    where = {"box": tuple(mask)} if box else {"mask": mask, "mask_channel": mask_channel}
    conditions = {"phrase": phrase or "", "exemplar": exemplar, "similarity": similarity}
    region = Region(name="fill" if exemplar is None else "paint", feather=feather, **conditions, **where)
    return Scene(background=image, regions=(region,), **fields)
