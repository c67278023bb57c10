"""``cloisonne generate``, ``fill`` and ``paint``: the commands that generate images. Heavy imports happen inside."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.cli.grouped import grouped
from cloisonne.cli.options import (
    Cache,
    Caption,
    Changing,
    Drawing,
    Loading,
    MaskChannel,
    Regions,
    SceneFile,
    Writing,
)
from cloisonne.cli.terminal import progress, running, show, took, warn

Out = Annotated[Path, typer.Option("--output", "-o", help="Image file to write, or folder for 0000.png, 0001.png, ...")]
Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="Image to repaint.")]
Mask = Annotated[Path | None, typer.Option(help="Mask image: white is repainted, black is preserved.")]
Box = Annotated[
    str | None,
    typer.Option(metavar="X0,Y0,X1,Y1", help="Box to repaint instead of a mask, as fractions of the image."),
]
Strength = Annotated[float, typer.Option(help="Denoising strength, 0 to 1: 0 preserves the source, 1 ignores it.")]
Feather = Annotated[float, typer.Option(help="Inward soft edge, as a fraction of the mask's shorter side.")]
NoComposite = Annotated[
    bool,
    typer.Option("--no-composite", help="Return the model's whole output window, without pasting the source back."),
]


@grouped
def generate(
    out: Out,
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    changing: Changing,
    scene: SceneFile = None,
    caption: Caption = None,
    region: Regions = None,
    background: Annotated[
        Path | None,
        typer.Option(help="Image whose regions are repainted; without regions, the start of image-to-image."),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            help="Denoising strength, 0 to 1: 0 preserves the background, 1 ignores it. Default: the scene's, else 1."
        ),
    ] = None,
    cache: Cache = None,
) -> None:
    """Generate an image from a scene.

    With --background, repaint the regions in that image. With --change, change the scene and generate it again.
    Options that are left out take the value of the scene, else of the model.
    """
    from cloisonne.cli.redraw import Original

    original = Original.of(scene, caption, region or [])
    given = {"model": loading.model, "strength": strength}
    if background is not None:
        given["background"] = str(background)
    asked = original.asked(drawing.given(several=True, **given), changing)
    original.check_output(out, changing, embed=not writing.no_embed)
    _draw(asked, out, loading, _counted(drawing, writing), original.note, cache)


@grouped
def fill(
    source: Source,
    out: Out,
    phrase: Annotated[str, typer.Option(help="Prompt for the masked area or box.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    mask: Mask = None,
    box: Box = None,
    caption: Annotated[str, typer.Option(help="Prompt for the whole image.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    mask_channel: MaskChannel = "auto",
    no_composite: NoComposite = False,
) -> None:
    """Inpaint an area of an image from a prompt. Every pixel outside the mask or box is preserved."""
    fields = {"phrase": phrase, "caption": caption, "strength": strength, "feather": feather}
    area = _Area(mask, box, mask_channel, composite=not no_composite)
    _inpaint(source, out, area, fields, loading, drawing, writing)


@grouped
def paint(
    source: Source,
    out: Out,
    exemplar: Annotated[Path, typer.Option(help="Image of the subject for the masked area or box.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    mask: Mask = None,
    box: Box = None,
    similarity: Annotated[
        float | None, typer.Option(help="Guidance scale of the exemplar: 1 matches its kind, 5 its appearance.")
    ] = None,
    phrase: Annotated[str, typer.Option(help="Prompt for the same area, if the model takes text.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    mask_channel: MaskChannel = "auto",
    no_composite: NoComposite = False,
) -> None:
    """Inpaint an area of an image from an exemplar image. Every pixel outside the mask or box is preserved."""
    conditions = {"exemplar": str(exemplar), "similarity": similarity, "phrase": phrase}
    fields = {**conditions, "strength": strength, "feather": feather}
    area = _Area(mask, box, mask_channel, composite=not no_composite)
    _inpaint(source, out, area, fields, loading, drawing, writing)


@dataclass(frozen=True)
class _Area:
    """Where ``fill`` and ``paint`` repaint, and whether the source is pasted back elsewhere."""

    mask: Path | None
    box: str | None
    mask_channel: str
    composite: bool


def _inpaint(
    source: Path,
    out: Path,
    area: _Area,
    fields: dict[str, Any],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
) -> None:
    """Repaint an area of an image. fields: of the region and the scene, as ``cloisonne.inpaint`` takes them."""
    from cloisonne.cli.scene_arguments import where
    from cloisonne.scene.inpainting import inpaint_scene

    place = where(area.mask, area.box, area.mask_channel)
    mask = place.pop("box") if area.mask is None else place.pop("mask")
    overrides = drawing.given(several=True, model=loading.model)
    asked = inpaint_scene(str(source), mask, composite=area.composite, **fields, **place, **overrides)
    _draw(asked, out, loading, _counted(drawing, writing))


def _counted(drawing: Drawing, writing: Writing) -> Writing:
    """``writing`` with one image per seed."""
    return replace(writing, num_images=drawing.count(writing.num_images))


def _draw(
    asked: Any, out: Path, loading: Loading, writing: Writing, note: Any = None, cache: Path | None = None
) -> None:
    from cloisonne.cli.overlays import check_overlays, write_overlays
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.output.files import check_outputs
    from cloisonne.pipelines.output.previews import Previews
    from cloisonne.scene import Source

    check_scene(asked)
    began, count, overwrite = time.perf_counter(), writing.num_images, writing.overwrite
    like = [] if asked.background is None else [Source.load(asked.background).upright] * count
    check_outputs(out, count, overwrite=overwrite, like=like)
    if writing.overlay:
        check_overlays(out, count, overwrite=overwrite)
    previews = (
        Previews(out=out, every=writing.preview, num_images=count, overwrite=overwrite) if writing.preview else None
    )
    if previews is not None:
        previews.check()
    model = loading.load(asked.model)
    from cloisonne.pipelines.generate import generate as run

    with running(), progress() as bar:
        on_step = bar if previews is None else previews.after(bar)
        result = run(asked, model, num_images=count, on_step=on_step, cache=cache)
        paths = result.save(out, overwrite=overwrite, embed=not writing.no_embed)
        if writing.overlay:
            write_overlays(result, paths, overwrite=overwrite)
    if note is not None:
        note(result, paths)
    warn(result.warnings)
    if writing.as_json:
        typer.echo(json.dumps(result.report, ensure_ascii=False))
    else:
        for path in paths:
            typer.echo(str(path))
    if writing.show:
        show(paths)
    took(began)
