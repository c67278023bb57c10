"""The base of a scene's values: frozen, nothing unknown, and every refusal is one sentence."""

import json
import os
import unicodedata
from collections.abc import Container, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from cloisonne.errors import CloisonneError, SceneError

MAX_TEXT = 10_000
"""Characters of one text."""

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
"""Words of other tools, and ours for the same thing."""


ALIASES = {"num_inference_steps": "steps", "guidance_scale": "guidance", "negative_prompt": "negative"}
"""Names of diffusers for fields of a scene or region; they are read wherever the field is."""


def own_names(data: Mapping[str, Any], fields: Container[str], region: str | None = None) -> dict[str, Any]:
    """``data`` with the names of ``ALIASES`` replaced where ``fields`` has the field.

    Raises SceneError, about the region if there is one, where a value is given under both names.
    """
    named = {name: ALIASES[name] for name in data if name in ALIASES and ALIASES[name] in fields}
    for name, field in named.items():
        if field in data:
            raise SceneError(f"{field} and {name} are the same; give one of them.", region=region)
    return {named.get(name, name): value for name, value in data.items()}


class Value(BaseModel):
    """A part of a scene. Failures to make one are SceneError or ImageError, never pydantic's ValidationError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, /, **data: Any) -> None:
        data = own_names(data, type(self).model_fields, self._owner(data, ()))
        self._refuse_unknown(data)
        try:
            super().__init__(**{k: v.item() if isinstance(v, np.generic) else v for k, v in data.items()})
        except ValidationError as error:
            raise self._complaint(error, data) from None

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """The value of a mapping of its fields."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise cls._complaint(error, obj) from None

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """The value of a JSON object of its fields."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            raise cls._complaint(error, None) from None

    def replace(self, **changes: Any) -> Self:
        """The same value with other fields, checked again."""
        changes = own_names(changes, type(self).model_fields, self._owner(vars(self), ()))
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    # For pydantic's own error names an address of its documentation.
    def __setattr__(self, name: str, value: Any) -> None:
        raise SceneError(f"{name} of a {type(self).__name__} is frozen; make another one, as in replace({name}=...).")

    def __delattr__(self, name: str) -> None:
        raise SceneError(f"{name} of a {type(self).__name__} is frozen; make another one, as in replace({name}=...).")

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        fields = type(self).model_fields
        return [(name, value) for name, value in self.__dict__.items() if value != fields[name].default]

    @classmethod
    def _owner(cls, data: Any, place: Sequence[int | str]) -> str | None:
        """The region that a complaint about ``data`` at ``place`` is about, if any."""
        return None

    @classmethod
    def _refuse_unknown(cls, data: Mapping[str, Any]) -> None:
        for name in data:
            if name not in cls.model_fields:
                raise SceneError(_unknown(name, list(cls.model_fields)), region=cls._owner(data, ()))

    @classmethod
    def _complaint(cls, error: ValidationError, data: Any) -> CloisonneError:
        first = error.errors(include_url=False)[0]
        cause, owner = first.get("ctx", {}).get("error"), cls._owner(data, first["loc"])
        if isinstance(cause, CloisonneError):
            return cause if cause.region is not None or owner is None else type(cause)(str(cause), region=owner)
        if not first["loc"]:
            return SceneError(
                f"{cls.__name__} cannot be read from {shown(first['input'])}: give an object of its fields."
            )
        field = str(first["loc"][0])
        given = "missing" if first["type"] == "missing" else shown(first["input"])
        wanted = _wanted(cls.model_json_schema()["properties"][field])
        return SceneError(f"{field} is {given}; give {wanted}.", region=owner)


def shown(value: object) -> str:
    """How a sentence shows what it was given: as JSON would spell it, and never long."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    text = " ".join(_printable(text).split())
    return text if len(text) <= 80 else f"{text[:60]} ... ({len(text)} characters)"


def quoted(path: str | PathLike[str]) -> str:
    """How a sentence shows a path: whole, and safe to print whatever its bytes are."""
    return _printable(json.dumps(os.fspath(path), ensure_ascii=False))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def closest(name: str, known: Sequence[str]) -> str | None:
    """The one of ``known`` that ``name`` was probably meant to be."""
    for candidate in _NAMES_ELSEWHERE.get(name, ()):
        if candidate in known:
            return candidate
    return next(iter(get_close_matches(name, known, n=1)), None)


def _unknown(name: str, known: Sequence[str]) -> str:
    meant = closest(name, known)
    return f"There is no field {shown(name)}; " + (
        f'did you mean "{meant}"?' if meant else f"the fields are {', '.join(known)}."
    )


def _wanted(schema: Mapping[str, Any]) -> str:
    """What a field takes, in words, from its JSON schema."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    kind = kinds[0]
    if "enum" in kind:
        return f"one of {', '.join(map(str, kind['enum']))}"
    if "const" in kind:
        return f"{kind['const']}"
    if kind.get("type") == "string":
        low, high = kind.get("minLength"), kind.get("maxLength")
        return "text" + (f" of {low or 0} to {high} characters" if high is not None else "")
    if kind.get("type") not in ("number", "integer"):
        return {"boolean": "true or false", "object": "an object", "array": "a list"}[kind["type"]]
    low, high = kind.get("minimum"), kind.get("maximum")
    reach = f" of at least {low}" if high is None else f" from {low} to {high}"
    multiple = f" that is a multiple of {kind['multipleOf']}" if "multipleOf" in kind else ""
    return ("a whole number" if kind["type"] == "integer" else "a number") + reach + multiple


def _readable(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise SceneError(f"A text has {len(text)} characters, but at most {MAX_TEXT} are read; shorten {shown(text)}.")
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t":
            raise SceneError(
                f"The text {shown(text)} holds the character {character!a}, which cannot be read; remove it."
            )
    return text


Text = Annotated[str, AfterValidator(_readable)]
"""Words for a model: no control characters, at most MAX_TEXT characters."""

Seed = Annotated[int, Field(strict=True, ge=0, le=2**53 - 1)]
"""Seed of a generator of noise; the limit is what JSON in a browser keeps exactly."""

Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
"""A number in [0, 1]."""
