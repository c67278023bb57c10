"""Fields of a scene by their names, ``guidance`` or ``hat.similarity``: reading which is meant, and changing it."""

import json
from collections.abc import Mapping
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import LEARNED
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import ALIASES, Value, closest, shown


def region_field(scene: Scene, name: str) -> tuple[Region, str] | None:
    """The region that "hat.similarity" begins with and the rest; None where it begins with no region's name."""
    # The longest name first: names may hold points themselves.
    for region in sorted(scene.regions, key=lambda region: -len(region.name or "")):
        if name.startswith(f"{region.name}."):
            field = name.removeprefix(f"{region.name}.")
            return region, ALIASES.get(field, field)
    return None


def with_fields(scene: Scene, to: Mapping[str, Any]) -> Scene:
    """The scene with fields at other values: "hat.similarity", "hat.exemplar.strength", "caption"; "hat" is its phrase.

    All at once, so that a box may go where an ellipse comes. SceneError where there is no such region or field, or it
    cannot have the value.
    """
    own: dict[str, Any] = {}
    by_region: dict[str, dict[str, Any]] = {}
    for name, value in to.items():
        owner, field = _meant(scene, name)
        told = own if owner is None else by_region.setdefault(owner.name or "", {})
        if field in told:
            raise SceneError(f"{field} is given a value twice; give it one.", region=owner and owner.name)
        told[field] = value
    regions = [_of_region(region, by_region.get(region.name or "", {})) for region in scene.regions]
    return scene.replace(**_told(scene, own), regions=tuple(regions))


def with_region_field(scene: Scene, field: str, value: Any, names: set[str]) -> Scene:
    """The scene with a field of some of its regions at a value."""
    regions = [_of_region(region, {field: value} if region.name in names else {}) for region in scene.regions]
    return scene.replace(regions=tuple(regions))


def _of_region(region: Region, to: Mapping[str, Any]) -> Region:
    if not to:
        return region
    # A channel is that of one mask.
    channel = {"mask_channel": "auto"} if "mask" in to else {}
    try:
        return region.replace(**(channel | _told(region, to)))
    except SceneError as error:
        raise error if error.region else SceneError(str(error), region=region.name) from None


def _told(owner: Any, to: Mapping[str, Any]) -> dict[str, Any]:
    """Whole fields of a scene or region, of fields and parts of fields ("exemplar.strength") at values.

    A picture alone, in the place of an object that holds one, takes that one's place: the rest of the object stays.
    """
    fields: dict[str, Any] = {}
    for field, value in to.items():
        whole, point, part = field.partition(".")
        now = fields.get(whole, getattr(owner, whole, None))
        # As JSON spells them: "control.from" is a field there.
        parts = now.model_dump(mode="json", exclude_none=True) if isinstance(now, Value) else now
        if point:
            if not isinstance(parts, Mapping):
                raise SceneError(_no_part(whole, field, missing=now is None))
            fields[whole] = _with_part(parts, part, value)
        elif isinstance(parts, Mapping) and _is_picture(value):
            held = next((name for name in ("image", "from") if name in parts), None)
            fields[whole] = value if held is None else _with_part(parts, held, value)
        else:
            fields[whole] = value
    return fields


def _with_part(parts: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The parts with one at a value; what was learned of another picture, or from another word, is not kept."""
    stale = LEARNED if name in ("image", "word") else ""
    return {**{own: held for own, held in parts.items() if own != stale}, name: value}


def _is_picture(value: Any) -> bool:
    """Whether a value is a picture alone, and no object that holds one."""
    return set(value) <= {"path", "sha256"} if isinstance(value, Mapping) else not isinstance(value, Value | None)


def read_change(scene: Scene, text: str) -> tuple[str, Any]:
    """ "hat.similarity=3" as the name of a field and its value: JSON where that can be read, else the text itself.

    What is said in words stays words: ``hat=7`` is the phrase "7".
    """
    name, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise SceneError(f'The change is {shown(text)}; give a field and its value, as in hat="a green hat".')
    owner, field = _meant(scene, name)
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        value = given
    if isinstance(getattr(owner or scene, field, None), str) and not isinstance(value, str):
        value = given
    return name, value


def _meant(scene: Scene, name: str) -> tuple[Region | None, str]:
    """The region, or None for the scene, and the field of it that a name means. SceneError where it means two."""
    named = any(region.name == name for region in scene.regions)
    found = region_field(scene, name)
    if named and (found or name in _own_fields(scene)):
        other = "a field of the scene" if found is None else f"the {found[1]} of the region {shown(found[0].name)}"
        raise SceneError(
            f"{shown(name)} is the name of a region, and {other}; write {shown(f'{name}.phrase')} for the region, or "
            "give it another name."
        )
    if found:
        region, field = found
        _check_field(region, field, region.name)
        return found
    name = ALIASES.get(name, name)
    if name.partition(".")[0] in _own_fields(scene):
        return None, name
    for region in scene.regions:
        if region.name == name:
            return region, "phrase"
    raise SceneError(_unknown(scene, name))


def _own_fields(scene: Scene) -> list[str]:
    return [name for name in type(scene).model_fields if name not in ("version", "regions")]


def _check_field(owner: Value, field: str, region: str | None) -> None:
    known = list(type(owner).model_fields)
    whole = field.partition(".")[0]
    if whole not in known:
        meant = closest(whole, known)
        advice = f'did you mean "{meant}"?' if meant else f"a region has {', '.join(known)}."
        raise SceneError(f"There is no field {shown(whole)} to change; {advice}", region=region)


def _unknown(scene: Scene, name: str) -> str:
    regions = [region.name or "" for region in scene.regions]
    owner, point, _ = name.partition(".")
    what = f"region {shown(owner)}" if point else f"region or field of the scene {shown(name)}"
    meant = closest(owner, [*regions, *([] if point else type(scene).model_fields)])
    advice = f'did you mean "{meant}"? ' if meant else ""
    named = ", ".join(map(shown, regions)) or "none"
    fields = "" if point else f" Fields of the scene are {', '.join(_own_fields(scene))}."
    return f"There is no {what} to change; {advice}The scene's regions are: {named}.{fields}"


def _no_part(whole: str, field: str, *, missing: bool) -> str:
    if missing:
        return f"{field} cannot be changed without {whole}; give {whole} itself."
    return f"There is no field {shown(field)} to change; {whole} has no parts, so give it as a whole."
