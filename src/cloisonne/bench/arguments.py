"""What a benchmark is asked for, checked before any network library is imported."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.bench.rows import Asked, rows_asked
from cloisonne.errors import SceneError
from cloisonne.eval.control_cases import Use
from cloisonne.eval.pairs import TASKS
from cloisonne.eval.row_names import CAPTION_ALONE, CEILINGS, COPY, COPY_REFERENCE, COPY_SOURCE, METHODS, MODES
from cloisonne.models.checkpoints.sources import check_path
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.scene.control_maps import DRAWN

WORDS = "words"
"""The row that fills by words alone, of edits and of exemplars."""
EDITS = ("follow", WORDS)
EXEMPLARS = ("exemplar", WORDS)
PAINTED = "paint"
"""The row in which an exemplar is painted: over the object's box, or the whole picture where a style is asked for."""
CONTROLLED = "control"
"""The row that has words, and the source's edges."""
P2P = "p2p"
TRANSLATIONS = ("fast", PAINTED)

_USES: Mapping[str, Use] = {"": "masked", "unmasked": "unmasked", "map": "map"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EDITS = 'give PRESET, or NAME=PRESET[,option=value...], such as "norse=mrgd,loss_is=0"'
_TRANSLATIONS = (
    'give PRESET, or NAME=PRESET[,option=value...], such as "long=vct,rounds=1000"; paint and control take none'
)


def layout_methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The methods to measure; None means all. SceneError for one that there is not."""
    chosen = tuple(methods or METHODS)
    if unknown := [name for name in chosen if name not in METHODS]:
        raise SceneError(f'There is no method "{unknown[0]}" to measure; choose from {", ".join(METHODS)}.')
    return chosen


@dataclass(frozen=True)
class ControlRow:
    """A row before its adapter is read."""

    name: str
    use: Use
    adapter: Path


def check_control(kind: str, rows: Sequence[str] | None) -> None:
    """SceneError for a kind or a row that there is not, CheckpointError for an adapter that is missing."""
    if kind not in DRAWN:
        raise SceneError(f'A map of kind "{kind}" cannot be drawn here; choose one of {", ".join(DRAWN)}.')
    for row in control_rows(rows or ()):
        check_path(row.adapter, "adapter")


def control_rows(rows: Sequence[str]) -> list[ControlRow]:
    """Rows from "NAME=ADAPTER" (a folder or file), used masked, or "NAME:unmasked=ADAPTER" or "NAME:map=ADAPTER".

    The row of the latter is called NAME-unmasked or NAME-map. SceneError where a row is none of these, or its name is
    taken.
    """
    found: list[ControlRow] = []
    for text in rows:
        told, equals, adapter = text.partition("=")
        name, colon, use = told.partition(":")
        if not (equals and adapter and _NAME.fullmatch(name) and use in _USES and bool(use) == bool(colon)):
            raise SceneError(
                f'--row is "{text}"; give NAME=FOLDER, with ":unmasked" or ":map" behind the name if the mask is not '
                "to be put on the features."
            )
        full = f"{name}-{use}" if use else name
        if full in (CAPTION_ALONE, *CEILINGS, "reference", *(row.name for row in found)):
            raise SceneError(f'There is a row "{full}" already; give --row "{text}" another name.')
        found.append(ControlRow(full, _USES[use], Path(adapter)))
    return found


def exemplar_row(text: str) -> tuple[str, str, dict[str, float]]:
    """Name, folder and options of "NAME[=FOLDER][@SIMILARITY]"; folder is "" without one. SceneError for another text,
    CheckpointError for a folder that is missing."""
    named, _, similarity = text.partition("@")
    name, _, folder = named.partition("=")
    if not name or (similarity and not re.fullmatch(r"\d+\.?\d*|\.\d+", similarity)):
        raise SceneError(f'The row is "{text}"; give NAME, NAME=FOLDER, or either with @SIMILARITY, such as own@3.')
    if folder:
        check_path(folder, "model of exemplars")
    return name, folder, {"similarity": float(similarity)} if similarity else {}


def check_edits(rows: Sequence[str] | None, tasks: Sequence[str] | None, mode: str) -> None:
    """SceneError for a task, a mode or a row that there is not."""
    if unknown := [task for task in tasks or () if task not in TASKS]:
        raise SceneError(f'There is no task "{unknown[0]}"; choose from {", ".join(TASKS)}.')
    if mode not in MODES:
        raise SceneError(f'There is no mode "{mode}"; choose one of {", ".join(MODES)}.')
    edit_rows(rows or EDITS)


def edit_rows(rows: Sequence[str]) -> dict[str, Asked]:
    """Preset and options by name, from "PRESET" or "NAME=PRESET[,option=value...]"; the preset "words" takes none.

    SceneError where a row is none of these, its name is taken, or ``edit`` has no such preset or option.
    """
    return rows_asked(rows, _EDITS, editing_of, (*CEILINGS, COPY), WORDS)


def translation_rows(rows: Sequence[str]) -> dict[str, Asked]:
    """The same of translations: presets of ``translate``, and the rows "paint", "control" and "p2p"."""
    return rows_asked(rows, _TRANSLATIONS, _check_translation, (COPY_SOURCE, COPY_REFERENCE, CEILINGS[0]), PAINTED)


def _check_translation(preset: str, options: dict[str, Any]) -> None:
    """SceneError where there is no such row."""
    if preset == P2P:
        p2p_of(options)
    elif preset != CONTROLLED:
        translating_of(preset, None, options)
    elif options:
        raise SceneError(f'The row "{preset}" has the option "{next(iter(options))}"; {_TRANSLATIONS}.')


def p2p_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options of ``edit``: prompt-to-prompt as published, from the noise that null-text inversion finds, if not asked
    otherwise. SceneError where there are none such."""
    changes = {"inversion": "null-text", "fresh": 0.0, **options}
    editing_of(P2P, changes)
    return {"preset": P2P, **changes}
