"""Imports InvokeAI's metadata: the key ``invokeai_metadata`` of its PNGs, with the regional guidance of its canvas.

The layers are under ``canvas_v2_metadata``, as strokes and shapes. The metadata does not say where on the canvas the
image was made; regions are placed as if that was the canvas's origin.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.io.images import MAX_PIXELS
from cloisonne.scene.io.interchange import compel_texts
from cloisonne.scene.io.interchange.imported_values import Report, literal, region_name
from cloisonne.scene.io.interchange.invokeai_masks import layer_shape
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief

KEY, CANVAS = "invokeai_metadata", "canvas_v2_metadata"
_REGIONS = "regionalGuidance"
_WEIGHTED = ("sd-1", "sd-2", "sdxl", "sdxl-refiner", "any")
"""Base models whose prompts have weights."""
_SAMPLERS = {
    **{name: (name, "default") for name in ("ddim", "euler", "heun", "pndm", "lcm", "tcd")},
    **{f"{name}_k": (name, "karras") for name in ("euler", "heun")},
    "euler_a": ("euler-ancestral", "default"),
    "dpmpp_2m": ("dpmpp-2m", "default"),
    "dpmpp_2m_k": ("dpmpp-2m", "karras"),
}
_CARRIED = (
    *("positive_prompt", "negative_prompt", "width", "height", "seed", "steps", "cfg_scale", "cfg_rescale_multiplier"),
    *("guidance", "scheduler", "model", "loras", CANVAS),
)
_NEUTRAL = ("app_version", "generation_mode", "rand_device", "positive_style_prompt", "negative_style_prompt")
"""Entries that change nothing in a scene, or repeat others."""
_LAYERS = {"controlLayers": "control layers", "inpaintMasks": "inpaint masks", "rasterLayers": "raster layers"}
_Text = Callable[[str, str, Report], str]


def from_invokeai(metadata: Mapping[str, Any], size: tuple[int, int] | None = None) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from InvokeAI's metadata.

    Each layer of regional guidance is a region; a disabled one has weight 0. Where regions overlap, all apply.

    Args:
        metadata: the JSON object of the key ``invokeai_metadata``.
        size: width and height of the image in pixels, for metadata without them.

    Raises:
        SceneError: a layer is malformed; names its region.
    """
    if not isinstance(metadata, Mapping):
        raise SceneError(f"The metadata is {brief(metadata)}; give InvokeAI's JSON object.")
    warnings: list[str] = []
    report = warnings.append
    model = metadata.get("model")
    base = model.get("base", "any") if isinstance(model, Mapping) else "any"
    text: _Text = compel_texts.scene_text if base in _WEIGHTED else _plain
    fields = _settings(metadata, report)
    for field, key in (("caption", "positive_prompt"), ("negative", "negative_prompt")):
        if given := metadata.get(key):
            fields[field] = text(given, key, report) if isinstance(given, str) else given
    if regions := _regions(metadata.get(CANVAS) or {}, _size(metadata, size), text, report):
        fields |= {"regions": regions, "overlap": "union"}
    _report_rest(metadata, report)
    return Scene(**fields), tuple(dict.fromkeys(warnings))


