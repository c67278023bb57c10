"""Types of the fields of a scene, with the messages of what they refuse."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, WithJsonSchema

from cloisonne.errors import SceneError
from cloisonne.scene.values import brief

Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=8)]
GuidanceLength = Annotated[float, Field(strict=True, ge=0, le=0.2)]
Boost = Annotated[float, Field(strict=True, ge=1, le=1e6)]


def _checked_interval(value: Any) -> Any:
    numbers = value.tolist() if isinstance(value, np.ndarray) else value
    right = isinstance(numbers, list | tuple) and len(numbers) == 2 and all(type(n) in (int, float) for n in numbers)
    if not right or not 0 <= numbers[0] <= numbers[1] <= 1:
        raise SceneError(f"guidance_interval is {brief(value)}; give [start, stop] with 0 <= start <= stop <= 1.")
    return numbers


GuidanceInterval = Annotated[tuple[float, float], BeforeValidator(_checked_interval)]


_PRESETS = {"editing": "mrgd", "translating": "vct"}


def _checked_settings(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(v, str | float | int | bool) for v in value.values()):
        name = info.field_name or ""
        raise SceneError(f'{name} is {brief(value)}; give an object such as {{"preset": "{_PRESETS[name]}"}}.')
    return tuple(sorted(value.items()))


Settings = Annotated[
    tuple[tuple[str, str | int | float | bool], ...],
    BeforeValidator(_checked_settings),
    PlainSerializer(dict),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]
