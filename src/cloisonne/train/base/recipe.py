"""Hyperparameters of the base's training. The defaults are the recipe; ``benchmarks/learning.py`` ablates them one at a
time, with results in docs/training.md."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Hyperparameters of the stage "base"."""

    batch: int = 32
    lr: float = 1e-3
    muon: bool = True
    """Muon for the inner weight matrices; False uses AdamW for all parameters."""
    labels: float = 0.3
    """Weight of the cross-entropy of the dense labels."""
    grounding: float = 0.3
    """Weight of the grounding loss on cross-attention."""
    weighting: Literal["uniform", "min-snr"] = "uniform"
    """Weight of the v error over t. min-snr: min(snr, 5) / (snr + 1) (arXiv 2303.09556, section 3.4)."""
    noisy: float = 0.5
    """Fraction of the images whose t is uniform in 400..999; otherwise t is uniform in 0..999."""
    sines: bool = True
    """Initialise position tokens as sinusoids of their coordinate; otherwise normally, like other tokens."""
    simple: float = 0.0
    """Initial fraction of the training on images of single objects from the first half of the core."""
    boxes: float = 0.0
    """Weight of the v error in the box of an object, relative to the background: 1 + boxes / sqrt(cells of the box).
    Only where the text states the boxes; their mean in each image is 1."""
    colours: float = 0.5
    """Weight of the colours within the cross-entropy of the labels."""
    exemplars: float = 0.0
    """Fraction of the images with text in whose ReCo sequence exemplars stand in place of phrases."""
    holes: float = 0.0
    """Fraction of the images with a hole to fill in from an exemplar."""
    beyond_core: float = 0.6
    """Fraction of both that show a glyph from outside the core."""
    half: float = 0.4
    """Initial fraction of the training at half resolution: latents of 8 x 8."""
    decay_from: float = 0.7
    """Fraction of the training after which the learning rate decays linearly to zero."""


RECIPE = BaseRecipe()
FROM_SCRATCH = replace(RECIPE, exemplars=0.2, holes=0.25)
"""Recipe of a new base, with exemplars and holes once it is trained at full resolution."""
CONTINUED = replace(RECIPE, batch=96, half=0.0, colours=1.0, noisy=0.2, exemplars=0.15, holes=0.15, boxes=8.0)
"""Recipe of open-ended training at a constant learning rate: more images at little noise, where details are drawn, as
layouts are learned by then."""
FINETUNED = replace(RECIPE, batch=48, half=0.0, exemplars=0.2, holes=0.25, decay_from=0.3)
"""Recipe to fine-tune a trained base."""