def _size(metadata: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[int, int]:
    """The size of the canvas that shapes are drawn on."""
    width, height = (metadata.get(side) for side in ("width", "height"))
    if type(width) is int and type(height) is int and min(width, height) > 0 and width * height <= MAX_PIXELS:
        return width, height
    return size or (1024, 1024)


def _plain(text: str, owner: str, report: Report) -> str:
    return str(literal(text))


def _settings(metadata: Mapping[str, Any], report: Report) -> dict[str, Any]:
    fields: dict[str, Any] = {}

    def carry(key: str, field: str, value: Any) -> None:
        try:
            Scene(**{field: value})
        except SceneError as error:
            report(f"{key} was not carried. {error}")
        else:
            fields[field] = value

    names = {"cfg_rescale_multiplier": "guidance_rescale"} | {
        name: name for name in ("width", "height", "seed", "steps")
    }
    own, guidance = metadata.get("cfg_scale"), metadata.get("guidance")
    for key, field in names.items():
        if metadata.get(key) is not None:
            carry(key, field, metadata[key])
    if guidance is not None and own not in (None, 1):
        report(f"cfg_scale {brief(own)} was not carried; guidance is.")
    if (given := own if guidance is None else guidance) is not None:
        carry("cfg_scale", "guidance", given)
    scheduler = metadata.get("scheduler")
    if str(scheduler) in _SAMPLERS:
        fields["sampler"], fields["spacing"] = _SAMPLERS[str(scheduler)]
    elif scheduler is not None:
        report(f"The scheduler {brief(scheduler)} was not carried; the model's own applies.")
    if loras := _objects(metadata.get("loras"), "loras"):
        carry("loras", "lora", {str(_name(one.get("model") or one.get("lora"))): one.get("weight") for one in loras})
    if (model := metadata.get("model")) is not None:
        report(f"Its model was {brief(_name(model))}; the scene names none, so give it when the scene is used.")
    return fields


def _name(model: Any) -> Any:
    return model.get("name") or model.get("model_name") if isinstance(model, Mapping) else model


def _entities(canvas: Mapping[str, Any], kind: str) -> Sequence[Mapping[str, Any]]:
    """The layers of a kind: a list, or in older metadata an object with one."""
    found = canvas.get(kind)
    return _objects(found.get("entities") if isinstance(found, Mapping) else found, kind)


def _objects(given: Any, name: str, region: str | None = None) -> Sequence[Mapping[str, Any]]:
    """A list of objects; [] for None."""
    found = given or []
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise SceneError(f"{name} is {brief(found)}; give a list of objects.", region=region)
    return found


def _regions(canvas: Any, size: tuple[int, int], text: _Text, report: Report) -> list[dict[str, Any]]:
    if not isinstance(canvas, Mapping):
        raise SceneError(f"{CANVAS} is {brief(canvas)}; give an object with {_REGIONS}.")
    layers = _entities(canvas, _REGIONS)
    regions: list[dict[str, Any]] = []
    for index, layer in enumerate(layers):
        name = region_name(layer.get("name") or f"region-{index}", [one["name"] for one in regions])
        if region := _region(layer, name, size, text, report):
            regions.append(region)
    for kind, label in _LAYERS.items():
        if count := len(_entities(canvas, kind)):
            report(f"Not carried: {label} ({count}).")
    if regions:
        report(
            "The metadata does not say where on the canvas the image lies; regions are placed from the canvas's origin."
        )
    return regions


def _region(
    layer: Mapping[str, Any], name: str, size: tuple[int, int], text: _Text, report: Report
) -> dict[str, Any] | None:
    phrase, negative = layer.get("positivePrompt") or "", layer.get("negativePrompt") or ""
    for reference in _objects(layer.get("referenceImages"), "referenceImages", name):
        config = reference.get("config")
        image = config.get("image") if isinstance(config, Mapping) else None
        given = image.get("image_name") if isinstance(image, Mapping) else None
        report(f'Region "{name}": its reference image {brief(given)} is not in the file, which has its name only.')
    if layer.get("autoNegative"):
        report(f'Region "{name}": its phrase was also a negative prompt outside of it, which was not carried.')
    if not isinstance(phrase, str) or not phrase.strip():
        report(f'Region "{name}" has no prompt and was left out.')
        return None
    region = {"name": name, "phrase": text(phrase, f'Region "{name}"', report)}
    if negative:
        region["negative"] = text(negative, f'Region "{name}"', report) if isinstance(negative, str) else negative
    shape = layer_shape(layer, size, name, report)
    if shape is None:
        report(f'Region "{name}" has no shape on the canvas; it was kept over the whole canvas with weight 0. Draw it.')
        return {**region, "box": (0.0, 0.0, 1.0, 1.0), "weight": 0.0}
    return {**region, **shape} | ({} if layer.get("isEnabled", True) else {"weight": 0.0})


def _report_rest(metadata: Mapping[str, Any], report: Report) -> None:
    rest = [
        f"{name}: {brief(value)}"
        for name, value in metadata.items()
        if name not in (*_CARRIED, *_NEUTRAL) and value not in (None, False, 0, [], {})
    ]
    if rest:
        report(f"Not carried: {', '.join(rest)}.")
