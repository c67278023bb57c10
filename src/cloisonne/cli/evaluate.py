"""``cloisonne evaluate``: run the benchmarks. Heavy imports happen inside the commands."""

from pathlib import Path
from typing import Annotated

import typer

from cloisonne.cli.terminal import to_stderr

evaluate = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Run the benchmarks of a model.")

Out = Annotated[
    Path, typer.Option("--output", "-o", help="Folder for measurements and tables; an unfinished run in it is resumed.")
]
Source = Annotated[str, typer.Option(help='Model to measure: "builtin" or a diffusers folder.')]
Device = Annotated[str, typer.Option(help="Device to run on: cpu, cuda, cuda:0 or mps.")]
SavePictures = Annotated[bool, typer.Option(help="Also write the images.")]


@evaluate.command("layouts")
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
    _check(model)
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
    _check(model)
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
    _check(model)
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
    _check(model)
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
    _check(model)
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
    _check(model)
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


def _check(model: str) -> None:
    """Raise CheckpointError for a missing model, before a network library is imported."""
    from cloisonne.models.checkpoints.sources import check_source

    check_source(model)
