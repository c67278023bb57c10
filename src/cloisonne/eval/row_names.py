"""Names of rows, methods and modes of the benchmarks; no tensor library is imported."""

from typing import Literal, get_args

METHODS = ("reco", "words", "caption", "attention", "multidiffusion")
CEILINGS = ("truth-vae", "truth")
"""Rows that no generator can beat: the true pictures through the VAE, and as they are."""

CAPTION_ALONE = "none"
"""The row of the control benchmark that has the caption alone: what the densities outside are divided by."""

Mode = Literal["real", "generated"]
MODES: tuple[str, ...] = get_args(Mode)
"""Of the edit benchmark: the picture before is given, or both are drawn."""

COPY, COPY_SOURCE, COPY_REFERENCE = "copy", "copy-source", "copy-reference"
"""Rows that change nothing: of edits, and of translations."""
