"""Regions of AUTOMATIC1111's extension Regional Prompter, from the settings "RP ..." and the keywords of the prompt.

The prompt is divided by BREAK, AND, ADDCOL and ADDROW: an optional common prompt (up to ADDCOMM), an optional base
prompt (up to ADDBASE), then one text a cell, from left to right and from top to bottom. The common prompt stands before
each text, as a scene's caption does. A cell's result is ``ratio * base + (1 - ratio) * text``: here the base is a
region over the whole image, and its weight and the cells' weights are in that proportion.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.interchange.automatic1111_texts import loras_in, scene_text, trimmed
from cloisonne.scene.io.interchange.imported_values import Report
from cloisonne.scene.io.interchange.infotext_reading import Infotext
from cloisonne.scene.io.interchange.regional_prompter_grid import Grid, broadcast, ratios_of
from cloisonne.scene.io.interchange.regional_prompter_mask import cell_masks
from cloisonne.scene.shapes.rle import Rle
from cloisonne.scene.values import brief

_KEYS = ("ADDCOMM", "ADDBASE", "ADDCOL", "ADDROW", "BREAK", "AND")
_MODE, _MATRIX, _MASK = "RP Divide mode", "Matrix", "Mask"
_COLUMNS, _ROWS = ("Columns", "Horizontal"), ("Rows", "Vertical")
"""Names of the two ways to split, in current and in older versions."""
_KEEP_AND, _KEEP_BREAK, _FLIP = "disable convert 'AND' to 'BREAK'", "Use BREAK to change chunks", "Flip prompts"
_UNUSED = ("", "0", "0.0", "False", "No Options", "Attention")
_READ = (
    *("RP Active", _MODE, "RP Matrix submode", "RP Mask submode", "RP Prompt submode", "RP Calc Mode", "RP Ratios"),
    *("RP Base Ratios", "RP Use Base", "RP Use Common", "RP Use Ncommon", "RP Options", "RP Flip", "RP threshold"),
)


class Texts(NamedTuple):
    """A prompt in its parts: common and base prompt, the texts of the cells, and the keywords between these."""

    common: str
    base: str
    cells: tuple[str, ...]
    keys: tuple[str, ...]


class _Cell(NamedTuple):
    """shape: a region's field. text: its prompt. base: fraction of the base prompt, in [0, 1]."""

    shape: dict[str, Any]
    text: str
    base: float


def uses_mask(settings: Mapping[str, str]) -> bool:
    """Whether the regions are those of a mask image, which an infotext does not contain."""
    return settings.get(_MODE) == _MASK


def joined(prompt: str) -> str:
    """A prompt whose parts are joined by commas, without keywords."""
    parts = [trimmed(part) for part in re.split(rf"\b(?:{'|'.join(_KEYS)})\b", prompt)]
    return ", ".join(filter(None, parts))


def divided(prompt: str, *, common: bool, base: bool, options: str = "") -> Texts:
    """Divide a prompt at its keywords.

    Args:
        prompt: the prompt.
        common, base: its first parts are the common and the base prompt also where no keyword says so.
        options: those of the extension, by name.
    """
    plain = [key for key, option in (("AND", _KEEP_AND), ("BREAK", _KEEP_BREAK)) if option in options]
    names = "|".join(key for key in _KEYS if key not in plain)
    found = re.split(rf"\b({names})\b", re.sub(r"\bBREAK\b", ",", prompt) if "BREAK" in plain else prompt)
    parts, between = [trimmed(part) for part in found[::2]], found[1::2]

    def first(key: str, wanted: bool) -> str:
        if key not in between and not (wanted and between):
            return ""
        end = between.index(key) + 1 if key in between else 1
        text = ", ".join(filter(None, parts[:end]))
        del parts[:end], between[:end]
        return text

    common_text = first("ADDCOMM", common)
    if common_text and _FLIP in options:
        parts.reverse()
    return Texts(common_text, first("ADDBASE", base), tuple(parts), tuple(between))


def scene_fields(found: Infotext, settings: Mapping[str, str], mask: ImageRef | None, report: Report) -> dict[str, Any]:
    """Fields of a scene from an infotext with regions.

    Args:
        found: the infotext.
        settings: those that begin with "RP ".
        mask: the mask image, for mask mode.
        report: called with a sentence for each part that was changed or left out.

    Raises:
        SceneError: the mask is missing, or the regions depended on the image while it was made.
    """
    if settings.get("RP Active", "True") != "True":
        return {}
    if re.search(r"\bADDP\b", found.prompt):
        settings = {**settings, _MODE: "Prompt"}
    options = settings.get("RP Options", "")
    flags = {
        name: settings.get(f"RP Use {label}") == "True" for name, label in (("common", "Common"), ("base", "Base"))
    }
    texts = divided(found.prompt, **flags, options=options)
    masks = _masks(settings, mask, texts)
    if masks is None:
        grid = _grid(settings, texts, report)
        shapes: list[dict[str, Any]] = [{"box": box} for box in grid.boxes]
        cells, counts = grid.texts(texts.cells, report), grid.counts
    else:
        shapes = [{"rle": Rle.of(one)} for one in masks]
        cells, counts = texts.cells, [len(masks)]
    ratios = _base_ratios(settings, counts, report) if texts.base else [0.0] * len(cells)
    placed = [_Cell(*one) for one in zip(shapes, cells, ratios, strict=True)]
    _report_settings(settings, texts, report)
    made: dict[str, Any] = {"caption": scene_text(texts.common, "The common prompt", report)}
    regions = _cell_regions(placed, report)
    if texts.base:
        regions += _base_regions(placed, scene_text(texts.base, "The base prompt", report), masks)
    negative, own = _negatives(found.negative, settings, texts, len(cells), report)
    for region in regions:
        if text := own.get("base" if region["name"].startswith("base") else region["name"]):
            region["negative"] = text
    return made | {"negative": negative, "regions": regions}


