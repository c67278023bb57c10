"""The command line: ``cloisonne generate SCENE -o OUT`` and its siblings. ``cloisonne --help`` lists them.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.cli.draw import fill, generate, paint
from cloisonne.cli.evaluate import evaluate
from cloisonne.cli.inspect import explain, sweep, words
from cloisonne.cli.options import Drawing, Loading, NumImages, Overwrite, grouped
from cloisonne.cli.terminal import Failed, progress, running, to_stderr, took, warn
from cloisonne.cli.threads import wait_passively
from cloisonne.cli.train import train
from cloisonne.cli.translate import translate
from cloisonne.errors import Cancelled, CloisonneError, on_command_line

app = typer.Typer(
    name="cloisonne",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut names and texts in narrow terminals
    help="Draw and repaint pictures region by region with diffusion models.",
)
app.add_typer(train, name="train")
app.add_typer(evaluate, name="evaluate")

USAGE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: what was asked for cannot be done as asked; something broke while doing it."""

app.command()(generate)
app.command()(fill)
app.command()(paint)


@app.command()
@grouped
def edit(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for before, after, difference and report.")],
    loading: Loading,
    drawing: Drawing,
    scene: Annotated[str, typer.Argument(metavar="SCENE", help="JSON file, PNG that carries a scene, or -.")],
    preset: Annotated[
        str | None, typer.Option(help="Way of editing: follow, mrgd, official, p2p or multidiffusion.")
    ] = None,
    looks: Annotated[
        float | None, typer.Option(help="0 to 1: how long changed regions keep how they looked at themselves.")
    ] = None,
    overwrite: Overwrite = False,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Leave given pictures out of the PNG.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report and nothing else.")] = False,
) -> None:
    """Change regions of a picture and keep the rest: draws a scene with edits as a picture before and one after."""
    from cloisonne.cli.scene_arguments import scene_from
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.editing.result import check_outputs
    from cloisonne.pipelines.editing.settings import check_editing

    began = time.perf_counter()
    asked = scene_from(scene, None, [], drawing.given(model=loading.model))
    told: dict[str, Any] = {} if looks is None else {"looks": looks}
    check_editing(asked, preset, told)
    check_scene(asked)
    check_outputs(out, overwrite=overwrite)
    model = loading.load(asked.model)
    from cloisonne.pipelines.editing.edit import edit as edited

    with running(), progress() as bar:
        told["callback_on_step_end"] = lambda end: bar.stage(end.doing, end.done, end.step.count)
        result = edited(asked, model, preset=preset, **told)
        paths = result.save(out, overwrite=overwrite, embed=not no_embed)
    warn(result.warnings)
    typer.echo(json.dumps(result.report) if as_json else "\n".join(map(str, paths)))
    took(began)


app.command()(translate)
app.command()(sweep)
app.command()(explain)
app.command()(words)


@app.command()
def control(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="The picture to draw a control map of.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The map's name.")],
    kind: Annotated[str, typer.Option(help="canny, sobel or color.")] = "canny",
    overwrite: Overwrite = False,
) -> None:
    """Draw a control map of a picture: edges, gradients or colours, for a region's control."""
    from cloisonne.cli.control_map import write_map

    typer.echo(str(write_map(picture, kind, out, overwrite=overwrite)))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help='"builtin", a checkpoint\'s file, or a diffusers folder.')
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder, or a .safetensors file for a pickle.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Folder of the tokenizer, for a single file.")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="epsilon or v_prediction, for a file that does not say.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; as it is, if left out.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a checkpoint as a folder of safetensors; pickles are read once, without running what is in them."""
    from cloisonne.models.checkpoints.sources import check_conversion

    told = Loading(dtype=dtype, prediction=prediction)
    told.check_words()
    check_conversion(source, out, overwrite=overwrite)
    from cloisonne.models.checkpoints.convert import convert as converted

    options = {"prediction": told.predicts(), "dtype": told.precision(), "overwrite": overwrite}
    with running():
        typer.echo(str(converted(source, out, tokenizer=tokenizer, **options)))


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


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"cloisonne {version('cloisonne')}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Draw and repaint pictures region by region with diffusion models."""
    ctx.with_resource(on_command_line())


def main() -> None:
    """Run the command line; the exit code is 0, 1 for a failure while running, 2 for what cannot be done as asked."""
    wait_passively()
    try:
        app()
    except CloisonneError as error:
        to_stderr(f"Error: {error}")
        sys.exit(FAILURE if isinstance(error, Cancelled) else USAGE)
    except Failed as error:
        to_stderr(f"Error: {error}")
        sys.exit(FAILURE)
    except SystemExit as stop:
        # typer turns Ctrl-C into the exit code of a shell's interrupted command.
        if stop.code != INTERRUPTED:
            raise
        to_stderr("Cancelled; no picture was left half written.")
        sys.exit(FAILURE)
