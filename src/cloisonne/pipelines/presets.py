"""Presets whose fields a user can change one by one."""

from collections.abc import Mapping
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cloisonne.errors import SceneError
from cloisonne.scene.io.renamed_fields import new_name
from cloisonne.scene.values import brief

T = TypeVar("T")


def changed(presets: Mapping[str, T], preset: str, changes: Mapping[str, Any], what: str) -> T:
    """A preset (a dataclass) with some of its fields changed. what: "editing" or "translating".

    Raises SceneError for an unknown preset or field, and for values that the field cannot have.
    """
    if preset not in presets:
        raise SceneError(f'There is no preset "{preset}" of {what}; choose one of {", ".join(presets)}.')
    found: Any = presets[preset]
    kinds = get_type_hints(type(found))
    for name, value in changes.items():
        if renamed := new_name(name, kinds):
            raise SceneError(f'The preset "{preset}" of {what} has no "{name}"; it is now "{renamed}".')
        if name not in kinds:
            raise SceneError(
                f'The preset "{preset}" of {what} has no "{name}"; choose one of {", ".join(sorted(kinds))}.'
            )
        if wanted := _refused(kinds[name], value):
            raise SceneError(f"{name} is {brief(value)}; give {wanted}.")
    return replace(found, **changes)


def _refused(kind: Any, value: Any) -> str:
    """What to give instead of a value of the wrong type; "" if the value is right."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if value is None and type(None) in options:
        return ""
    kind = options[0]
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "" if isinstance(value, bool) else "true or false"
    numbers: Any = int if kind is int else (int, float)
    given: Any = value
    right = isinstance(given, numbers) and not isinstance(given, bool) and given >= 0
    return "" if right else f"a {'whole number' if kind is int else 'number'} that is not negative"
