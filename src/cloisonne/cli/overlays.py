"""Overlays: each image with its regions drawn on it, written next to it as ``name.regions.png``."""

from collections.abc import Sequence
from pathlib import Path

from cloisonne.pipelines.output.files import output_paths
from cloisonne.pipelines.result import Result
from cloisonne.scene import check_output, draw_regions, write_picture
from cloisonne.scene.io.images import orientation, turned_upright


def overlay_path(path: Path) -> Path:
    """The path of an image's overlay."""
    return path.with_name(f"{path.stem}.regions.png")


def check_overlays(out: Path, num_images: int, *, overwrite: bool) -> None:
    """Raise OutputError if an overlay could not be written. Call it before any work."""
    for path in output_paths(out, num_images):
        if path.parent.is_dir():
            check_output(overlay_path(path), overwrite=overwrite)


def write_overlays(result: Result, paths: Sequence[Path], *, overwrite: bool) -> list[Path]:
    """Write the overlays of a result whose images were written to ``paths``; returns the overlays' paths."""
    written = [overlay_path(path) for path in paths]
    for image, path in zip(result.images, written, strict=True):
        upright = turned_upright(image, orientation(image))
        write_picture(draw_regions(upright, result.scene.regions), path, overwrite=overwrite)
    return written
