"""What a user asks for: a canvas, a caption, and regions that say what belongs where."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.lora import LoraField
from cloisonne.scene.conditions.translation import check_background, translated_region
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import Background
from cloisonne.scene.io.mrgd_layout import is_layout, scene_fields
from cloisonne.scene.io.png_record import SIGNATURE, read_record
from cloisonne.scene.outside import OutsideField
from cloisonne.scene.overlap import Overlap
from cloisonne.scene.prompt import Prompt, at
from cloisonne.scene.region import Region
from cloisonne.scene.values import Fraction, Seed, Text, Value, quoted, shown

VERSION = 1
MAX_REGIONS = 256

SamplerName = Literal["ddim", "euler", "euler-ancestral", "heun", "dpmpp-2m", "pndm"]
MethodName = Literal["reco", "attention", "multidiffusion", "words", "caption"]
Spacing = Literal["default", "karras", "leading", "trailing", "linspace"]

_Side = Annotated[int, Field(strict=True, ge=64, le=4096, multiple_of=8)]


def _checked_interval(value: Any) -> Any:
    numbers = value.tolist() if isinstance(value, np.ndarray) else value
    right = isinstance(numbers, list | tuple) and len(numbers) == 2 and all(type(n) in (int, float) for n in numbers)
    if not right or not 0 <= numbers[0] <= numbers[1] <= 1:
        raise SceneError(f"guidance_interval is {shown(value)}; give [start, stop] with 0 <= start <= stop <= 1.")
    return numbers


_Interval = Annotated[tuple[float, float], BeforeValidator(_checked_interval)]


_PRESETS = {"editing": "mrgd", "translating": "vct"}


def _checked_way(value: Any, info: ValidationInfo) -> Any:
    if isinstance(value, tuple):
        return value
    if not isinstance(value, Mapping) or not all(isinstance(v, str | float | int | bool) for v in value.values()):
        name = info.field_name or ""
        raise SceneError(f'{name} is {shown(value)}; give an object such as {{"preset": "{_PRESETS[name]}"}}.')
    return tuple(sorted(value.items()))


_Way = Annotated[
    tuple[tuple[str, str | int | float | bool], ...],
    BeforeValidator(_checked_way),
    PlainSerializer(dict),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}),
]


class Scene(Value):
    """A picture to be made. What is None takes the model's native value; see :meth:`resolved`.

    width, height: canvas in pixels, multiples of 8. caption, negative: what the whole picture
    shows, and does not, with weights and schedules (``scene/prompt.py``).
    seed: image i of a run uses seed + i. steps, guidance, sampler, spacing: how the noise is walked down.
    eta: the share of noise that a step of ``ddim`` renews. guidance_rescale: phi of arXiv 2305.08891, eq. 16.
    guidance_interval: the part of the run that is guided (arXiv 2404.07724).
    lora: names of LoRAs that the model holds, with scales, which change the whole picture.
    model: a name or folder. method: how regions reach the network. overlap: what holds where regions overlap.
    background: the given picture (path, data URI, PIL image, array or tensor). With regions they are repainted in it
    and nothing else is; without regions the whole picture starts from it. strength: how much of the run it goes
    through, in [0, 1]; at 1 nothing of what is repainted is kept. composite: put back only what was to change; without
    it the result shows all that the model made of the window around the regions, which differs a little everywhere.
    editing: how edits are made, a preset's name under "preset" and what shall be other than it says (see ``edit``).
    translating: the same of how a region's concept is carried over (see ``translate``).
    outside: a picture that stands outside of some regions, whatever was drawn there (see :meth:`changed`).
    """

    version: Literal[1] = VERSION
    width: _Side | None = None
    height: _Side | None = None
    caption: Prompt = ""
    negative: Prompt = ""
    seed: Seed | None = None
    steps: int | None = Field(default=None, strict=True, ge=1, le=1000)
    guidance: float | None = Field(default=None, strict=True, ge=0, le=100)
    guidance_rescale: Fraction = 0.0
    guidance_interval: _Interval = (0.0, 1.0)
    sampler: SamplerName | None = None
    spacing: Spacing = "default"
    eta: Fraction = 0.0
    lora: LoraField = ()
    model: Annotated[Text, Field(min_length=1, max_length=1000)] = "builtin"
    method: MethodName | None = None
    overlap: Overlap = "blend"
    background: Background | None = None
    strength: Fraction = 1.0
    composite: bool = Field(default=True, strict=True)
    editing: _Way = ()
    translating: _Way = ()
    outside: OutsideField | None = None
    regions: tuple[Region, ...] = ()

    # Written out so that type checkers allow whatever the fields convert: lists, paths, arrays.
    def __init__(self, /, **data: Any) -> None:
        super().__init__(**data)

    @classmethod
    def _owner(cls, data: Any, place: Sequence[int | str]) -> str | None:
        return f"region-{place[1]}" if len(place) > 1 and place[0] == "regions" else None

    @classmethod
    def _refuse_unknown(cls, data: Mapping[str, Any]) -> None:
        # First, because another version may well have other fields.
        version = data.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise SceneError(f"version is {shown(version)}; write the scene as version {VERSION}, or update cloisonne.")
        super()._refuse_unknown(data)

    @field_validator("regions", mode="before")
    @classmethod
    def _check_list(cls, regions: Any) -> Any:
        if not isinstance(regions, list | tuple):
            raise SceneError(f"regions is {shown(regions)}; give a list of regions.")
        if len(regions) > MAX_REGIONS:
            raise SceneError(f"The scene has {len(regions)} regions; give at most {MAX_REGIONS}.")
        for index, region in enumerate(regions):
            if not isinstance(region, Region | Mapping):
                raise SceneError(
                    f"The region is {shown(region)}; give an object with a shape and a phrase.",
                    region=f"region-{index}",
                )
        return regions

    @field_validator("regions")
    @classmethod
    def _name_regions(cls, regions: tuple[Region, ...]) -> tuple[Region, ...]:
        named = tuple(r if r.name else r.replace(name=f"region-{index}") for index, r in enumerate(regions))
        names = [region.name for region in named]
        for name in names:
            if names.count(name) > 1:
                raise SceneError("Two regions have this name; give each its own.", region=name)
        return named

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.eta and self.sampler not in (None, "ddim"):
            raise SceneError(
                f'eta is {self.eta}, but the sampler "{self.sampler}" has none; leave it out or use "ddim".'
            )
        if self.strength != 1 and self.background is None:
            raise SceneError(f"strength is {self.strength}, but there is no background; give one, or leave it out.")
        names = [region.name for region in self.regions]
        for name in self.outside.regions if self.outside else ():
            if name not in names:
                there = ", ".join(map(shown, names)) or "none"
                raise SceneError(f"outside names the region {shown(name)}, but the scene's regions are: {there}.")
        if (region := translated_region(self.active_regions)) is not None:
            check_background(region, self.background, self.strength)
        return self

    @property
    def active_regions(self) -> tuple[Region, ...]:
        """The regions that count: weight above 0 and an interval that is not empty."""
        return tuple(region for region in self.regions if region.active)

    @property
    def translated(self) -> Region | None:
        """The region whose concept counts, if there is one."""
        return translated_region(self.active_regions)

    def region_prompt(self, region: Region) -> str:
        """The words for a region's part of the canvas: ``caption, phrase``, or the phrase alone without a caption."""
        return f"{self.caption}, {region.phrase}" if self.caption else region.phrase

    def at_progress(self, progress: float, num_steps: int) -> "Scene":
        """What it says where ``progress`` in [0, 1) of a walk of ``num_steps`` lies behind, without schedules."""
        texts = {name: at(getattr(self, name), progress, num_steps) for name in ("caption", "negative")}
        regions = tuple(region.at_progress(progress, num_steps) for region in self.regions)
        return self.model_copy(update={**texts, "regions": regions})

    def resolved(self, *, width: int, height: int, steps: int, guidance: float, sampler: str, method: str) -> "Scene":
        """The complete scene: what is left out takes these native values of the model, and a missing seed is drawn."""
        native: dict[str, Any] = {"width": width, "height": height, "steps": steps, "guidance": guidance}
        native |= {"sampler": sampler, "method": method}
        native["seed"] = secrets.randbelow(2**32)
        return self.replace(**{name: value for name, value in native.items() if getattr(self, name) is None})

    def to_dict(self, *, complete: bool = False) -> dict[str, Any]:
        """The scene as a JSON object: what differs from the defaults; with ``complete``, all that is not None."""
        data = self.model_dump(mode="json", exclude_defaults=not complete, exclude_none=True)
        return {"version": VERSION} | data

    def to_json(self, *, base: Path | None = None) -> str:
        """The scene as JSON text. base: the folder that paths shall be relative to; None leaves them as they are."""
        data = self.to_dict()
        return wire.text(data if base is None else wire.to_folder(data, base))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, base: Path | None = None) -> "Scene":
        """The scene of a JSON object, also of one of MRGD's layouts.

        base: the folder that its paths are relative to; None means the current one.
        """
        if is_layout(data):
            return cls(**scene_fields(data))
        return cls(**(data if base is None else wire.from_folder(data, base)))

    @classmethod
    def from_json(cls, text: str | bytes, *, base: Path | None = None) -> "Scene":
        """The scene of a JSON text. base: the folder that its paths are relative to; None means the current one."""
        return cls.from_dict(wire.parse(text), base=base)

    @classmethod
    def from_png(cls, path: str | Path) -> "Scene":
        """The scene that a generated PNG carries; its paths, if any, are relative to the PNG's folder."""
        return cls.from_dict(read_record(wire.read(path), quoted(path)).scene, base=Path(path).parent)

    @classmethod
    def load(cls, path: str | Path) -> "Scene":
        """The scene of a JSON file, of a PNG that carries one, or of either on standard input where ``path`` is "-"."""
        data, base = wire.read(path), Path() if str(path) == "-" else Path(path).parent
        if data.startswith(SIGNATURE):
            return cls.from_dict(read_record(data, quoted(path)).scene, base=base)
        return cls.from_json(data, base=base)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON schema of version 1."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}
