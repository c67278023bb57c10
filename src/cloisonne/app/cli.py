"""The command line: ``cloisonne generate SCENE -o OUT`` and its siblings. ``cloisonne --help`` lists them.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.errors import Cancelled, CloisonneError, OutputError

app = typer.Typer(
    name="cloisonne",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Draw and repaint pictures region by region with diffusion models.",
)
train = typer.Typer(no_args_is_help=True, help="Train networks.")
evaluate = typer.Typer(no_args_is_help=True, help="Measure pictures against what was asked for.")
app.add_typer(train, name="train")
app.add_typer(evaluate, name="evaluate")

USAGE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: what was asked for cannot be done as asked; something broke while doing it."""

SceneFile = Annotated[
    str | None, typer.Argument(metavar="SCENE", help="JSON file, PNG that carries a scene, or - for standard input.")
]
Out = Annotated[Path, typer.Option("--output", "-o", help="A picture's name, or a folder for 0000.png and so on.")]
Caption = Annotated[str | None, typer.Option(help="What the whole picture shows (in place of a scene file).")]
Regions = Annotated[list[str] | None, typer.Option("--region", metavar="BOX:PHRASE", help='"x0,y0,x1,y1:phrase"')]
ModelName = Annotated[str | None, typer.Option("--model", help='"builtin" or a diffusers folder.')]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:0 or mps.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the first picture; picture i has seed + i.")]
Steps = Annotated[int | None, typer.Option("--steps", "--num_inference_steps", help="Steps of the walk.")]
Guidance = Annotated[float | None, typer.Option("--guidance", "--guidance_scale", help="Strength of guidance.")]
Sampler = Annotated[str | None, typer.Option(help="ddim, euler, euler-ancestral, heun or dpmpp-2m.")]
Method = Annotated[str | None, typer.Option(help="reco, attention, multidiffusion, words or caption.")]
NumImages = Annotated[int, typer.Option(min=1, max=10_000, help="How many pictures.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON report on standard output, and nothing else there.")]
Overlay = Annotated[bool, typer.Option(help="Also write each picture with its regions drawn.")]
Overwrite = Annotated[bool, typer.Option(help="Replace outputs that exist.")]
NoEmbed = Annotated[bool, typer.Option("--no-embed", help="Name given pictures by path and hash, do not embed them.")]


@app.command()
def generate(
    out: Out,
    scene: SceneFile = None,
    caption: Caption = None,
    region: Regions = None,
    model: ModelName = None,
    device: Device = "cpu",
    seed: Seed = None,
    num_images: NumImages = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    method: Method = None,
    overlay: Overlay = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
    no_embed: NoEmbed = False,
) -> None:
    """Draw a scene, or repaint the regions of its background."""
    from cloisonne.app.arguments import scene_from

    overrides = {"seed": seed, "steps": steps, "guidance": guidance, "sampler": sampler, "method": method}
    asked = scene_from(scene, caption, region or [], overrides | {"model": model})
    _draw(asked, out, device, num_images, overlay=overlay, as_json=as_json, overwrite=overwrite, embed=not no_embed)


@app.command()
def fill(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The picture to repaint.")],
    out: Out,
    mask: Annotated[Path, typer.Option(help="Picture of the same canvas: white changes, black stays.")],
    phrase: Annotated[str, typer.Option(help="What belongs where the mask is white.")],
    caption: Annotated[str, typer.Option(help="What the whole picture shows.")] = "",
    negative: Annotated[str, typer.Option(help="What shall not be shown.")] = "",
    strength: Annotated[float, typer.Option(help="0 keeps what is there, 1 draws anew.")] = 1.0,
    feather: Annotated[float, typer.Option(help="Soft edge inwards, as a fraction of the mask's shorter side.")] = 0.0,
    model: ModelName = None,
    device: Device = "cpu",
    seed: Seed = None,
    num_images: NumImages = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    sampler: Sampler = None,
    method: Method = None,
    overlay: Overlay = False,
    as_json: Json = False,
    overwrite: Overwrite = False,
    no_embed: NoEmbed = False,
) -> None:
    """Repaint a picture by words where a mask is white; every other pixel stays as it is."""
    from cloisonne.scene import Region, Scene

    region = Region(name="fill", mask=str(mask), phrase=phrase, feather=feather)
    overrides = {"seed": seed, "steps": steps, "guidance": guidance, "sampler": sampler, "method": method}
    given = {name: value for name, value in (overrides | {"model": model}).items() if value is not None}
    told = {"caption": caption, "negative": negative, "strength": strength}
    asked = Scene(background=str(source), regions=[region], **told, **given)
    _draw(asked, out, device, num_images, overlay=overlay, as_json=as_json, overwrite=overwrite, embed=not no_embed)


@app.command()
def explain(
    scene: SceneFile = None,
    caption: Caption = None,
    region: Regions = None,
    model: ModelName = None,
    device: Device = "cpu",
    method: Method = None,
) -> None:
    """Print what a scene compiles to: views, rows, tokens, forwards a step, memory and time. Draws nothing."""
    from cloisonne.app.arguments import scene_from
    from cloisonne.app.explain import explain as explained
    from cloisonne.models.load import load

    asked = scene_from(scene, caption, region or [], {"model": model, "method": method})
    typer.echo(str(explained(asked, load(asked.model, device=device))))


