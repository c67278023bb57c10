"""Warnings about control maps: another size than the background, a photo in place of a line map."""

from collections.abc import Iterable

import numpy as np

from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.pipelines.mask_warnings import misfit
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.scene import Scene

LINES = ("canny", "sketch", "lineart")
"""Kinds of control whose maps are black and white."""


def control_warnings(scene: Scene, edit: BackgroundEdit | None) -> Iterable[str]:
    """Warnings about likely mistakes: a map of another size than the background, a photo in place of a line map.

    Without a background, a map of the canvas's aspect ratio fits at any size.
    """
    for region in scene.active_regions:
        control = region.control
        if control is None:
            continue
        picture, what = (control.image, "map") if control.photo is None else (control.photo, "image")
        assert picture is not None, "a control has one of the two"
        whole = (edit.source.width, edit.source.height) if edit else (scene.width or 0, scene.height or 0)
        if fault := misfit(open_rgb(picture, "control map", region.name).size, whole, given=edit is not None):
            yield f'Region "{region.name}": its control {what} {picture} {fault}'
        if control.image is None or control.kind not in LINES:
            continue
        grey = np.asarray(open_rgb(control.image, "control map", region.name).convert("L"))
        share = float(((grey > 50) & (grey < 205)).mean())
        if share > 0.3:
            yield (
                f'Region "{region.name}": its control map is {share:.0%} grey, so it is probably a photo and not a '
                f'{control.kind} map; give it as "from" to compute the map from it.'
            )
