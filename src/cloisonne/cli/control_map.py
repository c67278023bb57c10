"""``cloisonne control``: compute a control map of an image and write it to a file."""

from pathlib import Path

import numpy as np
from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.io.output import check_output, write_picture


def write_map(picture: Path, kind: str, out: Path, *, overwrite: bool = False) -> Path:
    """Compute a control map of an image and write it. Raises SceneError, ImageError or OutputError."""
    if kind not in DRAWN:
        raise SceneError(f'A map of kind "{kind}" cannot be computed here; choose one of {", ".join(DRAWN)}.')
    rgb = np.asarray(open_rgb(ImageRef(path=picture), "picture"))
    control_map = Image.fromarray(DRAWN[kind](rgb))
    check_output(out, overwrite=overwrite, like=control_map)
    write_picture(control_map, out, overwrite=overwrite)
    return out
