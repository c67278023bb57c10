# pyright: strict, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
"""A scene: the canvas, the caption, the regions and the sampling settings of one image."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from cloisonne.errors import SceneError
from cloisonne.scene.conditions.lora import LoraField
from cloisonne.scene.conditions.translation import check_background, translated_region
from cloisonne.scene.hires import HiresField, check_hires
from cloisonne.scene.io import elements
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.embedded import check_embedded
from cloisonne.scene.io.image_ref import Background
from cloisonne.scene.io.mrgd_layout import is_layout, scene_fields
from cloisonne.scene.io.png_record import SIGNATURE, read_record
from cloisonne.scene.io.renamed_fields import with_new_names
from cloisonne.scene.outside import OutsideField
from cloisonne.scene.overlap import Overlap
from cloisonne.scene.prompt import Prompt, at
from cloisonne.scene.region import Region
from cloisonne.scene.scene_fields import Boost, GuidanceInterval, GuidanceLength, Settings, Side
from cloisonne.scene.values import Fraction, Seed, Text, Value, brief, quoted

VERSION = 1
MAX_REGIONS = 256

SamplerName = Literal["ddim", "euler", "euler-ancestral", "heun", "dpmpp-2m", "pndm", "lcm", "tcd"]
MethodName = Literal["reco", "bounded", "bounded-words", "isolated", "attention", "multidiffusion", "words", "caption"]
Speed = Literal["exact", "fast"]
Spacing = Literal["default", "karras", "leading", "trailing", "linspace", "distilled"]


class Scene(Value):
    """The description of an image to generate. Fields that are None take the model's defaults; see :meth:`resolved`.

    Attributes:
        width, height: size of the canvas in pixels, multiples of 8.
        caption, negative: prompt and negative prompt of the whole image, with weights and schedules
            (``scene/prompt.py``).
        seed: image i of a run uses seed + i.
        steps, guidance, sampler, spacing: number of sampling steps, guidance scale, solver and timestep spacing.
        eta: in [0, 1]: the fraction of the noise that a step of DDIM renews, 0 by default, or gamma of TCD, 0.3 by
            default.
        guidance_rescale: phi of arXiv 2305.08891, eq. 16.
        guidance_interval: the interval of the steps, in [0, 1], that is guided (arXiv 2404.07724).
        lora: LoRAs of the model by name, with scales, that apply to the whole image.
        model: name or folder.
        method: how regions condition the network.
        region_boost: how many times the words of a region's phrase count in its region, 1 to 1,000,000, for the methods
            bounded and bounded-words; "auto" chooses it by the attention of the model.
        layout_guidance: how far, relative to the canvas's length, latents move down the gradient of the attention that
            phrases lack in their regions, before each step of the first half; for the same methods. 0.01 is usual.
        isolate: in joint attention, the fraction of the steps, from the first one, in which image tokens of a region
            attend only to image tokens of that region; for the methods bounded, bounded-words and isolated.
        blocks: in joint attention, 1: regions hold in every block of the network; 2: in every second one.
        overlap: the rule for overlapping regions.
        speed: "fast" reuses deep features of the network between neighbouring steps, which changes the image a little.
        hires: a second pass at a larger size: the image is enlarged and repainted with the same regions.
        windows: predict a canvas that is larger than the model's native size by windows of that size, which share at
            least this fraction, in [0, 0.9], with the next one; each has the regions that lie in it.
        background: an image to change (path, data URI, PIL image, array or tensor). With regions, only they are
            repainted (inpainting); without, the whole image is changed (image-to-image).
        strength: fraction of the steps applied to the background, in [0, 1]; at 1 repainted pixels start from noise.
        composite: paste only the repainted pixels into the background. Otherwise the result contains the whole window
            around the regions as the model returns it, which differs slightly from the background everywhere.
        editing: settings of edits: a "preset" and fields that override it (see ``edit``).
        translating: settings of concept transfer: a "preset" and fields that override it (see ``translate``).
        outside: an image that is pasted outside of some regions.
        regions: the regions.
    """

    version: Literal[1] = VERSION
    width: Side | None = None
    height: Side | None = None
    caption: Prompt = ""
    negative: Prompt = ""
    seed: Seed | None = None
    steps: int | None = Field(default=None, strict=True, ge=1, le=1000)
    guidance: float | None = Field(default=None, strict=True, ge=0, le=100)
    guidance_rescale: Fraction = 0.0
    guidance_interval: GuidanceInterval = (0.0, 1.0)
    sampler: SamplerName | None = None
    spacing: Spacing = "default"
    eta: Fraction | None = None
    lora: LoraField = ()
    model: Annotated[Text, Field(min_length=1, max_length=1000)] = "builtin"
    method: MethodName | None = None
    region_boost: Boost | Literal["auto"] | None = None
    layout_guidance: GuidanceLength = 0.0
    isolate: Fraction | None = None
    blocks: int | None = Field(default=None, strict=True, ge=1, le=2)
    overlap: Overlap = "blend"
    speed: Speed = "exact"
    hires: HiresField | None = None
    windows: float | None = Field(default=None, strict=True, ge=0, le=0.9)
    background: Background | None = None
    strength: Fraction = 1.0
    composite: bool = Field(default=True, strict=True)
    editing: Settings = ()
    translating: Settings = ()
    outside: OutsideField | None = None
    regions: tuple[Region, ...] = ()

    # Written out so that type checkers accept all inputs that the fields convert: lists, paths, arrays.
    def __init__(self, /, **data: Any) -> None:
        """Make it from its fields. Raises SceneError or ImageError for an invalid one."""
        super().__init__(**data)

    @classmethod
    def _owner(cls, data: Any, place: Sequence[int | str]) -> str | None:
        return f"region-{place[1]}" if len(place) > 1 and place[0] == "regions" else None

    @classmethod
    def _refuse_unknown(cls, data: Mapping[str, Any]) -> None:
        # First, because other versions may have other fields.
        version = data.get("version", VERSION)
        if type(version) is not int or version != VERSION:
            raise SceneError(f"version is {brief(version)}; write the scene as version {VERSION}, or update cloisonne.")
        super()._refuse_unknown(data)

    @field_validator("regions", mode="before")
    @classmethod
    def _check_list(cls, regions: Any) -> Any:
        if not isinstance(regions, list | tuple):
            raise SceneError(f"regions is {brief(regions)}; give a list of regions.")
        if len(regions) > MAX_REGIONS:
            raise SceneError(f"The scene has {len(regions)} regions; give at most {MAX_REGIONS}.")
        for index, region in enumerate(regions):
            if not isinstance(region, Region | Mapping):
                raise SceneError(
                    f"The region is {brief(region)}; give an object with a shape and a phrase.",
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
        if self.eta and self.sampler not in (None, "ddim", "tcd"):
            raise SceneError(
                f'eta is {self.eta}, but the sampler "{self.sampler}" does not use it; leave eta out, or use "ddim" '
                'or "tcd".'
            )
        if self.strength != 1 and self.background is None:
            raise SceneError(
                f"strength is {self.strength}, but there is no background; give one, or leave strength out."
            )
        check_hires(self)
        names = [region.name for region in self.regions]
        for name in self.outside.regions if self.outside else ():
            if name not in names:
                there = ", ".join(map(brief, names)) or "none"
                raise SceneError(
                    f"outside names the region {brief(name)}, but the scene's regions are: {there}; name one of these."
                )
        if (region := translated_region(self.active_regions)) is not None:
            check_background(region, self.background, self.strength)
        return self

    @property
    def active_regions(self) -> tuple[Region, ...]:
        """The regions with any effect: weight above 0 and an interval that is not empty."""
        return tuple(region for region in self.regions if region.active)

    @property
    def translated(self) -> Region | None:
        """The active region with a concept, or None."""
        return translated_region(self.active_regions)

    def region_prompt(self, region: Region) -> str:
        """Caption and phrase of a region: ``caption, phrase``, or the phrase if there is no caption."""
        return f"{self.caption}, {region.phrase}" if self.caption else region.phrase

    def at_progress(self, progress: float, num_steps: int) -> "Scene":
        """The scene with its texts as they are when a fraction ``progress`` in [0, 1) of the steps is done."""
        texts = {name: at(getattr(self, name), progress, num_steps) for name in ("caption", "negative")}
        regions = tuple(region.at_progress(progress, num_steps) for region in self.regions)
        return self.model_copy(update={**texts, "regions": regions})

    def resolved(self, *, width: int, height: int, steps: int, guidance: float, sampler: str, method: str) -> "Scene":
        """Fill in fields that are None: with these defaults of the model, and with a random seed."""
        native: dict[str, Any] = {"width": width, "height": height, "steps": steps, "guidance": guidance}
        native |= {"sampler": sampler, "method": method}
        native["seed"] = secrets.randbelow(2**32)
        return self.replace(**{name: value for name, value in native.items() if getattr(self, name) is None})

    def to_dict(self, *, complete: bool = False) -> dict[str, Any]:
        """The scene as a JSON object: fields that differ from their default; if ``complete``, all that are not None."""
        data = self.model_dump(mode="json", exclude_defaults=not complete, exclude_none=True)
        return {"version": VERSION} | data

    def to_json(self, *, base: Path | None = None) -> str:
        """The scene as JSON text. Paths are made relative to the folder ``base``; None leaves them as they are."""
        data = self.to_dict()
        return wire.text(data if base is None else wire.to_folder(data, base))

    def _repr_png_(self) -> bytes:
        """The regions' shapes, in a notebook that shows no HTML."""
        from cloisonne.scene.io.overlay import canvas, png

        return png(canvas(self.width, self.height, self.regions))

    def _repr_html_(self) -> str:
        """The regions' shapes, and what each is given, in a notebook."""
        from cloisonne.scene.io.overlay import canvas, figure, regions_table, table

        named = table([("caption", self.caption)]) if self.caption else ""
        return figure([canvas(self.width, self.height, self.regions)], named, regions_table(self.regions))

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Any], *, base: Path | None = None, images: Literal["any", "embedded"] = "any"
    ) -> "Scene":
        """Make the scene from a JSON object, of a scene, of an MRGD layout, or with ComfyUI's ``elements``.

        Args:
            data: the object.
            base: the folder that its paths are relative to; None is the current one.
            images: "embedded" refuses paths and URLs in every field that can name a file: images, masks, learned
                concepts and LoRAs. For scenes from outside, such as a server's requests. ``model`` is not checked; a
                server chooses its own.

        Raises:
            SceneError: a value is invalid, or a file is not embedded; the message names the region and the field.
        """
        if is_layout(data):
            return cls(**scene_fields(data))
        if elements.is_elements(data):
            return cls(**elements.scene_fields(data))
        data = with_new_names(data)
        scene = cls(**(data if base is None else wire.from_folder(data, base)))
        if images == "embedded":
            check_embedded(scene)
        return scene

    @classmethod
    def from_json(
        cls, text: str | bytes, *, base: Path | None = None, images: Literal["any", "embedded"] = "any"
    ) -> "Scene":
        """Make the scene from JSON text; see :meth:`from_dict`."""
        return cls.from_dict(wire.parse(text), base=base, images=images)

    @classmethod
    def from_png(cls, path: str | Path) -> "Scene":
        """Read the scene in the metadata of a generated PNG. Its paths are relative to the PNG's folder."""
        return cls.from_dict(read_record(wire.read(path), quoted(path)).scene, base=Path(path).parent)

    @classmethod
    def load(cls, path: str | Path) -> "Scene":
        """Read a scene from a JSON file or a generated PNG, or from standard input if ``path`` is "-"."""
        data, base = wire.read(path), Path() if str(path) == "-" else Path(path).parent
        if data.startswith(SIGNATURE):
            return cls.from_dict(read_record(data, quoted(path)).scene, base=base)
        return cls.from_json(data, base=base)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON schema of version 1."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **cls.model_json_schema()}
