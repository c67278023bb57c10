"""Commands between other tools' formats and scenes: ``import`` and ``export``. Heavy imports happen inside."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from cloisonne.cli.options import Overwrite
from cloisonne.cli.terminal import warn
from cloisonne.errors import OutputError, SceneError

_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


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
    from typing import Any, cast

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
