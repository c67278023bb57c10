"""Fields of a scene by name, such as ``guidance`` or ``hat.similarity``: look them up and change them."""

import json
from collections.abc import Mapping
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import ALIASES, Value, brief, closest


def region_field(scene: Scene, name: str) -> tuple[Region, str] | None:
    """Split "hat.similarity" into the region "hat" and the field name; None if it starts with no region's name."""
    # The longest name first, because names may contain dots.
    for region in sorted(scene.regions, key=lambda region: -len(region.name or "")):
        if name.startswith(f"{region.name}."):
            field = name.removeprefix(f"{region.name}.")
            return region, ALIASES.get(field, field)
    return None


def with_fields(scene: Scene, to: Mapping[str, Any]) -> Scene:
    """Return the scene with some fields changed.

    All fields are changed before the scene is validated, so that an ellipse can replace a box.

    Args:
        to: new values by name: "caption", "hat.similarity", "hat.exemplar.strength"; "hat" is that region's phrase.

    Raises:
        SceneError: there is no such region or field, or the value is invalid.
    """
    own: dict[str, Any] = {}
    by_region: dict[str, dict[str, Any]] = {}
    for name, value in to.items():
        owner, field = _resolve(scene, name)
        target = own if owner is None else by_region.setdefault(owner.name or "", {})
        if field in target:
            raise SceneError(f"{field} is set twice; set it once.", region=owner and owner.name)
        target[field] = value
    regions = [_changed_region(region, by_region.get(region.name or "", {})) for region in scene.regions]
    return scene.replace(**_whole_fields(scene, own), regions=tuple(regions))


def with_region_field(scene: Scene, field: str, value: Any, names: set[str]) -> Scene:
    """Return the scene with one field changed in the regions of these names."""
    regions = [_changed_region(region, {field: value} if region.name in names else {}) for region in scene.regions]
    return scene.replace(regions=tuple(regions))


def _changed_region(region: Region, to: Mapping[str, Any]) -> Region:
    if not to:
        return region
    # The channel belongs to the old mask.
    channel = {"mask_channel": "auto"} if "mask" in to else {}
    try:
        return region.replace(**(channel | _whole_fields(region, to)))
    except SceneError as error:
        raise error if error.region else SceneError(str(error), region=region.name) from None


def _whole_fields(owner: Any, to: Mapping[str, Any]) -> dict[str, Any]:
    """Turn new values of fields and of subfields ("exemplar.strength") into values of whole fields.

    An image given for an object that contains one, such as an exemplar, replaces only the image in that object.
    """
    fields: dict[str, Any] = {}
    for field, value in to.items():
        whole, point, part = field.partition(".")
        now = fields.get(whole, getattr(owner, whole, None))
        # Names as in JSON, where a control has the field "from".
        parts = now.model_dump(mode="json", exclude_none=True) if isinstance(now, Value) else now
        if point:
            if not isinstance(parts, Mapping):
                raise SceneError(_no_subfield(whole, field, missing=now is None))
            fields[whole] = _with_part(whole, parts, part, value)
        elif isinstance(parts, Mapping) and _is_image(value):
            held = next((name for name in ("image", "from") if name in parts), None)
            fields[whole] = value if held is None else _with_part(whole, parts, held, value)
        else:
            fields[whole] = value
    return fields


def _with_part(whole: str, parts: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """``parts`` of a field with one value changed, without those that the change makes stale."""
    stale = CONDITIONS[whole].stale.get(name) if whole in CONDITIONS else None
    return {**{own: held for own, held in parts.items() if own != stale}, name: value}


def _is_image(value: Any) -> bool:
    """Whether a value is an image, not an object that contains one."""
    return set(value) <= {"path", "sha256"} if isinstance(value, Mapping) else not isinstance(value, Value | None)


def read_change(scene: Scene, text: str) -> tuple[str, Any]:
    """Split "hat.similarity=3" into the name of a field and its value.

    The value is parsed as JSON; if it is not JSON, or the field is text, it is the text itself: ``hat=7`` is the
    phrase "7".

    Raises:
        SceneError: the change is malformed, or there is no such field.
    """
    name, equals, given = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise SceneError(f'The change is {brief(text)}; give a field and its value, as in hat="a green hat".')
    owner, field = _resolve(scene, name)
    try:
        value = json.loads(given)
    except (ValueError, RecursionError):
        value = given
    if isinstance(getattr(owner or scene, field, None), str) and not isinstance(value, str):
        value = given
    return name, value


def _resolve(scene: Scene, name: str) -> tuple[Region | None, str]:
    """The region (None: the scene) and the field that a name refers to. SceneError if it is unknown or ambiguous."""
    named = any(region.name == name for region in scene.regions)
    found = region_field(scene, name)
    if named and (found or name in _own_fields(scene)):
        other = "a field of the scene" if found is None else f"the {found[1]} of the region {brief(found[0].name)}"
        raise SceneError(
            f"{brief(name)} is both the name of a region and {other}; write {brief(f'{name}.phrase')} for the region, "
            "or rename it."
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
    known = owner.field_names()
    whole = field.partition(".")[0]
    if whole not in known:
        meant = closest(whole, known)
        advice = f'did you mean "{meant}"?' if meant else f"the fields of a region are {', '.join(known)}."
        raise SceneError(f"There is no field {brief(whole)} to change; {advice}", region=region)


def _unknown(scene: Scene, name: str) -> str:
    regions = [region.name or "" for region in scene.regions]
    owner, point, _ = name.partition(".")
    what = f"region {brief(owner)}" if point else f"region or field of the scene {brief(name)}"
    meant = closest(owner, [*regions, *([] if point else type(scene).model_fields)])
    advice = f'did you mean "{meant}"? ' if meant else ""
    named = ", ".join(map(brief, regions)) or "none"
    fields = "" if point else f" Fields of the scene are {', '.join(_own_fields(scene))}."
    return f"There is no {what} to change; {advice}The scene's regions are: {named}.{fields}"


def _no_subfield(whole: str, field: str, *, missing: bool) -> str:
    if missing:
        return f"{field} cannot be set, because there is no {whole}; set {whole} as a whole."
    return f"There is no field {brief(field)} to change; {whole} has no fields of its own, so set it as a whole."
