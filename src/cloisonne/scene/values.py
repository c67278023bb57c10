"""The base class of a scene's values: immutable, no unknown fields, and one sentence per error."""

import json
import os
import unicodedata
from collections.abc import Container, Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, Signature
from os import PathLike
from typing import Annotated, Any, Self, get_type_hints

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from cloisonne.errors import CloisonneError, SceneError

MAX_TEXT = 10_000
"""Largest number of characters in a text."""

_NAMES_ELSEWHERE = {
    "prompt": ("caption", "phrase"),
    "text": ("caption", "phrase"),
    "description": ("caption", "phrase"),
    "caption": ("phrase",),
    "phrase": ("caption",),
    "bbox": ("box",),
    "segmentation": ("polygon",),
    "points": ("polygon",),
    "mask_image": ("mask",),
    "example_image": ("exemplar",),
    "ip_adapter_image": ("exemplar",),
    "reference": ("exemplar",),
    "control_image": ("control", "image"),
    "image": ("background",),
    "cfg_scale": ("guidance",),
    "scheduler": ("sampler",),
    "layers": ("regions",),
    "boxes": ("regions",),
}
"""Field names of other tools, and the fields here that mean the same."""


ALIASES = {"num_inference_steps": "steps", "guidance_scale": "guidance", "negative_prompt": "negative"}
"""Names in diffusers for fields of a scene or region; accepted wherever the field is."""


def own_names(data: Mapping[str, Any], fields: Container[str], region: str | None = None) -> dict[str, Any]:
    """Return ``data`` with each alias of ``ALIASES`` replaced by its field, if ``fields`` has that field.

    Raises:
        SceneError: a value is given under both names; names ``region`` if there is one.
    """
    named = {name: ALIASES[name] for name in data if name in ALIASES and ALIASES[name] in fields}
    for name, field in named.items():
        if field in data:
            raise SceneError(f"{field} and {name} are the same; give one of them.", region=region)
    return {named.get(name, name): value for name, value in data.items()}


class _PlainSignature:
    """The signature of a class of values as ``help`` prints it: fields, types and defaults, without validators."""

    def __get__(self, instance: object, owner: "type[Value]") -> Signature:
        hints = get_type_hints(owner)
        fields = {name: field.get_default(call_default_factory=True) for name, field in owner.model_fields.items()}
        return Signature(
            [
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if default is PydanticUndefined else default,
                    annotation=hints[name],
                )
                for name, default in fields.items()
            ]
        )


class Value(BaseModel):
    """Base class of a scene's parts. Invalid values raise SceneError or ImageError, never ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **data: Any) -> None:
        """Make the value from its fields. Raises SceneError or ImageError for an invalid one."""
        data = own_names(data, self.field_names(), self._owner(data, ()))
        self._refuse_unknown(data)
        try:
            super().__init__(**{k: v.item() if isinstance(v, np.generic) else v for k, v in data.items()})
        except ValidationError as error:
            raise self._as_error(error, data) from None

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        cls.__signature__ = _PlainSignature()  # pyright: ignore[reportAttributeAccessIssue]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Make the value from a mapping of its fields."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise cls._as_error(error, obj) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Make the value from a JSON object of its fields."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise cls._as_error(error, None) from None

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed. The copy is validated."""
        changes = own_names(changes, self.field_names(), self._owner(vars(self), ()))
        return type(self)(**dict(self) | changes)

    # pydantic's own error would link to its documentation.
    def __setattr__(self, name: str, value: Any) -> None:
        raise SceneError(_frozen(self, name))

    def __delattr__(self, name: str) -> None:
        raise SceneError(_frozen(self, name))

    def __str__(self) -> str:
        return repr(self)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return [(name, value) for name, value in self if name not in defaults or value != defaults[name]]

    @classmethod
    def field_names(cls) -> list[str]:
        """Names of the fields."""
        return list(cls.model_fields)

    @classmethod
    def _owner(cls, data: Any, place: Sequence[int | str]) -> str | None:
        """Name of the region that an error in ``data`` at ``place`` is about, or None."""
        return None

    @classmethod
    def _refuse_unknown(cls, data: Mapping[str, Any]) -> None:
        for name in data:
            if name not in cls.field_names():
                raise SceneError(_unknown(name, cls.field_names()), region=cls._owner(data, ()))

    @classmethod
    def _as_error(cls, error: ValidationError, data: Any) -> CloisonneError:
        first = error.errors(include_url=False)[0]
        cause, owner = first.get("ctx", {}).get("error"), cls._owner(data, first["loc"])
        if isinstance(cause, CloisonneError):
            return cause if cause.region is not None or owner is None else type(cause)(str(cause), region=owner)
        if not first["loc"]:
            return SceneError(
                f"{cls.__name__} cannot be made from {brief(first['input'])}; give an object with its fields."
            )
        field = str(first["loc"][0])
        given = "missing" if first["type"] == "missing" else brief(first["input"])
        wanted = _wanted(cls.model_json_schema()["properties"][field])
        return SceneError(f"{field} is {given}; give {wanted}.", region=owner)


