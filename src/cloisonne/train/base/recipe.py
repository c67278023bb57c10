"""What is chosen about how the base learns. The defaults are the recipe; ``benchmarks/learning.py`` leaves out or
changes one choice at a time, and docs/training.md has its table."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Choices of the stage "base"."""

    batch: int = 32
    lr: float = 1e-3
    muon: bool = True
    """Muon for the matrices inside the networks; otherwise AdamW for all."""
    labels: float = 0.3
    """Weight of the dense labels' cross-entropy."""
    grounding: float = 0.3
    """Weight of the cross-entropy between what a cell shows and what its attention looks at."""
    weighting: Literal["uniform", "min-snr"] = "uniform"
    """Weight of the error on v over t; min-snr is min(snr, 5) / (snr + 1) (arXiv 2303.09556, section 3.4)."""
    noisy: float = 0.5
    """Share of the pictures whose t is drawn from 400 to 999; the others' from all."""
    sines: bool = True
    """Position tokens begin as sines of their coordinate; otherwise as any other token, normally distributed."""
    simple: float = 0.0
    """Fraction of the training that sees single objects of the core's first half only."""
    colours: float = 0.5
    """Weight of the colours' cross-entropy within that of the labels."""
    half: float = 0.4
    """Fraction of the training, from its beginning, on half the canvas: latents of 8 x 8."""
    decay_from: float = 0.7
    """Fraction of the training after which the learning rate falls linearly to zero."""


RECIPE = BaseRecipe()
CONTINUED = replace(RECIPE, batch=48, half=0.0, colours=1.0)
"""How the base is trained for as long as there is time, at a constant learning rate."""
ON = replace(RECIPE, batch=48, half=0.0, decay_from=0.3)
"""How a trained base learns on."""
