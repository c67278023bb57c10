"""``sweep``: a scene at several values of one dial, each picture drawn as ``generate`` draws it alone."""

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cloisonne.errors import SceneError
from cloisonne.pipelines.contact_sheet import contact_sheet
from cloisonne.pipelines.result import Result
from cloisonne.pipelines.translation.settings import Progress, told_nothing
from cloisonne.scene.fields import region_field, with_region_field
from cloisonne.scene.io.images import orientation, turned_upright
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import ALIASES, closest, shown

if TYPE_CHECKING:
    from cloisonne.models.model import Model
    from cloisonne.pipelines.generate import Callback, StepEnd

SCENE_DIALS = (
    "seed",
    "steps",
    "guidance",
    "guidance_rescale",
    "sampler",
    "spacing",
    "eta",
    "method",
    "overlap",
    "strength",
    "caption",
    "negative",
)
REGION_DIALS = (
    "similarity",
    "exemplar.strength",
    "control.strength",
    "concept.keep_structure",
    "concept.concept_strength",
    "weight",
    "priority",
    "feather",
    "start",
    "stop",
    "guidance",
    "seed",
    "phrase",
    "negative",
    "strict",
)
_NEEDED = {
    "similarity": "exemplar",
    "exemplar.strength": "exemplar",
    "control.strength": "control",
    "concept.keep_structure": "concept",
    "concept.concept_strength": "concept",
    "phrase": "phrase",
    "strict": "phrase",
}
"""What a region must have for a dial to be one of its."""


def sweep(
    scene: Scene,
    model: "Model",
    dial: str,
    values: Sequence[Any],
    *,
    callback_on_step_end: "Callback | None" = None,
    progress: Progress = told_nothing,
    cache: Path | None = None,
) -> list[Result]:
    """Draw a scene once for each value of a dial, all else equal; without a seed of its own one is drawn for all.

    dial: a field of the scene, such as "guidance" or "seed"; of one region, as in "pet.similarity"; or one that only
    regions have, such as "feather", which is then turned in all regions that have it. callback_on_step_end: is told the
    place of the value as the image's. progress, cache: as of ``generate``; what is learned of a concept is used again
    at the next value without a cache, too. Raises SceneError or CapabilityError, before anything is drawn, where one of
    the scenes cannot be drawn.
    """
    from cloisonne.pipelines.generate import generate
    from cloisonne.pipelines.prepare import prepare

    scenes = swept(scene, dial, values)
    for one in scenes:
        prepare(one, model, blank=True)
    with TemporaryDirectory() as folder:
        kept = Path(folder) if cache is None else cache
        return [
            generate(
                one,
                model,
                progress=progress,
                callback_on_step_end=_counting(callback_on_step_end, index, len(scenes)),
                cache=kept,
            )
            for index, one in enumerate(scenes)
        ]


def swept(scene: Scene, dial: str, values: Sequence[Any]) -> list[Scene]:
    """The scenes of :func:`sweep`; SceneError where there is no such dial, or a value is none of its."""
    if not values:
        raise SceneError(f"There are no values of {shown(dial)} to sweep; give some, as in guidance=1,2.5,5.")
    turned = _dial(scene, dial)
    fixed = scene if scene.seed is not None else scene.replace(seed=secrets.randbelow(2**32))
    return [turned(fixed, value) for value in values]


def sheet_of(results: Sequence[Result], dial: str, values: Sequence[Any]) -> Any:
    """The results' pictures side by side (a PIL image), each under its value."""
    pictures = [turned_upright(result.image, orientation(result.image)) for result in results]
    labels = [f"{dial} {value if isinstance(value, str) else json.dumps(value)}" for value in values]
    return contact_sheet(pictures, labels)


def _counting(callback: "Callback | None", index: int, count: int) -> "Callback | None":
    if callback is None:
        return None

    def counted(end: "StepEnd") -> None:
        callback(replace(end, image=index, num_images=count))

    return counted


def _dial(scene: Scene, dial: str) -> Callable[[Scene, Any], Scene]:
    """What turns the dial."""
    if found := region_field(scene, dial):
        region, own = found
        _check_own(region, own)
        return lambda scene, value: with_region_field(scene, own, value, {region.name or ""})
    dial = ALIASES.get(dial, dial)
    if dial in SCENE_DIALS:
        return lambda scene, value: scene.replace(**{dial: value})
    if dial not in REGION_DIALS:
        raise SceneError(_unknown(scene, dial))
    having = {region.name or "" for region in scene.regions if _has(region, dial)}
    if not having:
        reason = f'no region gives the field "{_NEEDED[dial]}"' if scene.regions else "the scene has no regions"
        raise SceneError(f"{dial} is a dial of regions, but {reason}; give one, or sweep another dial.")
    return lambda scene, value: with_region_field(scene, dial, value, having)


def _has(region: Region, dial: str) -> bool:
    return dial not in _NEEDED or bool(getattr(region, _NEEDED[dial]))


def _check_own(region: Region, dial: str) -> None:
    if dial not in REGION_DIALS:
        meant = closest(dial, REGION_DIALS)
        advice = f'did you mean "{meant}"?' if meant else f"a region has {', '.join(REGION_DIALS)}."
        raise SceneError(f"There is no dial {shown(dial)}; {advice}", region=region.name)
    if not _has(region, dial):
        raise SceneError(f"{dial} cannot be swept without {_NEEDED[dial]}; give the region one.", region=region.name)


def _unknown(scene: Scene, dial: str) -> str:
    known = [*SCENE_DIALS, *(one for one in REGION_DIALS if one not in SCENE_DIALS)]
    owner, point, own = dial.rpartition(".")
    if point and own in REGION_DIALS:
        names = ", ".join(shown(region.name) for region in scene.regions) or "none"
        return f"There is no region {shown(owner)} to turn {own} in; the scene's regions are: {names}."
    meant = closest(dial, known)
    return f"There is no dial {shown(dial)}; " + (
        f'did you mean "{meant}"?' if meant else f"choose {', '.join(known)}."
    )
