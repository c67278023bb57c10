"""``cloisonne evaluate``: run the benchmarks. Heavy imports happen inside the commands."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.cli.terminal import to_stderr
from cloisonne.errors import Cancelled

evaluate = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run the benchmarks of a model.")

Out = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for measurements and tables; an unfinished run in it is resumed.")
]
Source = Annotated[str, typer.Option(help='Model to measure: "builtin" or a diffusers folder.')]
Device = Annotated[str, typer.Option(help="Device to run on: cpu, cuda, cuda:0 or mps.")]
SavePictures = Annotated[bool, typer.Option(help="Also write the images.")]


def _resumable(command: Callable[..., None]) -> Callable[..., None]:
    """A command that may be interrupted: finished items are kept, and the same command resumes it."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        try:
            command(**given)
        except KeyboardInterrupt:
            raise Cancelled(
                f'Stopped; the finished items are kept in "{given["out"]}". Run the same command again to resume.'
            ) from None

    return run


@evaluate.command("layouts")
@_resumable
def evaluate_layouts(
    out: Out,
    model: Source = "builtin",
    method: Annotated[list[str] | None, typer.Option(help="Method to measure. Repeatable. Default: all.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Number of scenes, from the first. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every layout.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure region control on layouts-v1. Tables: objects in boxes, classes, colours, leakage, Fréchet distance."""
    _check(model, device)
    from cloisonne.bench.arguments import layout_methods

    layout_methods(method)
    from cloisonne.bench.layouts import layouts

    results = layouts(
        out,
        model,
        methods=method,
        limit=limit,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(results.markdown())


@evaluate.command("control")
@_resumable
def evaluate_control(
    out: Out,
    model: Source = "builtin",
    kind: Annotated[str, typer.Option(help="Kind of map: canny, sobel or color.")] = "canny",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADAPTER",
            help="Adapter to measure with masked features. NAME:unmasked=... applies it to the whole canvas, "
            "NAME:map=... masks only its map. Repeatable. Default: the model's own adapter.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of scenes, from the first.")] = 300,
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every scene.")] = 0,
    device: Device = "cpu",
    diversity: Annotated[int, typer.Option(min=0, help="Number of scenes on which eight seeds are compared.")] = 0,
    save_pictures: SavePictures = False,
) -> None:
    """Measure localized control. Edges are to be followed inside a mask and free outside."""
    _check(model, device)
    from cloisonne.bench.arguments import check_control

    check_control(kind, row)
    from cloisonne.bench.control import control

    results = control(
        out,
        model,
        kind=kind,
        rows=row,
        limit=limit,
        seed=seed,
        device=device,
        diversity=diversity,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(results.markdown())


@evaluate.command("exemplars")
@_resumable
def evaluate_exemplars(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FOLDER][@SIMILARITY]",
            help='Filler to measure: the model\'s exemplar network, a Paint by Example folder, or "words" (only a '
            "prompt). Repeatable. Default: exemplar and words.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of holes, from the first.")] = 400,
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every hole.")] = 0,
    device: Device = "cpu",
    spread: Annotated[int, typer.Option(min=0, help="Number of holes on which four seeds are compared.")] = 0,
    save_pictures: SavePictures = False,
) -> None:
    """Measure inpainting from exemplars. The subjects are held out from training."""
    _check(model, device)
    from cloisonne.bench.arguments import exemplar_row

    for text in row or ():
        exemplar_row(text)
    from cloisonne.bench.exemplars import exemplars

    text = exemplars(
        out,
        model,
        rows=row,
        limit=limit,
        spread_items=spread,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(text)


@evaluate.command("edits")
@_resumable
def evaluate_edits(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='Editor to measure: a preset of "cloisonne edit", one with options, as in norse=mrgd,loss_is=0, or '
            '"words", which inpaints the boxes from the prompt. Repeatable. Default: follow and words.',
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of pairs of each task, from the first.")] = 50,
    task: Annotated[
        list[str] | None, typer.Option(help="Task: add, remove, change or mixed. Repeatable. Default: all.")
    ] = None,
    mode: Annotated[str, typer.Option(help="real: edit given images. generated: generate them first.")] = "real",
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every pair.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure region edits. Tables: success, preservation of the rest, distance to the ground truth."""
    _check(model, device)
    from cloisonne.bench.arguments import check_edits

    check_edits(row, task, mode)
    from cloisonne.bench.edits import edits

    text = edits(
        out,
        model,
        rows=row,
        limit=limit,
        tasks=task,
        mode=mode,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(text)


@evaluate.command("translations")
@_resumable
def evaluate_translations(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='Translator to measure: a preset of "cloisonne translate", one with options, as in '
            'long=vct,rounds=1000; "paint" (exemplar inpainting); "control" (prompt and edge map); or "p2p" '
            "(prompt-to-prompt after null-text inversion; quick=p2p,inversion=direct). Repeatable. Default: fast and "
            "paint.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Number of pairs of each task, from the first.")] = 50,
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every pair.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure translations of style and subject. Compares them with the ground truth."""
    _check(model, device)
    from cloisonne.bench.arguments import translation_rows

    translation_rows(row or ())
    from cloisonne.bench.translations import translations

    text = translations(
        out,
        model,
        rows=row,
        limit=limit,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(text)


@evaluate.command("mixed")
@_resumable
def evaluate_mixed(
    out: Out,
    model: Source = "builtin",
    limit: Annotated[int, typer.Option(min=1, help="Number of scenes, from the first.")] = 200,
    given: Annotated[bool, typer.Option(help="Inpaint into a given background image.")] = False,
    together: Annotated[bool, typer.Option(help="Also measure scenes with all conditions on one region.")] = True,
    seed: Annotated[int, typer.Option(help="Offset added to the seed of every scene.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure scenes that mix phrases, exemplars and edges. Tables: what each loses next to the others, cost."""
    _check(model, device)
    from cloisonne.bench.mixed import mixed

    text = mixed(
        out,
        model,
        limit=limit,
        given=given,
        together=together,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=to_stderr,
    )
    typer.echo(text)


def _check(model: str, device: str) -> None:
    """Raise CheckpointError for a missing model, CapabilityError for an unknown device, before torch is imported."""
    from cloisonne.models.checkpoints.sources import check_device, check_source

    check_source(model)
    check_device(device)
