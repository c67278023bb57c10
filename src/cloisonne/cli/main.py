"""The command line: ``cloisonne generate SCENE -o OUT`` and the other commands. ``cloisonne --help`` lists them.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from cloisonne.cli.batch import batch
from cloisonne.cli.doctor import doctor
from cloisonne.cli.draw import fill, generate, paint
from cloisonne.cli.editing import Editing
from cloisonne.cli.evaluate import evaluate
from cloisonne.cli.grouped import grouped
from cloisonne.cli.inspect import explain, export, import_, sweep, words
from cloisonne.cli.limited import pickled_bytes, run_limited
from cloisonne.cli.options import Drawing, Loading, NumImages, Overwrite
from cloisonne.cli.studio import serve, studio
from cloisonne.cli.terminal import Failed, progress, running, to_stderr, took, wait_passively, warn
from cloisonne.cli.train import train
from cloisonne.cli.translate import translate
from cloisonne.errors import Cancelled, CloisonneError, on_command_line
from cloisonne.models.deferred_imports import defer, list_once

app = typer.Typer(
    name="cloisonne",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut names and texts in narrow terminals
    help="Generate and edit images region by region with diffusion models.",
)
app.add_typer(train, name="train")
app.add_typer(evaluate, name="evaluate")

USAGE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: the request is refused; the run failed; the shell's code for Ctrl-C."""

app.command()(generate)
app.command()(fill)
app.command()(paint)


@app.command()
@grouped
def edit(
    out: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder for the images before and after, their difference and the report."),
    ],
    loading: Loading,
    drawing: Drawing,
    scene: Annotated[
        str,
        typer.Argument(
            metavar="SCENE", help="Scene to read: a JSON file, a PNG with an embedded scene, or - for stdin."
        ),
    ],
    editing: Editing,
    overwrite: Overwrite = False,
    no_embed: Annotated[bool, typer.Option("--no-embed", help="Do not embed input images in the PNG.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON report to stdout.")] = False,
) -> None:
    """Edit regions of an image and preserve the rest. Writes the images before and after the edit.

    Options that are left out take the value of the scene, else of the model.
    """
    from cloisonne.cli.scene_arguments import scene_from
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.editing.settings import check_editing
    from cloisonne.pipelines.output.files import check_pair

    began = time.perf_counter()
    asked = scene_from(scene, None, [], drawing.given(model=loading.model))
    preset, options = editing.preset, editing.given()
    check_editing(asked, preset, options)
    check_scene(asked)
    check_pair(out, overwrite=overwrite)
    model = loading.load(asked.model)
    from cloisonne.pipelines.editing.edit import edit as edited

    with running(), progress() as bar:
        result = edited(asked, model, preset=preset, on_step=bar, **options)
        paths = result.save(out, overwrite=overwrite, embed=not no_embed)
    warn(result.warnings)
    typer.echo(json.dumps(result.report) if as_json else "\n".join(map(str, paths)))
    took(began)


app.command()(batch)
app.command()(translate)
app.command()(sweep)
app.command()(explain)
app.command("import")(import_)
app.command()(export)
app.command()(words)
app.command()(studio)
app.command()(serve)
app.command()(doctor)


@app.command()
def control(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="Image to compute the control map from.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Control map to write.")],
    kind: Annotated[str, typer.Option(help="Kind of map: canny (edges), sobel (gradients) or color.")] = "canny",
    overwrite: Overwrite = False,
) -> None:
    """Compute a control map of an image. Use it as the control of a region."""
    from cloisonne.cli.control_map import write_map

    typer.echo(str(write_map(picture, kind, out, overwrite=overwrite)))


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="IN", help='Model to convert: "builtin", a checkpoint file or a diffusers folder.')
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write, or .safetensors file if IN is a pickle.")
    ],
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder, for a single-file model.")] = None,
    prediction: Annotated[
        str | None,
        typer.Option(help="Prediction type of a file that does not record it: epsilon or v_prediction."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Precision to write: float32, float16 or bfloat16. Default: that of IN."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a checkpoint to a folder of safetensors. Pickles are read without running the code in them."""
    from cloisonne.models.checkpoints.sources import check_conversion

    loading = Loading(dtype=dtype, prediction=prediction)
    loading.check_choices()
    check_conversion(source, out, overwrite=overwrite)
    if size := pickled_bytes(source):
        code = run_limited(size)
        if code is not None:
            raise typer.Exit(code)
    from cloisonne.models.checkpoints.convert import convert as converted

    options = {"prediction": loading.prediction_type(), "dtype": loading.precision(), "overwrite": overwrite}
    with running():
        typer.echo(str(converted(source, out, tokenizer=tokenizer, **options)))


@app.command()
def draw(
    out: Annotated[Path, typer.Option("--output", "-o", help="Folder for images, scene files, masks and annotations.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image.")] = 0,
    num_images: NumImages = 1,
    size: Annotated[int, typer.Option(help="Width and height of each image in pixels.")] = 128,
    overwrite: Overwrite = False,
) -> None:
    """Draw scenes of the procedural world. Writes images, scene files, masks and COCO annotations."""
    from cloisonne.world.export import export

    paths = export(range(seed, seed + num_images), out, width=size, height=size, overwrite=overwrite)
    typer.echo(f"{len(paths)} images in {out}")


@app.command()
def models() -> None:
    """List the networks of the built-in family. Prints size, training images and metrics of each."""
    from cloisonne.models.builtin import members

    for member in members():
        made = member.provenance
        figures = ", ".join(f"{name} {value:g}" for name, value in made.get("metrics", {}).items())
        typer.echo(f"{member.name:13} {member.bytes / 2**20:5.1f} MiB  {made.get('pictures', 0):>8} images  {figures}")


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
    """Generate and edit images region by region with diffusion models."""
    ctx.with_resource(on_command_line())


def start() -> None:
    """The program: :func:`main`, with imports deferred for the rest of this process."""
    defer()
    list_once()
    main()


def main() -> None:
    """Run the command line. Exit codes: 0, 1 for a failed or cancelled run, 2 for a refused request."""
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
        to_stderr("Cancelled; no partial image was written.")
        sys.exit(FAILURE)
