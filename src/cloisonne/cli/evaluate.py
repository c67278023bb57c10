"""``cloisonne evaluate``: run the benchmarks. Heavy imports happen inside the commands."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloisonne.cli.evaluate_layouts import Judged
from cloisonne.cli.grouped import grouped
from cloisonne.cli.terminal import to_stderr
from cloisonne.errors import Cancelled

if TYPE_CHECKING:
    from cloisonne.bench.settings import Settings

evaluate = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run the benchmarks of a model.")

Out = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for measurements and tables; an unfinished run in it is resumed.")
]
Limit = Annotated[
    int, typer.Option(min=1, help="Number of items, from the first; of each task, where there are tasks.")
]
Names = list[str] | None


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The options of every benchmark."""

    model: Annotated[
        str, typer.Option(help='Model to measure: "builtin", a folder, a file, a hub id or a model.json.')
    ] = "builtin"
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every item.")] = 0
    device: Annotated[str, typer.Option(help="Device to run on: cpu, cuda, cuda:0 or mps.")] = "cpu"
    save_pictures: Annotated[bool, typer.Option(help="Also write the images.")] = False

    def check(self) -> None:
        """Raise CheckpointError for a missing model, CapabilityError for an unknown device; imports no torch."""
        from cloisonne.models.checkpoints.sources import check_device, check_source

        check_source(self.model)
        check_device(self.device)

    def settings(self, out: Path, limit: int | None) -> "Settings":
        """The settings of a run."""
        from cloisonne.bench.settings import Settings

        return Settings(out=out, limit=limit, report=to_stderr, **vars(self))


def _resumable(command: Callable[..., str]) -> Callable[..., None]:
    """A command that may be interrupted: finished items are kept, and the same command resumes it.

    It prints the tables that the command returns.
    """

    @functools.wraps(command)
    def run(out: Path, shared: Shared, **options: Any) -> None:
        shared.check()
        try:
            typer.echo(command(out=out, shared=shared, **options))
        except KeyboardInterrupt:
            raise Cancelled(
                f'Stopped; the finished items are kept in "{out}". Run the same command again to resume.'
            ) from None

    return grouped(run)


@evaluate.command("layouts")
@_resumable
def evaluate_layouts(
    out: Out,
    shared: Shared,
    judged: Judged,
    method: Annotated[
        Names, typer.Option(help="Method to measure. Repeatable. Default: all, or all that the model supports.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of scenes, from the first. Default: all.")] = None,
) -> str:
    """Measure how well objects are in their regions.

    On layouts-v1, COCO, COCO-MIG or T2I-CompBench. Tables: objects in boxes, classes.

    The built-in judge knows the objects of layouts-v1. Any other checkpoint and benchmark needs a detector as judge.
    """
    from cloisonne.bench.arguments import layout_methods

    choice = judged.checked()
    layout_methods(method)
    if choice.detected:
        found = choice.layouts()
        from cloisonne.bench.detected_layouts import detected_layouts

        return detected_layouts(shared.settings(out, limit), choice, found, methods=method)
    from cloisonne.bench.layouts import layouts

    return layouts(shared.settings(out, limit), methods=method)


@evaluate.command("control")
@_resumable
def evaluate_control(
    out: Out,
    shared: Shared,
    kind: Annotated[str, typer.Option(help="Kind of map: canny, sobel or color.")] = "canny",
    row: Annotated[
        Names,
        typer.Option(
            metavar="NAME=ADAPTER",
            help="Adapter to measure with masked features. NAME:unmasked=... applies it to the whole canvas, "
            "NAME:map=... masks only its map, NAME:both=... and NAME:conditional=... name the branches of guidance "
            "that it conditions. Repeatable. Default: the model's own adapter.",
        ),
    ] = None,
    limit: Limit = 300,
    diversity: Annotated[int, typer.Option(min=0, help="Number of scenes on which eight seeds are compared.")] = 0,
) -> str:
    """Measure localized control. Edges are to be followed inside a mask and free outside."""
    from cloisonne.bench.arguments import check_control

    check_control(kind, row)
    from cloisonne.bench.control import control

    return control(shared.settings(out, limit), kind=kind, rows=row, diversity=diversity)


