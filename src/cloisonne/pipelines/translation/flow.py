"""Translations without inversion: FlowEdit from the content to the concept, next to regions that are painted anew."""

import torch

from cloisonne.core.inversion.flowedit import FlowTiming
from cloisonne.methods.vct import CONTENT, IMAGE
from cloisonne.pipelines.prepare import Prepared
from cloisonne.scene.conditions.translation_presets import Translating

HALF = 0.5
"""Where other regions take at least this share of the canvas in the first step, it is painted anew."""


def timing_of(prepared: Prepared, translating: Translating, device: torch.device) -> FlowTiming:
    """Where and when the image changes."""
    steps, edit = prepared.steps, prepared.edit
    assert edit is not None, "a scene with a concept has a background"
    free = edit.free(edit.covered(prepared.compiled.dropped), prepared.grid).to(device)
    left = next(left for span, left in prepared.compiled.translated if steps[0] in span)
    anew = free * (1 - left >= HALF)
    return FlowTiming(
        source=CONTENT,
        target=IMAGE,
        num_steps=len(steps),
        counts=((round(len(steps) * translating.flow_start), free - anew),),
        anew=anew,
    )
