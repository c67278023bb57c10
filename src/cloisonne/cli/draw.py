"""``cloisonne generate``, ``fill`` and ``paint``: commands that draw pictures. Heavy imports happen inside."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

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
    grouped,
)
from cloisonne.cli.terminal import progress, running, took, warn

Out = Annotated[Path, typer.Option("--output", "-o", help="A picture's name, or a folder for 0000.png and so on.")]
Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The picture to repaint.")]
Mask = Annotated[Path | None, typer.Option(help="Picture of the same canvas: white changes, black stays.")]
Box = Annotated[
    str | None,
    typer.Option(metavar="X0,Y0,X1,Y1", help="In place of a mask: what changes, in fractions of the picture."),
]
Strength = Annotated[float, typer.Option(help="0 keeps what is there, 1 draws anew.")]
Feather = Annotated[float, typer.Option(help="Soft edge inwards, as a fraction of the mask's shorter side.")]
NoComposite = Annotated[
    bool, typer.Option("--no-composite", help="Show the model's whole window, not only what was to change.")
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
        Path | None, typer.Option(help="A picture of which the regions are repainted; all of it without regions.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Of a background: 0 keeps what is there, 1 draws anew.")
    ] = None,
    cache: Cache = None,
) -> None:
    """Draw a scene, or repaint the regions of its background; with --change, draw a picture again with a change."""
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
    phrase: Annotated[str, typer.Option(help="What belongs where the mask is white, or in the box.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    mask: Mask = None,
    box: Box = None,
    caption: Annotated[str, typer.Option(help="What the whole picture shows.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    mask_channel: MaskChannel = "auto",
    no_composite: NoComposite = False,
) -> None:
    """Repaint a picture by words where a mask is white or in a box; every other pixel stays as it is."""
    from cloisonne.cli.scene_arguments import where
    from cloisonne.scene import Region, Scene

    region = Region(name="fill", phrase=phrase, feather=feather, **where(mask, box, mask_channel))
    told = {"caption": caption, "strength": strength, "composite": not no_composite}
    asked = Scene(background=str(source), regions=[region], **told, **drawing.given(several=True, model=loading.model))
    _draw(asked, out, loading, _counted(drawing, writing))


@grouped
def paint(
    source: Source,
    out: Out,
    exemplar: Annotated[Path, typer.Option(help="Picture of what belongs where the mask is white, or in the box.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    mask: Mask = None,
    box: Box = None,
    similarity: Annotated[float | None, typer.Option(help="How much like the exemplar: 1 its kind, 5 itself.")] = None,
    phrase: Annotated[str, typer.Option(help="Words for the same place, where the model hears words.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    mask_channel: MaskChannel = "auto",
    no_composite: NoComposite = False,
) -> None:
    """Paint the subject of another picture where a mask is white or in a box; every other pixel stays as it is."""
    from cloisonne.cli.scene_arguments import where
    from cloisonne.scene import Region, Scene

    shown = {"exemplar": str(exemplar), "similarity": similarity, "phrase": phrase}
    region = Region(name="paint", feather=feather, **shown, **where(mask, box, mask_channel))
    told = {"strength": strength, "composite": not no_composite}
    asked = Scene(background=str(source), regions=[region], **told, **drawing.given(several=True, model=loading.model))
    _draw(asked, out, loading, _counted(drawing, writing))


def _counted(drawing: Drawing, writing: Writing) -> Writing:
    """As many pictures as seeds were given."""
    return replace(writing, num_images=drawing.count(writing.num_images))


def _draw(
    asked: Any, out: Path, loading: Loading, writing: Writing, note: Any = None, cache: Path | None = None
) -> None:
    from cloisonne.cli.overlays import check_overlays, write_overlays
    from cloisonne.cli.scene_checks import check_scene
    from cloisonne.pipelines.previews import Previews
    from cloisonne.pipelines.result import check_outputs
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

    with running(), progress(count) as bar:
        watched = bar.step if previews is None else previews.after(bar.step)
        result = run(asked, model, num_images=count, callback_on_step_end=watched, progress=bar.stage, cache=cache)
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
    took(began)
