"""Which methods a family of models has."""

from cloisonne.methods import METHODS
from cloisonne.methods.kinds import KINDS

OF_UNETS = [name for name in METHODS if KINDS[f"phrase, method {name}"].support("builtin").mark != "no"]
"""Of the built-in family and Stable Diffusion."""
