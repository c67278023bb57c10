"""``cloisonne evaluate``: the benchmarks. Heavy imports happen inside the commands."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.cli.terminal import to_stderr
from cloisonne.errors import Cancelled

evaluate = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure pictures against what was asked for.")

Out = Annotated[Path, typer.Option("--output", "-o", help="Folder for items and tables; continues what is there.")]
Source = Annotated[str, typer.Option(help='"builtin" or a diffusers folder.')]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")]
SavePictures = Annotated[bool, typer.Option(help="Keep the pictures.")]


def _goes_on(command: Callable[..., None]) -> Callable[..., None]:
    """A command that can be stopped: what was measured is kept, and the same command continues it."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        try:
            command(**given)
        except KeyboardInterrupt:
            raise Cancelled(
                f'Stopped; the items so far are kept in "{given["out"]}". Give the same command again to go on.'
            ) from None

    return run


@evaluate.command("layouts")
@_goes_on
def evaluate_layouts(
    out: Out,
    model: Source = "builtin",
    method: Annotated[list[str] | None, typer.Option(help="Rows to measure; all without.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first scenes of layouts-v1.")] = None,
    seed: Annotated[int, typer.Option(help="Added to every layout's own seed.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure region control on layouts-v1: objects in their boxes, classes, colours, leakage, Fréchet distance."""
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
@_goes_on
def evaluate_control(
    out: Out,
    model: Source = "builtin",
    kind: Annotated[str, typer.Option(help="Of the map: canny, sobel or color; edges are measured of all.")] = "canny",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ADAPTER",
            help="An adapter to measure, its features masked; several times. NAME:unmasked=... uses it on the whole "
            "canvas, NAME:map=... masks the map only. The model's own without.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first scenes.")] = 300,
    seed: Annotated[int, typer.Option(help="Added to every scene's own seed.")] = 0,
    device: Device = "cpu",
    diversity: Annotated[int, typer.Option(min=0, help="On so many scenes, compare eight seeds; 0 for none.")] = 0,
    save_pictures: SavePictures = False,
) -> None:
    """Measure localized control: edges obeyed inside of a mask, and free outside."""
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
@_goes_on
def evaluate_exemplars(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=FOLDER][@SIMILARITY]",
            help='What fills the holes: the model\'s own exemplars, those of a folder of Paint by Example, or "words"; '
            "several times. The model's own and words without.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first holes.")] = 400,
    seed: Annotated[int, typer.Option(help="Added to every hole's own seed.")] = 0,
    device: Device = "cpu",
    spread: Annotated[int, typer.Option(min=0, help="On so many holes, compare four seeds; 0 for none.")] = 0,
    save_pictures: SavePictures = False,
) -> None:
    """Measure exemplars: holes filled with subjects that no training has seen."""
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
@_goes_on
def evaluate_edits(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='What edits: a preset of "cloisonne edit", one with other options, such as norse=mrgd,loss_is=0, or '
            '"words", which fills the places; several times. follow and words without.',
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first pairs of each task.")] = 50,
    task: Annotated[
        list[str] | None, typer.Option(help="add, remove, change or mixed; several times. All without.")
    ] = None,
    mode: Annotated[str, typer.Option(help="real: the picture before is given. generated: both are drawn.")] = "real",
    seed: Annotated[int, typer.Option(help="Added to every pair's own seed.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure edits of regions: whether they came, what stayed, and how near they are to the known answer."""
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
@_goes_on
def evaluate_translations(
    out: Out,
    model: Source = "builtin",
    row: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=PRESET,OPTION=VALUE...]",
            help='What translates: a preset of "cloisonne translate", one with other options, such as '
            'long=vct,rounds=1000, "paint", which paints exemplars, "control", which is told words and edges, or '
            '"p2p", prompt-to-prompt after null-text inversion (quick=p2p,inversion=direct); several times. fast and '
            "paint without.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Only the first pairs of each task.")] = 50,
    seed: Annotated[int, typer.Option(help="Added to every pair's own seed.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure translations of style and subject by their nearness to the known answer."""
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
@_goes_on
def evaluate_mixed(
    out: Out,
    model: Source = "builtin",
    limit: Annotated[int, typer.Option(min=1, help="Only the first scenes.")] = 200,
    given: Annotated[bool, typer.Option(help="Over a picture of the background, in place of nothing.")] = False,
    together: Annotated[bool, typer.Option(help="Also scenes of one region that is told in all ways.")] = True,
    seed: Annotated[int, typer.Option(help="Added to every scene's number.")] = 0,
    device: Device = "cpu",
    save_pictures: SavePictures = False,
) -> None:
    """Measure scenes that mix words, exemplars and edges: what each condition loses beside the others, and the cost."""
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
    """CheckpointError, CapabilityError for a model or device that there is not; no network library is imported."""
    from cloisonne.models.checkpoints.sources import check_device, check_source

    check_source(model)
    check_device(device)
