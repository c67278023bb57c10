"""Regions of Forge's extension "Forge Couple" (sd-forge-couple), from the settings "forge_couple..." of an infotext.

Each line of the prompt is the text of one region: equal tiles in a row or a column (Basic), or boxes with weights
(Advanced). The results are averaged by weight; weights below 1 are scaled up together, because a scene's caption fills
what they leave of 1. In Basic mode the first or last line may act on the whole image.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from cloisonne.errors import SceneError
from cloisonne.scene.io.interchange.automatic1111_texts import loras_in, scene_text
from cloisonne.scene.io.interchange.imported_values import Report, numbers
from cloisonne.scene.io.interchange.infotext_reading import Infotext
from cloisonne.scene.values import brief

_KEY = "forge_couple"
_LEAST_BACKGROUND = 0.1
"""Weight of the line for the whole image, at least."""


def scene_fields(found: Infotext, settings: Mapping[str, str], size: tuple[int, int], report: Report) -> dict[str, Any]:
    """Fields of a scene from an infotext with the settings of Forge Couple; {} if it was not in use.

    Args:
        found: the infotext.
        settings: those that begin with "forge_couple".
        size: width and height of the image.
        report: called with a sentence for each part that was changed or left out.

    Raises:
        SceneError: the regions are masks, which an infotext does not contain, or their mapping is damaged.
    """
    if settings.get(_KEY) != "True":
        return {}
    mode = settings.get(f"{_KEY}_mode", "Basic")
    lines = _lines(found.prompt, settings)
    if mode == "Basic":
        regions = _tiles(lines, settings, size)
    elif mode == "Advanced":
        regions = _boxes(lines, settings)
    else:
        raise SceneError(
            f"{_KEY}_mode is {brief(mode)}, but the text does not contain its masks; read the text without regions, "
            "and give each region its mask."
        )
    if loras := ", ".join(filter(None, map(loras_in, lines))):
        report(f"{loras} acted on the whole image; here they act in their regions only.")
    for region in list(regions):
        if region["phrase"]:
            region["phrase"] = scene_text(region["phrase"], f'Region "{region["name"]}"', report)
        else:
            report(f'Region "{region["name"]}" has no text and was left out.')
            regions.remove(region)
    return {"caption": "", "negative": scene_text(found.negative, "The negative prompt", report), "regions": regions}


def _lines(prompt: str, settings: Mapping[str, str]) -> list[str]:
    """The texts of the regions, with common texts in place of their keys."""
    separator = settings.get(f"{_KEY}_separator", "").replace("\\n", "\n").replace("\\t", " ")
    brackets = settings.get(f"{_KEY}_common_parser", "off").split()
    if len(brackets) == 2:
        opening, closing = map(re.escape, brackets)
        words = rf"[^{opening}{closing}:]+"
        defined: dict[str, str] = {}

        def define(match: re.Match[str]) -> str:
            defined[match[1].strip()] = match[2].strip()
            return match[2].strip() if settings.get(f"{_KEY}_def_in_prompt", "True") == "True" else ""

        prompt = re.sub(rf"{opening}({words}):([^{opening}{closing}]+){closing}", define, prompt)
        prompt = re.sub(rf"{opening}({words}){closing}", lambda match: defined.get(match[1].strip(), match[0]), prompt)
    return [line.strip() for line in prompt.split(separator if separator.strip() else "\n")]


def _tiles(lines: list[str], settings: Mapping[str, str], size: tuple[int, int]) -> list[dict[str, Any]]:
    background = settings.get(f"{_KEY}_background", "None")
    behind = {"First Line": 0, "Last Line": len(lines) - 1}.get(background)
    tiles = [line for index, line in enumerate(lines) if index != behind]
    if not tiles:
        raise SceneError(f"The prompt has {len(lines)} lines, but Forge Couple needs one for each region; add them.")
    across = settings.get(f"{_KEY}_direction", "Horizontal") == "Horizontal"
    length = size[0] if across else size[1]
    side = -(-length // len(tiles)) / length
    regions: list[dict[str, Any]] = []
    for index, line in enumerate(tiles):
        start, end = index * side, min((index + 1) * side, 1.0)
        box = (start, 0.0, end, 1.0) if across else (0.0, start, 1.0, end)
        regions.append({"name": f"region-{index}", "box": box, "phrase": line})
    if behind is not None:
        (weight,) = numbers([settings.get(f"{_KEY}_background_weight", "0.5")], 1, f"{_KEY}_background_weight", None)
        own = {"name": "background", "box": (0.0, 0.0, 1.0, 1.0), "phrase": lines[behind]}
        regions.append(own | {"weight": max(weight, _LEAST_BACKGROUND)})
    return regions


def _boxes(lines: list[str], settings: Mapping[str, str]) -> list[dict[str, Any]]:
    given = settings.get(f"{_KEY}_mapping", "")
    try:
        rows = json.loads(given)
    except ValueError:
        rows = None
    if not isinstance(rows, list) or len(rows) != len(lines):
        raise SceneError(
            f"{_KEY}_mapping is {brief(given)} for {len(lines)} lines; give [x0, x1, y0, y1, weight] for each line, or "
            "read the text without regions."
        )
    mapped = [numbers(row, 5, f"{_KEY}_mapping", f"region-{index}") for index, row in enumerate(rows)]
    scale = min([1.0, *(weight for *_, weight in mapped if weight > 0)])
    regions = []
    for index, ((x0, x1, y0, y1, weight), line) in enumerate(zip(mapped, lines, strict=True)):
        box = (x0, y0, x1, y1)
        regions.append({"name": f"region-{index}", "box": box, "phrase": line, "weight": weight / scale})
    return regions
