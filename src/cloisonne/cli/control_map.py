"""``cloisonne control``: a control map of a picture, written to a file."""

from pathlib import Path

import numpy as np
from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.io.image_ref import Picture
from cloisonne.scene.io.images import seen
from cloisonne.scene.io.output import check_output, write_picture


def write_map(picture: Path, kind: str, out: Path, *, overwrite: bool = False) -> Path:
    """Draw a map of a picture and write it. SceneError where no such map can be drawn, ImageError, OutputError."""
    if kind not in DRAWN:
        raise SceneError(f'A map of kind "{kind}" cannot be drawn here; choose one of {", ".join(DRAWN)}.')
    rgb = np.asarray(seen(Picture(path=picture), "picture"))
    drawn = Image.fromarray(DRAWN[kind](rgb))
    check_output(out, overwrite=overwrite, like=drawn)
    write_picture(drawn, out, overwrite=overwrite)
    return out