def _masks(settings: Mapping[str, str], mask: ImageRef | None, texts: Texts) -> list[Any] | None:
    """The masks of the cells in mask mode; None where the image is divided by ratios."""
    if uses_mask(settings):
        if mask is None:
            raise SceneError(
                'RP Divide mode is "Mask", but the text does not contain the mask; give its image, which is in the '
                "extension's folder regional_masks, or read the text without regions."
            )
        return cell_masks(mask, len(texts.cells), remainder_to_first=not texts.base)
    if (way := _way(settings)) not in (*_COLUMNS, *_ROWS):
        where = "RP Matrix submode" if settings.get(_MODE, _MATRIX) == _MATRIX else _MODE
        raise SceneError(
            f"{where} is {brief(way)}, whose regions exist only while an image is made; read the text without "
            "regions, and draw them."
        )
    return None


def _way(settings: Mapping[str, str]) -> str:
    """How the image is divided. Older versions have it in the mode itself."""
    mode = settings.get(_MODE, _MATRIX)
    return settings.get("RP Matrix submode", "Columns") if mode == _MATRIX else mode


def _grid(settings: Mapping[str, str], texts: Texts, report: Report) -> Grid:
    ratios = settings.get("RP Ratios", "1,1")
    if settings.get("RP Flip") == "True":
        ratios = ratios.translate(str.maketrans(",;", ";,"))
    return Grid.of(ratios, texts.keys, columns=_way(settings) in _COLUMNS, report=report)


def _base_ratios(settings: Mapping[str, str], counts: Sequence[int], report: Report) -> list[float]:
    """The base prompt's fraction of each cell."""
    text = settings.get("RP Base Ratios", "")
    # As in the extension: with rows, "," divides the outer level even where there is one column.
    rows = ratios_of(text, missing=0.0, report=report, outer="," if _way(settings) in _ROWS else ";")
    found = [ratio for row in broadcast(rows, counts) for ratio in row]
    if any(not 0 <= ratio <= 1 for ratio in found):
        report(f"RP Base Ratios is {brief(text)}; what is below 0 or above 1 is taken as 0 or 1.")
    return [min(max(ratio, 0.0), 1.0) for ratio in found]


def _cell_regions(cells: Sequence[_Cell], report: Report) -> list[dict[str, Any]]:
    regions = []
    for index, cell in enumerate(cells):
        name = f"region-{index}"
        if cell.text:
            text = scene_text(cell.text, f'Region "{name}"', report)
            regions.append({"name": name, **cell.shape, "phrase": text, "weight": 1 - cell.base})
        else:
            report(f'Region "{name}" has no text and was left out; the common prompt and the base apply there.')
    return regions


def _base_regions(cells: Sequence[_Cell], text: str, masks: Sequence[Any] | None) -> list[dict[str, Any]]:
    """The base prompt: one region over the image where its ratio is the same in all cells, else one for each cell.

    Pixels of no mask have the base prompt alone.
    """
    if len({cell.base for cell in cells}) == 1 and cells[0].base and masks is None:
        return [{"name": "base", "box": (0.0, 0.0, 1.0, 1.0), "phrase": text, "weight": cells[0].base}]
    own = [
        {"name": f"base-{index}", **cell.shape, "phrase": text, "weight": cell.base}
        for index, cell in enumerate(cells)
        if cell.base
    ]
    if masks is not None and not (covered := np.logical_or.reduce(masks)).all():
        own.append({"name": "base", "rle": Rle.of(~covered), "phrase": text})
    return own


def _negatives(
    negative: str, settings: Mapping[str, str], texts: Texts, count: int, report: Report
) -> tuple[str, dict[str, str]]:
    """The scene's negative prompt, and those of regions by name. One text is for all; else there is one a region."""
    options = settings.get("RP Options", "")
    parts = divided(negative, common=settings.get("RP Use Ncommon") == "True", base=False, options=options)
    names = [*(["base"] if texts.base else []), *(f"region-{index}" for index in range(count))]
    own = [scene_text(text, "The negative prompt", report) for text in parts.cells]
    if len(own) == 1:
        return ", ".join(filter(None, [scene_text(parts.common, "The negative prompt", report), *own])), {}
    if len(own) != len(names):
        report(
            f"The negative prompt has {len(own)} parts for {len(names)} prompts; they are joined for the whole image."
        )
        return scene_text(joined(negative), "The negative prompt", report), {}
    return scene_text(parts.common, "The negative prompt", report), dict(zip(names, own, strict=True))


def _report_settings(settings: Mapping[str, str], texts: Texts, report: Report) -> None:
    if settings.get("RP Calc Mode") == "Latent":
        report('RP Calc Mode "Latent" was not carried; the scene\'s method "multidiffusion" is like it.')
    elif loras := ", ".join(filter(None, map(loras_in, texts.cells))):
        report(f"{loras} acted on the whole image; here they act in their regions only.")
    rest = {name: value for name, value in settings.items() if name not in _READ and value not in _UNUSED}
    if rest:
        report(f"Not carried: {', '.join(f'{name}: {brief(value)}' for name, value in rest.items())}.")
