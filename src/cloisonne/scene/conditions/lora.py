"""LoRAs of a scene or region: names under which the model was loaded with them, and scales."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from cloisonne.errors import SceneError
from cloisonne.scene.values import Text, Value, brief

MAX_LORAS = 16
MAX_NAME = 100


class Lora(Value):
    """A LoRA of the model.

    Attributes:
        name: the name that the model was loaded with it under.
        scale: in [-10, 10]; 0 has no effect, 1 is as trained.
    """

    name: Text
    scale: float = Field(default=1.0, strict=True, ge=-10, le=10)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.strip() or len(name) > MAX_NAME or not set("\n\r\t=").isdisjoint(name):
            raise SceneError(
                f'The LoRA\'s name is {brief(name)}; give one line of at most {MAX_NAME} characters without "=".'
            )
        return name


def given_loras(value: Any) -> Any:
    """Make LoRAs, sorted by name, from a name, {name: scale}, {"name": ..., "scale": ...}, or a list of these."""
    entries = value if isinstance(value, list | tuple) else [value]
    found = [lora for entry in entries for lora in _given(entry, value)]
    names = [lora.name for lora in found]
    if len(set(names)) < len(names) or len(names) > MAX_LORAS:
        raise SceneError(f"lora is {brief(value)}; name each LoRA once, and at most {MAX_LORAS}.")
    return tuple(sorted(found, key=lambda lora: lora.name))


def _given(entry: Any, value: Any) -> list[Lora]:
    if isinstance(entry, Lora):
        return [entry]
    if isinstance(entry, str):
        return [Lora(name=entry)]
    if isinstance(entry, Mapping) and isinstance(entry.get("name"), str):
        return [Lora(**entry)]
    if isinstance(entry, Mapping) and all(isinstance(name, str) for name in entry):
        return [Lora(name=name, scale=scale) for name, scale in entry.items()]
    raise SceneError(f'lora is {brief(value)}; give a name, such as "ink", or names with scales, {{"ink": 0.8}}.')


LoraField = Annotated[tuple[Lora, ...], BeforeValidator(given_loras), Field(max_length=MAX_LORAS)]