def _frozen(value: Value, name: str) -> str:
    return f"The {type(value).__name__} is frozen, so its {name} cannot be set; make a copy with replace({name}=...)."


def brief(value: object) -> str:
    """Format a value for a message: as JSON, on one line, cut after 60 characters if longer than 80."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=_as_json)
    except (TypeError, ValueError):
        text = repr(value)
    text = " ".join(_printable(text).split())
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"


def _as_json(value: object) -> Any:
    if isinstance(value, Value):
        return value.model_dump(mode="json", exclude_none=True)
    raise TypeError


def quoted(path: str | PathLike[str]) -> str:
    """Format a path for a message: in full and in quotes. Bytes that are not UTF-8 are escaped."""
    return _printable(json.dumps(os.fspath(path), ensure_ascii=False))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def closest(name: str, known: Sequence[str]) -> str | None:
    """The entry of ``known`` that ``name`` was probably meant to be, or None."""
    for candidate in _NAMES_ELSEWHERE.get(name, ()):
        if candidate in known:
            return candidate
    return next(iter(get_close_matches(name, known, n=1)), None)


def _unknown(name: str, known: Sequence[str]) -> str:
    meant = closest(name, known)
    return f"There is no field {brief(name)}; " + (
        f'did you mean "{meant}"?' if meant else f"the fields are {', '.join(known)}."
    )


def _wanted(schema: Mapping[str, Any]) -> str:
    """Describe the values that a field accepts, from its JSON schema."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return " or ".join(map(_wanted_kind, kinds if "const" in kinds[-1] else kinds[:1]))


def _wanted_kind(kind: Mapping[str, Any]) -> str:
    if "enum" in kind:
        return f"one of {', '.join(map(str, kind['enum']))}"
    if "const" in kind:
        return brief(kind["const"])
    if kind.get("type") == "string":
        low, high = kind.get("minLength"), kind.get("maxLength")
        return "text" + (f" of {low or 0} to {high} characters" if high is not None else "")
    if kind.get("type") not in ("number", "integer"):
        return {"boolean": "true or false", "object": "an object", "array": "a list"}[kind["type"]]
    low, high = kind.get("minimum"), kind.get("maximum")
    reach = f" of at least {low}" if high is None else f" from {low} to {high:.15g}"
    multiple = f" that is a multiple of {kind['multipleOf']}" if "multipleOf" in kind else ""
    return ("a whole number" if kind["type"] == "integer" else "a number") + reach + multiple


def _readable(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise SceneError(
            f"A text has {len(text)} characters, but at most {MAX_TEXT} are allowed; shorten {brief(text)}."
        )
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t":
            raise SceneError(
                f"The text {brief(text)} contains the character {character!a}, which is not allowed; remove it."
            )
    return text


Text = Annotated[str, AfterValidator(_readable)]
"""Text without control characters, of at most MAX_TEXT characters."""

Seed = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]
"""Seed of a random generator; the limit is the largest integer that JSON in a browser represents exactly."""

Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number in [0, 1]."""
