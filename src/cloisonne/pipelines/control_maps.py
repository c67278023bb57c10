"""Control maps of a scene, given or computed from a photo, cropped and resized to the canvas."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.errors import ImageError
from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.pipelines.mask_warnings import misfit
from cloisonne.scene.conditions.control import Control
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LINES = ("canny", "sketch", "lineart")
"""Kinds of control whose maps are black and white."""
ASPECT = 1.05
"""Largest allowed change of a map's aspect ratio."""


def control_features(
    region: Region, model: Model, edit: BackgroundEdit | None, size: tuple[int, int], *, blank: bool = False
) -> tuple[Tensor, ...]:
    """Features of a region's control map on a canvas of size (width, height).

    T2I-Adapter features [C_i, H_i, W_i]; for a ControlNet, which runs at every step, the map alone [3, height, width].
    blank: read no file and run no network.
    """
    assert region.control is not None, "the region has a control"
    net = model.controlnets.get(region.control.kind)
    if blank:
        return () if net is None else (torch.zeros(3, size[1], size[0]),)
    pixels = control_map(region.control, edit, size, region.name)
    return model.adapters[region.control.kind].features(pixels) if net is None else (net.control_image(pixels),)


def control_map(
    control: Control, edit: BackgroundEdit | None, size: tuple[int, int], region: str | None = None
) -> NDArray[np.uint8]:
    """The adapter's input map, uint8 [height, width] or [height, width, 3].

    Raises ImageError, naming the region, for a map of another aspect ratio than the image.
    """
    picture = control.photo or control.image
    assert picture is not None, "a control has one of the two"
    image = open_rgb(picture, "control map" if control.photo is None else "photo", region)
    whole = (edit.source.width, edit.source.height) if edit else size
    stretched = image.width / image.height / (whole[0] / whole[1])
    if not 1 / ASPECT <= stretched <= ASPECT:
        raise ImageError(
            f"The control's image is {image.width} x {image.height} pixels, but the canvas has the aspect ratio of "
            f"{whole[0]} x {whole[1]}; crop the image to that ratio.",
            region=region,
        )
    if edit:
        w = edit.window
        image = image.resize(whole, Image.Resampling.LANCZOS).crop((w.x0, w.y0, w.x0 + w.width, w.y0 + w.height))
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return pixels if control.photo is None else DRAWN[control.kind](pixels)


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