@evaluate.command("exemplars")
@_resumable
def evaluate_exemplars(
    out: Out,
    shared: Shared,
    row: Annotated[
        Names,
        typer.Option(
            metavar="NAME[=FOLDER][@SIMILARITY]",
            help='Filler to measure: the model\'s exemplar network, a Paint by Example folder, or "words" (only a '
            "prompt). Repeatable. Default: exemplar and words.",
        ),
    ] = None,
    limit: Limit = 400,
    spread: Annotated[int, typer.Option(min=0, help="Number of holes on which four seeds are compared.")] = 0,
    glyphs: Annotated[str, typer.Option(help="Subjects: held-out, training (only exemplars showed them) or core.")] = (
        "held-out"
    ),
) -> str:
    """Measure inpainting from exemplars.

    By default, the subjects are held out from training.
    """
    from cloisonne.bench.arguments import exemplar_row

    for text in row or ():
        exemplar_row(text)
    from cloisonne.bench.exemplars import exemplars
    from cloisonne.eval.holes import GLYPHS

    if glyphs not in GLYPHS:
        raise typer.BadParameter(f'"{glyphs}" is none of {", ".join(GLYPHS)}.', param_hint="--glyphs")
    return exemplars(shared.settings(out, limit), rows=row, spread_items=spread, glyphs=glyphs)


@evaluate.command("edits")
@_resumable
def evaluate_edits(
    out: Out,
    shared: Shared,
    row: Annotated[
        Names,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='Editor to measure: a preset of "cloisonne edit", one with options, as in norse=mrgd,loss_is=0, or '
            '"words", which inpaints the boxes from the prompt. Repeatable. Default: follow and words.',
        ),
    ] = None,
    limit: Limit = 50,
    task: Annotated[Names, typer.Option(help="Task: add, remove, change or mixed. Repeatable. Default: all.")] = None,
    pairs: Annotated[
        str,
        typer.Option(help="List of pairs: edits-v1, or at-risk: with an object of the edit's colour near the edit."),
    ] = "edits-v1",
    mode: Annotated[str, typer.Option(help="real: edit given images. generated: generate them first.")] = "real",
) -> str:
    """Measure region edits. Tables: success, preservation of the rest, distance to the ground truth."""
    from cloisonne.bench.arguments import check_edits

    check_edits(row, task, pairs, mode)
    from cloisonne.bench.edits import edits

    return edits(shared.settings(out, limit), rows=row, tasks=task, pairs=pairs, mode=mode)


@evaluate.command("translations")
@_resumable
def evaluate_translations(
    out: Out,
    shared: Shared,
    row: Annotated[
        Names,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='Translator to measure: a preset of "cloisonne translate", one with options, as in '
            'long=vct,rounds=1000; "paint" (exemplar inpainting); "control" (prompt and edge map); or "p2p" '
            "(prompt-to-prompt after null-text inversion; quick=p2p,inversion=direct). Repeatable. Default: fast and "
            "paint.",
        ),
    ] = None,
    limit: Limit = 50,
) -> str:
    """Measure translations of style and subject. Compares them with the ground truth."""
    from cloisonne.bench.arguments import translation_rows

    translation_rows(row or ())
    from cloisonne.bench.translations import translations

    return translations(shared.settings(out, limit), rows=row)


@evaluate.command("mixed")
@_resumable
def evaluate_mixed(
    out: Out,
    shared: Shared,
    limit: Limit = 200,
    given: Annotated[bool, typer.Option(help="Inpaint into a given background image.")] = False,
    together: Annotated[bool, typer.Option(help="Also measure scenes with all conditions on one region.")] = True,
) -> str:
    """Measure scenes that mix phrases, exemplars and edges. Tables: what each loses next to the others, cost."""
    from cloisonne.bench.mixed import mixed

    return mixed(shared.settings(out, limit), given=given, together=together)
