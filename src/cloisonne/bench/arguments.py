"""Parses and checks the arguments of the benchmarks before any network library is imported."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloisonne.bench.rows import Preset, preset_rows
from cloisonne.errors import SceneError
from cloisonne.eval.control_cases import Use
from cloisonne.eval.pairs import PAIRS, TASKS
from cloisonne.eval.row_names import CAPTION_ALONE, CEILINGS, COPY, COPY_REFERENCE, COPY_SOURCE, METHODS, MODES
from cloisonne.models.checkpoints.sources import check_path
from cloisonne.pipelines.editing.settings import editing_of
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.scene.control_maps import DRAWN

WORDS = "words"
"""The row that inpaints from the phrase alone, of edits and of exemplars."""
EXEMPLAR = "paint"
"""The row of exemplar inpainting: in the object's box for a subject, over the whole image for a style."""
CONTROLLED = "control"
"""The row conditioned on the target prompt and the source's edges."""
P2P = "p2p"
"""The row of prompt-to-prompt."""

EDIT_ROWS = ("follow", WORDS)
EXEMPLAR_ROWS = ("exemplar", WORDS)
TRANSLATION_ROWS = ("fast", EXEMPLAR)
"""The rows measured by default."""

_USES: Mapping[str, Use] = {
    "": "masked",
    "both": "both",
    "conditional": "conditional",
    "unmasked": "unmasked",
    "map": "map",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EDIT_ADVICE = 'give PRESET, or NAME=PRESET[,option=value...], such as "norse=mrgd,loss_is=0"'
_TRANSLATION_ADVICE = (
    'give PRESET, or NAME=PRESET[,option=value...], such as "long=vct,rounds=1000"; paint and control take none'
)


def layout_methods(methods: Sequence[str] | None) -> tuple[str, ...]:
    """The methods to measure; None means all. Raises SceneError for an unknown one."""
    chosen = tuple(methods or METHODS)
    if unknown := [name for name in chosen if name not in METHODS]:
        raise SceneError(f'There is no method "{unknown[0]}" to measure; choose from {", ".join(METHODS)}.')
    return chosen


@dataclass(frozen=True)
class RowSpec:
    """A row of the control benchmark, before its adapter is loaded."""

    name: str
    use: Use
    adapter: Path


def check_control(kind: str, rows: Sequence[str] | None) -> None:
    """Raise SceneError for an unknown kind or row, CheckpointError for a missing adapter."""
    if kind not in DRAWN:
        raise SceneError(f'A map of kind "{kind}" cannot be computed here; choose one of {", ".join(DRAWN)}.')
    for row in control_rows(rows or ()):
        check_path(row.adapter, "adapter")


def control_rows(rows: Sequence[str]) -> list[RowSpec]:
    """Parse "NAME=ADAPTER" (a folder or file, used masked) or "NAME:USE=ADAPTER"; USE is a key of ``_USES``.

    The latter are called NAME-USE. Raises SceneError for any other text or a name in use.
    """
    found: list[RowSpec] = []
    for text in rows:
        left, equals, adapter = text.partition("=")
        name, colon, use = left.partition(":")
        if not (equals and adapter and _NAME.fullmatch(name) and use in _USES and bool(use) == bool(colon)):
            raise SceneError(
                f'--row is "{text}"; give NAME=FOLDER, NAME:unmasked=FOLDER or NAME:map=FOLDER to leave the features '
                "unmasked, or NAME:both=FOLDER or NAME:conditional=FOLDER to name the branches of guidance."
            )
        full = f"{name}-{use}" if use else name
        if full in (CAPTION_ALONE, *CEILINGS, "reference", *(row.name for row in found)):
            raise SceneError(f'There is a row "{full}" already; give --row "{text}" another name.')
        found.append(RowSpec(full, _USES[use], Path(adapter)))
    return found


def exemplar_row(text: str) -> tuple[str, str, dict[str, float]]:
    """Parse "NAME[=FOLDER][@SIMILARITY]" into name, folder ("" for none) and options.

    Raises SceneError for any other text, CheckpointError for a missing folder.
    """
    named, _, similarity = text.partition("@")
    name, _, folder = named.partition("=")
    if not name or (similarity and not re.fullmatch(r"\d+\.?\d*|\.\d+", similarity)):
        raise SceneError(f'The row is "{text}"; give NAME, NAME=FOLDER, or either with @SIMILARITY, such as own@3.')
    if folder:
        check_path(folder, "exemplar model")
    return name, folder, {"similarity": float(similarity)} if similarity else {}


def check_edits(rows: Sequence[str] | None, tasks: Sequence[str] | None, pairs: str, mode: str) -> None:
    """Raise SceneError for an unknown task, list of pairs, mode or row."""
    if unknown := [task for task in tasks or () if task not in TASKS]:
        raise SceneError(f'There is no task "{unknown[0]}"; choose from {", ".join(TASKS)}.')
    if pairs not in PAIRS:
        raise SceneError(f'There is no list of pairs "{pairs}"; choose one of {", ".join(PAIRS)}.')
    if mode not in MODES:
        raise SceneError(f'There is no mode "{mode}"; choose one of {", ".join(MODES)}.')
    edit_rows(rows or EDIT_ROWS)


def edit_rows(rows: Sequence[str]) -> dict[str, Preset]:
    """Parse "PRESET" or "NAME=PRESET[,option=value...]" into preset and options by name; "words" takes no options.

    Raises SceneError for any other text, a name in use, or an unknown preset or option of ``edit``.
    """
    return preset_rows(rows, _EDIT_ADVICE, editing_of, (*CEILINGS, COPY), WORDS)


def translation_rows(rows: Sequence[str]) -> dict[str, Preset]:
    """The same for translations: presets of ``translate``, and the rows "paint", "control" and "p2p"."""
    return preset_rows(
        rows, _TRANSLATION_ADVICE, _check_translation, (COPY_SOURCE, COPY_REFERENCE, CEILINGS[0]), EXEMPLAR
    )


def _check_translation(preset: str, options: dict[str, Any]) -> None:
    """Raise SceneError for an unknown preset or option."""
    if preset == P2P:
        p2p_of(options)
    elif preset != CONTROLLED:
        translating_of(preset, None, options)
    elif options:
        raise SceneError(f'The row "{preset}" has the option "{next(iter(options))}"; {_TRANSLATION_ADVICE}.')


def p2p_of(options: dict[str, Any]) -> dict[str, Any]:
    """Options of ``edit`` for prompt-to-prompt as published, with null-text inversion unless overridden.

    Raises SceneError for an unknown option.
    """
    changes = {"inversion": "null-text", "fresh_noise": 0.0, **options}
    editing_of(P2P, changes)
    return {"preset": P2P, **changes}
