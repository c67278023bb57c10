"""Commands about a scene: ``sweep``, ``explain``, ``import``, ``export``, ``words``. Heavy imports happen inside."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from cloisonne.cli.grouped import grouped
from cloisonne.cli.options import Cache, Caption, Drawing, Loading, Overwrite, Regions, SceneFile
from cloisonne.cli.terminal import progress, running, to_stderr, took, warn
from cloisonne.errors import OutputError, SceneError

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


@grouped
def sweep(
    out: Annotated[Path, typer.Option("--output", "-o", help="Contact sheet to write.")],
    values: Annotated[
        str,
        typer.Option(
            "--sweep",
            metavar="FIELD=VALUES",
            help="Scene field to vary and its values, as in guidance=1,2.5,5; of a region, as in pet.similarity=1,3,5.",
        ),
    ],
    loading: Loading,
    drawing: Drawing,
    scene: SceneFile = None,
    caption: Caption = None,
    region: Regions = None,
    cache: Cache = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON report of all images to stdout.")] = False,
) -> None:
    """Generate a scene at several values of one field. Writes a labelled contact sheet.

    Options that are left out take the value of the scene, else of the model.
    """
    from cloisonne.cli.scene_arguments import option_and_values, scene_from
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.output.report import REPORT_VERSION
    from cloisonne.pipelines.sweep import sheet_of, swept
    from cloisonne.pipelines.sweep import sweep as run
    from cloisonne.scene import check_output, write_picture

    began = time.perf_counter()
    asked = scene_from(scene, caption, region or [], drawing.given(model=loading.model))
    field, given = option_and_values(values)
    swept(asked, field, given)  # refuses before anything is loaded
    check_scene(asked)
    check_output(out, overwrite=overwrite)
    model = loading.load(asked.model)
    with running(), progress() as bar:
        results = run(asked, model, field, given, on_step=bar, cache=cache)
        write_picture(sheet_of(results, field, given), out, overwrite=overwrite)
    warn(warning for result in results for warning in result.warnings)
    if not as_json:
        typer.echo(str(out))
        took(began)
        return
    sheet = {"path": str(out), "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}
    pictures = [{"value": value, "report": result.report} for value, result in zip(given, results, strict=True)]
    report = {"version": REPORT_VERSION, "sheet": sheet, "dial": field, "pictures": pictures}
    typer.echo(json.dumps(report, ensure_ascii=False))
    took(began)


@grouped
def explain(
    loading: Loading,
    drawing: Drawing,
    scene: SceneFile = None,
    caption: Caption = None,
    region: Regions = None,
    attention: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Generate the scene once and write the attention map of each phrase here."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Print what a scene compiles to. Lists views, batch rows, tokens, forward passes per step, memory and time.

    Options that are left out take the value of the scene, else of the model.
    """
    from cloisonne.cli.scene_arguments import scene_from
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.attention_maps.files import check_folder

    asked = scene_from(scene, caption, region or [], drawing.given(model=loading.model))
    check_scene(asked)
    if attention is not None:
        check_folder(attention, asked, overwrite=overwrite)
    model = loading.load(asked.model)
    from cloisonne.pipelines.explain import explain as explained

    if attention is None:
        typer.echo(str(explained(asked, model)))
        return
    from cloisonne.pipelines.attention_maps.overlay import attention_pictures, unread_reasons

    began = time.perf_counter()
    text = explained(asked, model)
    with running(), progress() as bar:
        maps = attention_pictures(asked, model, on_step=bar)
        paths = maps.save(attention, overwrite=overwrite)
    warn(maps.result.warnings)
    if maps.unread:
        to_stderr(f"Regions without text have no attention map: {unread_reasons(maps.unread)}.")
    shares = (
        f'region "{name}": its phrase has {share:.2f} of the attention there' for name, share in maps.shares.items()
    )
    for line in (text, *shares, *paths):
        typer.echo(str(line))
    took(began)


def import_(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="What to read: a PNG, JPEG or text with AUTOMATIC1111's or InvokeAI's metadata; JSON of COCO, GLIGEN, "
            "InstanceDiffusion, MRGD or ComfyUI's elements; a PSD; or a folder of PNG layers.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Scene file to write. Default: print the scene.")
    ] = None,
    image_id: Annotated[str | None, typer.Option(help="Id of the image, for COCO annotations of several.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask image of Regional Prompter's mask mode, which metadata lack.")
    ] = None,
    no_regions: Annotated[
        bool, typer.Option("--no-regions", help="Read the prompt of an infotext without its extensions' regions.")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Read a scene from another tool's file. Warnings name what is not carried."""
    from cloisonne.scene import import_scene
    from cloisonne.scene.io.output import write_text

    scene, warnings = import_scene(file, image_id=image_id, mask=mask, regions=not no_regions)
    warn(warnings)
    if out is None:
        typer.echo(scene.to_json(), nl=False)
        return
    write_text(scene.to_json(base=out.parent), out, overwrite=overwrite)
    typer.echo(str(out))


def export(
    scene: Annotated[
        str,
        typer.Argument(
            metavar="SCENE", help="Scene to read: a JSON file, a PNG with an embedded scene, or - for stdin."
        ),
    ],
    kind: Annotated[
        str, typer.Option("--format", help="Format to write: coco, elements (ComfyUI) or masks (a PNG a region).")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, or folder of masks. Default: print the JSON."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels of COCO and masks. Default: the scene's size.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the regions of a scene for another tool. Warnings name what the format cannot hold."""
    from cloisonne.cli.scene_arguments import scene_from
    from cloisonne.scene import export_scene
    from cloisonne.scene.io.interchange.exporting import exported

    read = scene_from(scene, None, [], {})
    pixels, form = _pixels(size), cast(Any, kind)
    if out is not None:
        paths, warnings = export_scene(read, out, form, size=pixels, overwrite=overwrite)
        warn(warnings)
        typer.echo("\n".join(map(str, paths)))
        return
    if kind == "masks":
        raise OutputError("Masks are several files; name a folder for them with --output.")
    data, warnings = exported(read, form, size=pixels)
    warn(warnings)
    typer.echo(json.dumps(data, ensure_ascii=False, indent=1))


def _pixels(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise SceneError(f'--size is "{text}"; give width and height in pixels, as in "1024x768".')
    return int(found[1]), int(found[2])


def words(
    model: Annotated[str, typer.Option(help='"builtin", or a model folder with a vocabulary file.')] = "builtin",
    as_json: Annotated[bool, typer.Option("--json", help="Print the groups as JSON.")] = False,
) -> None:
    """List the vocabulary of a model. Groups: things, colours, sizes, places, styles, positions."""
    from cloisonne.errors import CheckpointError
    from cloisonne.models.builtin import BUILTIN
    from cloisonne.models.text.vocabulary import WORDS, Vocabulary

    folder = BUILTIN if model == "builtin" else Path(model).expanduser()
    found = Vocabulary.read(folder)
    if found is None:
        raise CheckpointError(f'"{model}" has no vocabulary file ({WORDS}); give a model folder that has one.')
    if as_json:
        typer.echo(json.dumps({group: list(map(list, own)) for group, own in found.groups.items()}, ensure_ascii=False))
        return
    for group, entries in found.groups.items():
        typer.echo(f"{group} ({len(entries)})\n  " + "\n  ".join(", ".join(entry) for entry in entries))
