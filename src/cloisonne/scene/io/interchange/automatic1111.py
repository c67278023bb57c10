"""Imports the infotext of AUTOMATIC1111, Forge and tools like them, with the regions of three extensions.

The keys of Regional Prompter (``regional_prompter.py``), Forge Couple (``forge_couple.py``) and Tiled Diffusion
(``scene/io/mrgd_layout.py``) become regions.
"""

import re
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.io import mrgd_layout
from cloisonne.scene.io.image_ref import ImageRef, given_as
from cloisonne.scene.io.infotext import SAMPLERS
from cloisonne.scene.io.interchange import forge_couple, regional_prompter
from cloisonne.scene.io.interchange.automatic1111_texts import scene_text
from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.io.interchange.infotext_reading import Infotext, parsed
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief

_SAMPLERS = {label.lower(): name for name, label in SAMPLERS.items()} | {name: name for name in ("lcm", "tcd")}
_KARRAS = "karras"
_KARRAS_BY_DEFAULT = ("dpmpp-2m",)
"""Samplers whose automatic schedule is Karras's."""
_IDENTITY = re.compile(r"Version|RNG|.*[Hh]ash(es)?$|Module \d+$|User$|Date$|Created")
"""Settings that change nothing in a scene."""
_TILED = "Tiled Diffusion"
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def from_infotext(text: str, *, mask: Any = None, regions: bool = True) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from an infotext: prompt, negative prompt, settings, and the regions of extensions.

    Sampler, steps, guidance, seed and size are carried; the checkpoint is named in a warning. Prompts have their
    weights and schedules.

    Args:
        text: the infotext.
        mask: the image of Regional Prompter's mask mode (path, data URI, PIL image or array); the text lacks it.
        regions: read the regions of extensions; False joins their texts to one prompt.

    Raises:
        SceneError: the regions need a mask that is not given, or were found by Regional Prompter in the image.
    """
    found, warnings = parsed(text), list[str]()
    report = warnings.append
    fields = _settings(found, report)
    if mask is not None and not (regions and regional_prompter.uses_mask(found.settings)):
        raise SceneError("A mask is given, but no regions of Regional Prompter's mask mode are read; leave it out.")
    picture = None if mask is None else given_as("mask")(mask)
    made = _regions(found, text, picture, fields, report) if regions else {}
    if "caption" not in made:
        plain = {name: regional_prompter.joined(getattr(found, source)) for name, source in _TEXTS}
        texts = plain if not regions else {name: getattr(found, source) for name, source in _TEXTS}
        made |= {name: scene_text(texts[name], f"The {source} text", report) for name, source in _TEXTS}
    _report_rest(found, report)
    return Scene(**fields, **{name: value for name, value in made.items() if value}), tuple(dict.fromkeys(warnings))


_TEXTS = (("caption", "prompt"), ("negative", "negative"))
"""Fields of a scene and of an infotext."""


def _regions(
    found: Infotext, text: str, mask: ImageRef | None, fields: dict[str, Any], report: Report
) -> dict[str, Any]:
    """Fields of the scene from the extension whose keys the settings have; {} if they have none."""
    size = (fields.get("width", 512), fields.get("height", 512))
    if regional := found.taken("RP "):
        return regional_prompter.scene_fields(found, regional, mask, report)
    if couple := found.taken("forge_couple"):
        return forge_couple.scene_fields(found, couple, size, report)
    if "Region control" in found.settings.get(_TILED, ""):
        del found.settings[_TILED]
        made = mrgd_layout.scene_fields(mrgd_layout.layout_of(text), report=report)
        texts = {name: scene_text(getattr(found, source), f"The {source} text", report) for name, source in _TEXTS}
        return made | texts
    return {}


def _settings(found: Infotext, report: Report) -> dict[str, Any]:
    """Fields of the scene from the settings that it has too; takes these out."""
    fields: dict[str, Any] = {}
    taken = found.settings.pop

    def carry(label: str, field: str, value: Any) -> None:
        try:
            Scene(**{field: value})
        except SceneError as error:
            report(f"{label} was not carried. {error}")
        else:
            fields[field] = value

    for label, field in (("Steps", "steps"), ("Seed", "seed")):
        if (text := taken(label, None)) is not None:
            carry(label, field, int(text) if text.isdecimal() else text)
    if (size := taken("Size", None)) is not None:
        sides = _SIZE.fullmatch(size)
        for k, side in enumerate(("width", "height"), start=1):
            carry("Size", side, int(sides[k]) if sides else size)
    own, distilled = taken("CFG scale", None), taken("Distilled CFG Scale", None)
    if distilled is not None and own is not None and _number(own) != 1:
        report(f"CFG scale {brief(own)} was not carried; the guidance is the Distilled CFG Scale.")
    if (guidance := distilled or own) is not None:
        carry("CFG scale", "guidance", _number(guidance))
    _sampling(found, fields, report)
    if fields.get("sampler") == "ddim" and (eta := taken("Eta", None)) is not None:
        carry("Eta", "eta", _number(eta))
    return fields


def _sampling(found: Infotext, fields: dict[str, Any], report: Report) -> None:
    """Add sampler and spacing to ``fields``. Older texts name both in one: "DPM++ 2M Karras"."""
    label = found.settings.pop("Sampler", None)
    if label is None:
        return
    name, schedule = label.lower(), found.settings.pop("Schedule type", "").lower()
    if name.endswith(f" {_KARRAS}"):
        name, schedule = name.removesuffix(f" {_KARRAS}"), _KARRAS
    if name not in _SAMPLERS:
        report(f"The sampler {brief(label)} was not carried; the model's own applies.")
        return
    fields["sampler"] = _SAMPLERS[name]
    own = found.settings.get("Version", "").startswith("cloisonne")
    automatic = schedule == "automatic" and fields["sampler"] in _KARRAS_BY_DEFAULT and not own
    if schedule == _KARRAS or automatic:
        fields["spacing"] = _KARRAS
    elif schedule not in ("", "automatic", "uniform", "normal"):
        report(f"The schedule type {brief(schedule)} was not carried; the checkpoint's own spacing applies.")


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _report_rest(found: Infotext, report: Report) -> None:
    if model := found.settings.pop("Model", None):
        report(f"Its model was {brief(model)}; the scene names none, so give it when the scene is used.")
    if rest := {name: value for name, value in found.settings.items() if not _IDENTITY.match(name)}:
        report(f"Not carried: {', '.join(f'{name}: {brief(value)}' for name, value in rest.items())}.")
    if found.more:
        report(f"Not carried: the lines after the settings, {', '.join(brief(line) for line in found.more)}.")
