"""Pictures with their regions drawn, beside the pictures: ``name.regions.png``."""

from collections.abc import Sequence
from pathlib import Path

from cloisonne.pipelines.result import Result, output_paths
from cloisonne.scene import check_output, draw_regions, write_picture
from cloisonne.scene.io.images import orientation, turned_upright


def overlay_path(path: Path) -> Path:
    """Where the overlay of a picture goes."""
    return path.with_name(f"{path.stem}.regions.png")


def check_overlays(out: Path, num_images: int, *, overwrite: bool) -> None:
    """OutputError where an overlay could not be written; to be asked before any work."""
    for path in output_paths(out, num_images):
        if path.parent.is_dir():
            check_output(overlay_path(path), overwrite=overwrite)


def write_overlays(result: Result, paths: Sequence[Path], *, overwrite: bool) -> list[Path]:
    """Write the overlays of a result's pictures that were written to ``paths``."""
    written = [overlay_path(path) for path in paths]
    for image, path in zip(result.images, written, strict=True):
        upright = turned_upright(image, orientation(image))
        write_picture(draw_regions(upright, result.scene.regions), path, overwrite=overwrite)
    return written
