"""Requests as scenes: what the verbs are called with, and what can be refused before a network is loaded.

Nothing here imports a tensor library: this runs in the server.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal, get_args, get_origin, get_type_hints

from cloisonne.errors import SceneError
from cloisonne.scene import Scene
from cloisonne.scene.conditions.edit_presets import PRESETS as EDITING
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.conditions.translation_presets import PRESETS as TRANSLATING
from cloisonne.scene.conditions.translation_presets import Translating
from cloisonne.scene.control_maps import DRAWN
from cloisonne.scene.scene import MethodName, SamplerName
from cloisonne.scene.values import brief, closest
from cloisonne.studio.settings import Limits

SCENE_FIELDS = ("caption", "negative", "steps", "guidance", "sampler", "method", "seed", "strength", "composite")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "generate": ("num_images",),
    "edit": ("preset", "self_attention_share"),
    "explain": (),
    "sweep": ("field", "values"),
    "control": ("image", "kind"),
    "inpaint": (
        *("image", "mask", "box", "mask_channel", "phrase", "exemplar", "similarity", "feather", "num_images"),
        *SCENE_FIELDS,
    ),
    "translate": (
        *("image", "reference", "mask", "mask_channel", "preset", "keep_structure", "concept_strength", "word"),
        *("rounds", "steps", "seed"),
    ),
}
"""The arguments of each verb."""


def composed(
    verb: str, scene: Mapping[str, Any] | None, arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scene's object of a request, and the options that are no part of it. Raises SceneError."""
    for name in arguments:
        if name not in ARGUMENTS[verb]:
            meant = closest(name, ARGUMENTS[verb])
            known = ", ".join(ARGUMENTS[verb]) or "none"
            raise SceneError(
                f"{verb} has no argument {brief(name)}; "
                + (f'did you mean "{meant}"?' if meant else f"it has {known}.")
            )
    given = {name: value for name, value in arguments.items() if value is not None}
    if verb in ("inpaint", "translate", "control"):
        if scene is not None:
            raise SceneError(f"{verb} takes no scene; give its arguments, or generate the scene.")
        make = {"inpaint": _inpainted, "translate": _translated, "control": _mapped}[verb]
        return make(given)
    if scene is None:
        raise SceneError(f"{verb} needs a scene; give one.")
    return dict(scene), given


def _need(given: dict[str, Any], verb: str, *names: str) -> list[Any]:
    for name in names:
        if name not in given:
            raise SceneError(f"{verb} needs {name}; give it.")
    return [given.pop(name) for name in names]


def _inpainted(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scene that ``cloisonne fill`` or ``cloisonne paint`` makes."""
    (image,) = _need(given, "inpaint", "image")
    shape = {name: given.pop(name) for name in ("mask", "box") if name in given}
    if len(shape) != 1:
        raise SceneError(f"You gave {'both mask and box' if shape else 'neither mask nor box'}; give one of the two.")
    region = {"name": "paint" if "exemplar" in given else "fill", **shape}
    own = ("mask_channel", "phrase", "exemplar", "similarity", "feather")
    region |= {name: given.pop(name) for name in own if name in given}
    options = {name: given.pop(name) for name in ("num_images",) if name in given}
    return {**given, "background": image, "regions": [region]}, options


def _translated(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The scene that ``cloisonne translate`` makes."""
    from cloisonne.pipelines.translation.settings import NAME, translating_of

    image, reference = _need(given, "translate", "image", "reference")
    changes = {name: given.pop(name) for name in ("rounds",) if name in given}
    preset = given.pop("preset", "fast")
    translating_of(str(preset), given.get("keep_structure"), changes)
    shape = {name: given.pop(name) for name in ("mask", "mask_channel") if name in given} or {
        "box": [0.0, 0.0, 1.0, 1.0]
    }
    own = ("keep_structure", "concept_strength", "word")
    concept = {"image": reference} | {name: given.pop(name) for name in own if name in given}
    region = {"name": NAME, "concept": concept, **shape}
    scene = {"seed": 0, **given, "background": image, "regions": [region], "translating": {"preset": preset, **changes}}
    return scene, {}


def _mapped(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The control map of an image needs no scene but its background."""
    (image,) = _need(given, "control", "image")
    return {"background": image}, given


def check(verb: str, scene: Scene, options: Mapping[str, Any], limits: Limits) -> None:
    """Raise SceneError for what a job cannot do, as far as it is known without a network."""
    from cloisonne.pipelines.editing.settings import check_editing
    from cloisonne.pipelines.sweep import swept
    from cloisonne.pipelines.translation.settings import asked_of

    if scene.translated is not None:
        asked_of(scene)
    count = options.get("num_images", 1)
    if type(count) is not int or not 1 <= count <= limits.images:
        raise SceneError(f"num_images is {brief(count)}; give a whole number from 1 to {limits.images}.")
    if verb == "edit":
        check_editing(
            scene, options.get("preset"), {name: options[name] for name in ("self_attention_share",) if name in options}
        )
    if verb == "control" and options.get("kind", "canny") not in DRAWN:
        raise SceneError(f"kind is {brief(options['kind'])}; choose one of {', '.join(DRAWN)}.")
    if verb == "sweep":
        field, values = options.get("field"), options.get("values")
        if not isinstance(field, str) or not isinstance(values, list) or len(values) > limits.sweep:
            raise SceneError(f"sweep needs a field and a list of at most {limits.sweep} values; give them.")
        for one in swept(scene, field, values):
            if (one.steps or 0) > limits.steps:
                raise SceneError(f"steps is {one.steps}, but at most {limits.steps} are allowed; give fewer.")


def fields() -> dict[str, Any]:
    """What a client needs to know besides the scene's schema.

    presets: of ``editing`` and ``translating``, with the value of each field; options: the words that a field takes.
    """
    kinds: dict[str, tuple[Any, Any]] = {"editing": (Editing, EDITING), "translating": (Translating, TRANSLATING)}
    return {
        "arguments": {verb: list(names) for verb, names in ARGUMENTS.items()},
        "samplers": list(get_args(SamplerName)),
        "methods": list(get_args(MethodName)),
        "control_kinds": list(DRAWN),
        "presets": {
            name: {preset: asdict(value) for preset, value in presets.items()} for name, (_, presets) in kinds.items()
        },
        "options": {name: _options(kind) for name, (kind, _) in kinds.items()},
    }


def _options(kind: Any) -> dict[str, list[str]]:
    hints = get_type_hints(kind)
    return {name: list(get_args(hint)) for name, hint in hints.items() if get_origin(hint) is Literal}
