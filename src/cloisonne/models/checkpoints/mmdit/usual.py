"""What a transformer's file does not hold: its noise levels, and the usual values of a scene.

Where its tensors do not tell, the names of the file decide: its own, and those in its header.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cloisonne.models.checkpoints.mmdit.flux import native_of as flux_native
from cloisonne.models.checkpoints.mmdit.flux2 import DISTILLED
from cloisonne.models.checkpoints.mmdit.sd3 import native_of as sd3_native
from cloisonne.models.checkpoints.mmdit.zimage import TURBO, TURBO_SHIFT
from cloisonne.models.model import Native

FLOW: Mapping[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
DYNAMIC = {**FLOW, "use_dynamic_shifting": True}
"""Of FLUX.1 and FLUX.2, shifted by the size of the image."""
BASE_SHIFT = 6.0
"""Of Z-Image; Turbo has 3."""


class Usual(NamedTuple):
    """scheduler: a ``scheduler_config.json``. native: None for the family's own. notes: what the names decided."""

    scheduler: Mapping[str, Any]
    native: Native | None
    notes: tuple[str, ...] = ()


def named(names: Sequence[str], word: str) -> bool:
    """Whether one of the names contains this word."""
    return any(word in name.lower() for name in names)


def usual_of(family: str, config: Mapping[str, Any], names: Sequence[str]) -> Usual:
    """The usual values of a transformer. config: of its class in diffusers. names: the file's, its own first."""
    if family in ("flux", "kontext"):
        return Usual(DYNAMIC if config["guidance_embeds"] else {**FLOW, "shift": 1.0}, flux_native(config))
    if family == "sd3":
        return Usual(FLOW, sd3_native(config))
    if family == "flux2":
        base = named(names, "base")
        found = Usual(DYNAMIC, None if base else DISTILLED)
        kind = "base, 50 steps with guidance 4" if base else "distilled, 4 steps without guidance"
    else:
        turbo = named(names, "turbo")
        found = Usual({**FLOW, "shift": TURBO_SHIFT if turbo else BASE_SHIFT}, TURBO if turbo else None)
        kind = "Turbo, 8 steps without guidance" if turbo else "Z-Image, 50 steps with guidance 5"
    word = "base" if family == "flux2" else "turbo"
    note = (
        f'The file holds no noise levels; by "{word}" in its name or its absence it is taken for {kind}: "{names[0]}".'
    )
    return found._replace(notes=(note,))
