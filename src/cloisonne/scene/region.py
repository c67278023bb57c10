# pyright: strict, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
"""One region of a scene: a shape and its conditions. All rules that need no model are checked here."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.concept import ConceptField
from cloisonne.scene.conditions.control import ControlField
from cloisonne.scene.conditions.edit import EditField
from cloisonne.scene.conditions.exemplar import ExemplarField
from cloisonne.scene.conditions.kinds import CONDITIONS, check_conditions, conditions_of
from cloisonne.scene.conditions.lora import LoraField
from cloisonne.scene.io.image_ref import MaskImageRef
from cloisonne.scene.prompt import Prompt, at, is_empty
from cloisonne.scene.shape_fields import BoxField, PolygonField, RleField
from cloisonne.scene.shapes.geometry import Box, bounds
from cloisonne.scene.shapes.mask_reading import Channel, ReadMask, read_mask
from cloisonne.scene.shapes.masks import Mask, box_mask, ellipse_mask, extent, feathered, polygon_mask, resized, sampled
from cloisonne.scene.values import Fraction, Seed, Text, Value, brief

SHAPES = ("box", "ellipse", "polygon", "mask", "rle")
MAX_NAME = 100
MAX_KEYWORDS = 32


def _checked_keywords(value: Any) -> Any:
    words = value if isinstance(value, list | tuple) else [None]
    if len(words) > MAX_KEYWORDS or not all(isinstance(word, str) and word.strip() for word in words):
        raise SceneError(f"keywords is {brief(value)}; give a list of at most {MAX_KEYWORDS} words or phrases.")
    return value


def _is_name(text: str) -> bool:
    return bool(text.strip()) and len(text) <= MAX_NAME and set("\n\r\t").isdisjoint(text)


_KeywordsField = Annotated[tuple[Text, ...], BeforeValidator(_checked_keywords), Field(max_length=MAX_KEYWORDS)]


class Region(Value):
    """A part of the canvas and what belongs there. It has exactly one shape: box, ellipse, polygon, mask or rle.

    Kinds of condition that are in the table ``CONDITIONS`` (``scene/conditions/kinds.py``) without being declared here
    are accepted, stored and compared like fields.

    Attributes:
        name: unique in the scene. By default ``region-0``, ``region-1``, ... by position.
        box, ellipse: (x0, y0, x1, y1), fractions of the canvas.
        polygon: points (x, y), fractions of the canvas, filled by the even-odd rule.
        mask: an image (path, data URI, PIL image or array [H, W]), stretched over the canvas: white is the region, grey
            is soft.
        mask_channel: which channel of ``mask`` is read; see ``scene/shapes/mask_reading.py``.
        rle: COCO's run-length encoding, stretched over the canvas.
        phrase, negative: prompt and negative prompt, with weights and schedules (``scene/prompt.py``).
        exemplar: a reference image of the object, in addition to the phrase or instead of it.
        similarity: guidance scale of the exemplar.
        control: a control map, such as edges or depth, that the image follows in the region.
        lora: LoRAs of the model by name, with scales, that apply in the region only.
        concept: an image whose subject or style is transferred to this part of the background.
        edit: adds, removes or changes an object; has its own texts.
        keywords: words that MRGD's losses look for in the image; by default the phrase.
        weight: strength relative to other regions and the caption, >= 0; 0 disables the region.
        priority: the higher one wins where the scene's ``overlap`` is ``priority``.
        start, stop: the region is active in this interval of the steps, in [0, 1]; an empty one disables it.
        feather: width of the soft edge inside the shape, as a fraction in [0, 0.5] of the shorter side of its bounding
            box.
        guidance, seed: None takes the scene's.
        strict: only pixels inside the shape attend to the phrase, whatever the method.
    """

    model_config = ConfigDict(extra="allow")

    name: Text | None = None
    box: BoxField | None = None
    ellipse: BoxField | None = None
    polygon: PolygonField | None = None
    mask: MaskImageRef | None = None
    mask_channel: Channel = "auto"
    rle: RleField | None = None
    phrase: Prompt = ""
    negative: Prompt = ""
    exemplar: ExemplarField | None = None
    control: ControlField | None = None
    lora: LoraField = ()
    edit: EditField | None = None
    concept: ConceptField | None = None
    keywords: _KeywordsField = ()
    similarity: float | None = Field(default=None, strict=True, ge=0, le=100)
    weight: float = Field(default=1.0, strict=True, ge=0, allow_inf_nan=False)
    priority: int = Field(default=0, strict=True, ge=-1_000_000, le=1_000_000)
    start: Fraction = 0.0
    stop: Fraction = 1.0
    feather: float = Field(default=0.0, strict=True, ge=0, le=0.5)
    guidance: float | None = Field(default=None, strict=True, ge=0, le=100)
    seed: Seed | None = None
    strict: bool = Field(default=False, strict=True)

    # Written out so that type checkers accept all inputs that the fields convert: lists, paths, arrays.
    def __init__(self, /, **data: Any) -> None:
        """Make it from its fields. Raises SceneError or ImageError for an invalid one."""
        super().__init__(**data)

    @classmethod
    def _owner(cls, data: Any, place: Sequence[int | str]) -> str | None:
        name = data.get("name") if isinstance(data, Mapping) else None
        return name if isinstance(name, str) and _is_name(name) else None

    @classmethod
    def field_names(cls) -> list[str]:
        return list(dict.fromkeys([*cls.model_fields, *CONDITIONS]))

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        further = {
            name: row.value.model_json_schema() for name, row in CONDITIONS.items() if name not in cls.model_fields
        }
        schema["properties"] |= further
        schema["additionalProperties"] = False
        return schema

    @model_validator(mode="before")
    @classmethod
    def _read_further(cls, data: Any) -> Any:
        """The values of conditions that are no declared fields."""
        if not isinstance(data, Mapping):
            return data
        further = {name: value for name, value in data.items() if name in CONDITIONS and name not in cls.model_fields}
        read = {name: CONDITIONS[name].read(value) for name, value in further.items() if value is not None}
        return {name: value for name, value in data.items() if name not in further} | read

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not _is_name(name):
            raise SceneError(f"name is {brief(name)}; give one line of at most {MAX_NAME} characters, or leave it out.")
        return name

    @model_validator(mode="after")
    def _check(self) -> Self:
        shapes = [name for name in SHAPES if getattr(self, name) is not None]
        if not shapes:
            raise SceneError(f"The region has no shape; give it one of {', '.join(SHAPES)}.")
        if len(shapes) > 1:
            raise SceneError(f"The region has {len(shapes)} shapes, {' and '.join(shapes)}; keep one.")
        if self.mask is None and self.mask_channel != "auto":
            raise SceneError(
                f'The mask channel is "{self.mask_channel}", but the region has no mask; give one, or leave the '
                "channel out."
            )
        check_conditions(self)
        if is_empty(self.phrase) and not any(CONDITIONS[name].alone for name in self.conditions):
            others = ", ".join(row.name for row in CONDITIONS.values() if row.alone)
            raise SceneError(
                f'The region has no phrase; describe what belongs there, such as "a doughnut", or give one of {others}.'
            )
        if self.start > self.stop:
            raise SceneError(f"start is {self.start} and stop is {self.stop}; give a start that is not after stop.")
        return self

    @property
    def conditions(self) -> dict[str, Any]:
        """The conditions that the region is given besides its phrase, by name (``scene/conditions/kinds.py``)."""
        return conditions_of(self)

    @property
    def active(self) -> bool:
        """Whether the region has any effect: its weight is above 0 and its interval is not empty."""
        return self.weight > 0 and self.start < self.stop

    def at_progress(self, progress: float, num_steps: int) -> "Region":
        """The region with its texts as they are when a fraction ``progress`` in [0, 1) of the steps is done.

        The texts have no schedules. The phrase may be empty.
        """
        texts = {name: at(getattr(self, name), progress, num_steps) for name in ("phrase", "negative")}
        return self.model_copy(update=texts)

    def bounding_box(self, level: float = 0.0) -> Box:
        """The smallest box (fractions) around the shape, or around a mask's values above ``level`` in [0, 1]."""
        if shape := self.box or self.ellipse:
            return shape
        if self.polygon is not None:
            return bounds(self.polygon)
        found = extent(self._own_pixels(), level)
        if found is None:
            raise SceneError(f"The mask has no value above {level:g}; paint the region white.", region=self.name)
        return found

    def soft_mask(self, height: int, width: int) -> Mask:
        """The feathered mask float32 [H, W] in [0, 1] of the region on a canvas; exactly 0 outside of the shape."""
        mask = self._on_canvas(height, width)
        found = extent(mask)
        if found is None and self.mask is not None:
            raise SceneError(self._empty_mask(), region=self.name)
        if found is None:
            canvas = f"{width} x {height} canvas"
            raise SceneError(f"The region covers no pixel of the {canvas}; make it larger.", region=self.name)
        shorter_side = min((found[2] - found[0]) * width, (found[3] - found[1]) * height)
        return feathered(mask, self.feather * shorter_side)

    def _on_canvas(self, height: int, width: int) -> Mask:
        if self.box is not None:
            return box_mask(self.box, height, width)
        if self.ellipse is not None:
            return ellipse_mask(self.ellipse, height, width)
        if self.polygon is not None:
            return polygon_mask(self.polygon, height, width)
        if self.rle is not None:
            return sampled(self.rle.pixels(), height, width)
        return resized(self._own_pixels(), height, width)

    def _own_pixels(self) -> Mask:
        """The mask or rle at its own size [h, w]."""
        if self.rle is not None:
            return self.rle.pixels().astype(np.float32)
        return self.read_mask().values

    def read_mask(self) -> ReadMask:
        """Read the mask at its own size. The region must have one."""
        assert self.mask is not None, "the region has a mask"
        return read_mask(self.mask, self.name, self.mask_channel)

    def _empty_mask(self) -> str:
        assert self.mask is not None, "the region has a mask"
        fault = f'The mask {self.mask} has no white pixel in its channel "{self.mask_channel}"'
        for channel in ("alpha", "luminance"):
            if self.mask_channel not in ("auto", channel) and read_mask(self.mask, self.name, channel).values.any():
                return f'{fault}, but its {channel} is not empty; give the mask channel "{channel}" or "auto".'
        return f"{fault}; paint the region white on black, or in any colour on a transparent background."
