"""A change of style or subject that the model holds under a name (LoRA), heard in one region."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from cloisonne.errors import SceneError
from cloisonne.scene.values import Text, Value, shown

MAX_LORAS = 16
MAX_NAME = 100


class Lora(Value):
    """name: what the model was loaded with it as. scale: how much it counts; 0 not at all, 1 as it was trained."""

    name: Text
    scale: float = Field(default=1.0, strict=True, ge=-10, le=10)

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.strip() or len(name) > MAX_NAME or not set("\n\r\t=").isdisjoint(name):
            raise SceneError(
                f'The LoRA\'s name is {shown(name)}; give one line of at most {MAX_NAME} characters without "=".'
            )
        return name


def given_loras(value: Any) -> Any:
    """LoRAs, sorted by their names, from a name, {name: scale}, {"name": ..., "scale": ...}, or a list of these."""
    told = value if isinstance(value, list | tuple) else [value]
    found = [lora for one in told for lora in _given(one, value)]
    names = [lora.name for lora in found]
    if len(set(names)) < len(names) or len(names) > MAX_LORAS:
        raise SceneError(f"lora is {shown(value)}; name each LoRA once, and at most {MAX_LORAS}.")
    return tuple(sorted(found, key=lambda lora: lora.name))


def _given(one: Any, value: Any) -> list[Lora]:
    if isinstance(one, Lora):
        return [one]
    if isinstance(one, str):
        return [Lora(name=one)]
    if isinstance(one, Mapping) and isinstance(one.get("name"), str):
        return [Lora(**one)]
    if isinstance(one, Mapping) and all(isinstance(name, str) for name in one):
        return [Lora(name=name, scale=scale) for name, scale in one.items()]
    raise SceneError(f'lora is {shown(value)}; give a name, such as "ink", or names with scales, {{"ink": 0.8}}.')


LoraField = Annotated[tuple[Lora, ...], BeforeValidator(given_loras), Field(max_length=MAX_LORAS)]
