"""Exports a scene as a folder of layers: a PNG for each region, and the scene in ``scene.json`` with these as masks.

Painting programs open the files as layers, white with the mask as alpha channel; ``layer_folder.py`` reads the folder.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from cloisonne.errors import OutputError, SceneError
from cloisonne.scene.io.interchange.layer_folder import SCENE
from cloisonne.scene.io.output import check_output, check_target, write_picture, write_text
from cloisonne.scene.prompt import plain
from cloisonne.scene.region import SHAPES, Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import quoted

_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')
_LONGEST = 80
"""Characters of a phrase in a file's name."""


def to_masks(
    scene: Scene, folder: str | Path, size: tuple[int, int], *, overwrite: bool = False
) -> tuple[list[Path], tuple[str, ...]]:
    """Write each region's mask as "NN phrase.png", from back to front, and ``scene.json``.

    Masks are without ``feather``, which stays in the scene.

    Args:
        scene: the scene; it needs regions.
        folder: is created if its parent exists.
        size: width and height of the masks in pixels.
        overwrite: replace existing files.

    Returns:
        The paths, ``scene.json`` first, and a warning if the folder has other layers. Nothing of the scene is lost.

    Raises:
        SceneError: there are no regions, or one covers no pixel.
        OutputError: a file cannot be written.
    """
    folder = Path(folder)
    if not scene.regions:
        raise SceneError("The scene has no regions, so there are no masks to write.")
    order = sorted(range(len(scene.regions)), key=lambda k: (scene.regions[k].priority, k))
    files = {index: folder / _file_name(place, scene.regions[index]) for place, index in enumerate(order)}
    masks = {index: _layer(scene.regions[index], size) for index in order}
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {quoted(folder)} cannot be made ({error.strerror}); choose another.") from None
    check_target(folder / SCENE, overwrite=overwrite)
    for path in files.values():
        check_output(path, overwrite=overwrite)
    for index, path in files.items():
        write_picture(masks[index], path, overwrite=overwrite)
    shape = dict.fromkeys(SHAPES)
    regions = [
        region.replace(**shape | {"mask": files[index], "mask_channel": "alpha"})
        for index, region in enumerate(scene.regions)
    ]
    write_text(scene.replace(regions=regions).to_json(base=folder), folder / SCENE, overwrite=overwrite)
    others = sorted(path.name for path in folder.glob("*.png") if path not in files.values())
    warnings = [f"The folder also has {', '.join(others)}; as layers these are further regions."] if others else []
    return [folder / SCENE, *(files[index] for index in order)], tuple(warnings)


def _file_name(place: int, region: Region) -> str:
    title = " ".join(_NOT_IN_NAMES.sub(" ", plain(region.phrase) or str(region.name)).split())[:_LONGEST]
    return f"{place:02d} {title.rstrip('. ') or 'region'}.png"


def _layer(region: Region, size: tuple[int, int]) -> Image.Image:
    """White, with the mask as alpha."""
    mask = region.replace(feather=0.0).soft_mask(size[1], size[0])
    alpha = Image.fromarray(np.rint(mask * 255).astype(np.uint8))
    return Image.merge("LA", (Image.new("L", alpha.size, 255), alpha))
