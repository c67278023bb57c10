"""Tiny random checkpoints of every family of diffusion transformers."""

from collections.abc import Callable
from pathlib import Path

from flux import write_flux
from flux2 import write_flux2
from sd3 import write_sd3
from zimage import write_zimage

WRITERS: dict[str, Callable[[Path], Path]] = {
    "flux": write_flux,
    "sd3": lambda folder: write_sd3(folder, "3.5 medium"),
    "flux2": lambda folder: write_flux2(folder, distilled=False),
    "zimage": lambda folder: write_zimage(folder, turbo=False),
}
"""By the name of the family."""
