"""``sweep``: a scene at several values of one option, each image as ``generate`` alone makes it."""

import json
import secrets
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from cloisonne.errors import SceneError
from cloisonne.pipelines.output.contact_sheet import contact_sheet
from cloisonne.pipelines.result import Result
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.fields import region_field, with_region_field
from cloisonne.scene.io.images import orientation, turned_upright
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import ALIASES, brief, closest

if TYPE_CHECKING:
    from cloisonne.models.model import Model
    from cloisonne.pipelines.progress import OnStep

SCENE_OPTIONS = (
    "seed",
    "steps",
    "guidance",
    "guidance_rescale",
    "sampler",
    "spacing",
    "eta",
    "method",
    "region_boost",
    "layout_guidance",
    "isolate",
    "blocks",
    "speed",
    "overlap",
    "strength",
    "caption",
    "negative",
)
REGION_OPTIONS = (
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


def region_options() -> dict[str, str]:
    """The options of a region, with the field that a region needs for an option to apply to it; "" is none."""
    of_conditions = {option: row.name for row in CONDITIONS.values() for option in row.sweeps}
    return of_conditions | dict.fromkeys(REGION_OPTIONS, "") | {"phrase": "phrase", "strict": "phrase"}


def sweep(
    scene: Scene,
    model: "Model",
    option: str,
    values: Sequence[Any],
    *,
    on_step: "OnStep | None" = None,
    cache: str | PathLike[str] | None = None,
) -> list[Result]:
    """:func:`cloisonne.sweep` for a scene and a loaded model.

    A learned concept is reused for the next value even without a cache.
    """
    from cloisonne.pipelines.generate import generate
    from cloisonne.pipelines.prepare import prepare
    from cloisonne.pipelines.progress import relabelled

    scenes = swept(scene, option, values)
    for one in scenes:
        prepare(one, model, blank=True)
    with TemporaryDirectory() as folder:
        checkpoints, results = Path(folder if cache is None else cache), []
        for index, one in enumerate(scenes):
            watch = relabelled(on_step, verb="sweep", image=index, num_images=len(scenes))
            results.append(generate(one, model, on_step=watch, cache=checkpoints))
        return results


def swept(scene: Scene, option: str, values: Sequence[Any]) -> list[Scene]:
    """The scenes of :func:`sweep`. Raises SceneError for an unknown option or an invalid value."""
    if not values:
        raise SceneError(f"There are no values of {brief(option)} to sweep; give some, as in guidance=1,2.5,5.")
    with_value = _setter(scene, option)
    fixed = scene if scene.seed is not None else scene.replace(seed=secrets.randbelow(2**32))
    return [with_value(fixed, value) for value in values]


def sheet_of(results: Sequence[Result], option: str, values: Sequence[Any]) -> Any:
    """The results' images side by side (a PIL image), each under its value."""
    pictures = [turned_upright(result.image, orientation(result.image)) for result in results]
    labels = [f"{option} {value if isinstance(value, str) else json.dumps(value)}" for value in values]
    return contact_sheet(pictures, labels)


def _setter(scene: Scene, option: str) -> Callable[[Scene, Any], Scene]:
    """A function that sets the option of a scene to a value."""
    if found := region_field(scene, option):
        region, own = found
        _check_own(region, own)
        return lambda scene, value: with_region_field(scene, own, value, {region.name or ""})
    option = ALIASES.get(option, option)
    if option in SCENE_OPTIONS:
        return lambda scene, value: scene.replace(**{option: value})
    if option not in region_options():
        raise SceneError(_unknown(scene, option))
    having = {region.name or "" for region in scene.regions if _has(region, option)}
    if not having:
        reason = (
            f'no region gives the field "{region_options()[option]}"' if scene.regions else "the scene has no regions"
        )
        raise SceneError(f"{option} is an option of regions, but {reason}; give one, or sweep another option.")
    return lambda scene, value: with_region_field(scene, option, value, having)


def _has(region: Region, option: str) -> bool:
    needed = region_options()[option]
    return not needed or bool(getattr(region, needed, None))


def _check_own(region: Region, option: str) -> None:
    known = list(region_options())
    if option not in known:
        meant = closest(option, known)
        advice = f'did you mean "{meant}"?' if meant else f"a region has {', '.join(known)}."
        raise SceneError(f"There is no option {brief(option)} to sweep; {advice}", region=region.name)
    if not _has(region, option):
        raise SceneError(
            f"{option} cannot be swept without {region_options()[option]}; give the region one.", region=region.name
        )


def _unknown(scene: Scene, option: str) -> str:
    known = [*SCENE_OPTIONS, *(one for one in region_options() if one not in SCENE_OPTIONS)]
    owner, point, own = option.rpartition(".")
    if point and own in region_options():
        names = ", ".join(brief(region.name) for region in scene.regions) or "none"
        return f"There is no region {brief(owner)} to sweep {own} of; the scene's regions are: {names}."
    meant = closest(option, known)
    return f"There is no option {brief(option)} to sweep; " + (
        f'did you mean "{meant}"?' if meant else f"choose {', '.join(known)}."
    )
