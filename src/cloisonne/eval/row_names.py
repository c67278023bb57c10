"""Names of the rows, methods and modes of the benchmarks; imports no tensor library."""

from typing import Literal, get_args

METHODS = ("reco", "bounded", "bounded-words", "words", "caption", "attention", "multidiffusion")
CEILINGS = ("truth-vae", "truth")
"""Upper bounds: the ground-truth images through the VAE, and as they are."""

CAPTION_ALONE = "none"
"""The control benchmark's row conditioned on the caption alone; edge densities outside are relative to it."""

Mode = Literal["real", "generated"]
MODES: tuple[str, ...] = get_args(Mode)
"""Of the edit benchmark: edit the given image, or generate it first."""

COPY, COPY_SOURCE, COPY_REFERENCE = "copy", "copy-source", "copy-reference"
"""Rows that copy an image unchanged, of edits and of translations."""