@app.command()
def draw(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for pictures, scenes, masks and annotations.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first picture.")] = 0,
    num_images: NumImages = 1,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 128,
    overwrite: Overwrite = False,
) -> None:
    """Draw scenes of the procedural world with their truth: pictures, scene files, masks, COCO annotations."""
    from cloisonne.world.export import export

    paths = export(range(seed, seed + num_images), out, width=size, height=size, overwrite=overwrite)
    typer.echo(f"{len(paths)} pictures in {out}")


@app.command()
def models() -> None:
    """List the built-in family: its members, what they were made of, and their figures."""
    from cloisonne.models.builtin import members

    for member in members():
        made = member.provenance
        figures = ", ".join(f"{name} {value:g}" for name, value in made.get("metrics", {}).items())
        typer.echo(
            f"{member.name:13} {member.bytes / 2**20:5.1f} MiB  {made.get('pictures', 0):>8} pictures  {figures}"
        )


@train.command("family")
def train_family(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the family and the state of its training.")],
    minutes: Annotated[float, typer.Option(help="Training time of all members together.")],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    slice_minutes: Annotated[float | None, typer.Option(help="Stop after this long; call again to go on.")] = None,
) -> None:
    """Rebuild the built-in family from nothing, or go on where the last call stopped."""
    from cloisonne.app.sheets import write_sheet
    from cloisonne.train.family import train_family as rebuilt

    def made(member: str, family: Path) -> None:
        write_sheet(member, family, out / "sheets")

    finished = rebuilt(out, minutes, device=device, slice_minutes=slice_minutes, report=_to_stderr, made=made)
    typer.echo(f"{'The family lies' if finished else 'Not finished, call again; so far'} in {out / 'family'}")


@evaluate.command("layouts")
def evaluate_layouts(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for items and tables; continues what is there.")],
    model: Annotated[str, typer.Option(help='"builtin" or a diffusers folder.')] = "builtin",
    method: Annotated[list[str] | None, typer.Option(help="Rows to measure; all without.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first scenes of layouts-v1.")] = None,
    seed: Annotated[int, typer.Option(help="Added to every layout's own seed.")] = 0,
    device: Device = "cpu",
    save_pictures: Annotated[bool, typer.Option(help="Keep the pictures.")] = False,
) -> None:
    """Measure region control on layouts-v1: objects in their boxes, classes, colours, leakage, Fréchet distance."""
    from cloisonne.app.measure import layouts

    results = layouts(
        out,
        model,
        methods=method,
        limit=limit,
        seed=seed,
        device=device,
        save_pictures=save_pictures,
        report=_to_stderr,
    )
    typer.echo(results.markdown())


def _draw(
    asked: Any, out: Path, device: str, num_images: int, *, overlay: bool, as_json: bool, overwrite: bool, embed: bool
) -> None:
    from cloisonne.app.generate import generate as run
    from cloisonne.app.overlays import check_overlays, write_overlays
    from cloisonne.app.result import check_outputs
    from cloisonne.models.load import load
    from cloisonne.scene import Source

    like = [] if asked.background is None else [Source.load(asked.background).upright] * num_images
    check_outputs(out, num_images, overwrite=overwrite, like=like)
    if overlay:
        check_overlays(out, num_images, overwrite=overwrite)
    model = load(asked.model, device=device)
    with _running(), _progress(num_images) as callback:
        result = run(asked, model, num_images=num_images, callback_on_step_end=callback)
        paths = result.save(out, overwrite=overwrite, embed=embed)
        if overlay:
            write_overlays(result, paths, overwrite=overwrite)
    for warning in result.report["warnings"]:
        _to_stderr(f"Warning: {warning}")
    if result.report["dropped"]:
        _to_stderr(f"Left out, because they do not fit the model's text: {', '.join(result.report['dropped'])}")
    if as_json:
        typer.echo(json.dumps(result.report, ensure_ascii=False))
    else:
        for path in paths:
            typer.echo(str(path))


@contextmanager
def _running() -> Iterator[None]:
    """From here on an error that is not about what was asked for is a failure of the run."""
    try:
        yield
    except (OSError, RuntimeError, MemoryError) as error:
        if isinstance(error, CloisonneError) and not isinstance(error, OutputError):
            raise
        reason = str(error).strip().splitlines()
        raise _Failed(f"The run failed: {reason[0] if reason else type(error).__name__}") from error


class _Failed(Exception):
    """A failure while running."""


@contextmanager
def _progress(num_images: int) -> Iterator[Callable[[Any], None]]:
    """A bar on standard error that counts the steps of all pictures; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("drawing")

        def callback(end: Any) -> None:
            total = end.step.count * num_images
            bar.update(task, total=total, completed=end.image * end.step.count + end.step.index + 1)

        yield callback


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"cloisonne {version('cloisonne')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw and repaint pictures region by region with diffusion models."""


def main() -> None:
    """Run the command line; the exit code is 0, 1 for a failure while running, 2 for what cannot be done as asked."""
    try:
        app()
    except CloisonneError as error:
        _to_stderr(f"Error: {error}")
        sys.exit(FAILURE if isinstance(error, Cancelled) else USAGE)
    except _Failed as error:
        _to_stderr(f"Error: {error}")
        sys.exit(FAILURE)
    except SystemExit as stop:
        # typer turns Ctrl-C into the exit code of a shell's interrupted command.
        if stop.code != INTERRUPTED:
            raise
        _to_stderr("Cancelled; no picture was left half written.")
        sys.exit(FAILURE)
