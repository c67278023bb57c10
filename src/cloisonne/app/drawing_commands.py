"""``cloisonne generate``, ``fill`` and ``paint``: commands that draw pictures. Heavy imports happen inside."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.app.options import Cache, Caption, Changing, Drawing, Loading, Regions, SceneFile, Writing, grouped
from cloisonne.app.terminal import progress, running, to_stderr

Out = Annotated[Path, typer.Option("--output", "-o", help="A picture's name, or a folder for 0000.png and so on.")]
Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="The picture to repaint.")]
Mask = Annotated[Path, typer.Option(help="Picture of the same canvas: white changes, black stays.")]
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
    cache: Cache = None,
) -> None:
    """Draw a scene, or repaint the regions of its background; with --change, draw a picture again with a change."""
    from cloisonne.app.changed import Original

    original = Original.of(scene, caption, region or [])
    asked = original.asked(drawing.given(model=loading.model), changing)
    original.check_output(out, changing, embed=not writing.no_embed)
    _draw(asked, out, loading, writing, original.note, cache)


@grouped
def fill(
    source: Source,
    out: Out,
    mask: Mask,
    phrase: Annotated[str, typer.Option(help="What belongs where the mask is white.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    caption: Annotated[str, typer.Option(help="What the whole picture shows.")] = "",
    negative: Annotated[str, typer.Option(help="What shall not be shown.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    no_composite: NoComposite = False,
) -> None:
    """Repaint a picture by words where a mask is white; every other pixel stays as it is."""
    from cloisonne.scene import Region, Scene

    region = Region(name="fill", mask=str(mask), phrase=phrase, feather=feather)
    told = {"caption": caption, "negative": negative, "strength": strength, "composite": not no_composite}
    asked = Scene(background=str(source), regions=[region], **told, **drawing.given(model=loading.model))
    _draw(asked, out, loading, writing)


@grouped
def paint(
    source: Source,
    out: Out,
    mask: Mask,
    exemplar: Annotated[Path, typer.Option(help="Picture of what belongs where the mask is white.")],
    loading: Loading,
    drawing: Drawing,
    writing: Writing,
    similarity: Annotated[float | None, typer.Option(help="How much like the exemplar: 1 its kind, 5 itself.")] = None,
    phrase: Annotated[str, typer.Option(help="Words for the same place, where the model hears words.")] = "",
    strength: Strength = 1.0,
    feather: Feather = 0.0,
    no_composite: NoComposite = False,
) -> None:
    """Paint the subject of another picture where a mask is white; every other pixel stays as it is."""
    from cloisonne.scene import Region, Scene

    shown = {"exemplar": str(exemplar), "similarity": similarity, "phrase": phrase}
    region = Region(name="paint", mask=str(mask), feather=feather, **shown)
    told = {"strength": strength, "composite": not no_composite}
    asked = Scene(background=str(source), regions=[region], **told, **drawing.given(model=loading.model))
    _draw(asked, out, loading, writing)


def _draw(
    asked: Any, out: Path, loading: Loading, writing: Writing, note: Any = None, cache: Path | None = None
) -> None:
    from cloisonne.app.overlays import check_overlays, write_overlays
    from cloisonne.app.previews import Previews
    from cloisonne.app.result import check_outputs
    from cloisonne.app.scene_checks import check_scene
    from cloisonne.scene import Source

    check_scene(asked)
    count, overwrite = writing.num_images, writing.overwrite
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
    from cloisonne.app.generate import generate as run

    with running(), progress(count) as bar:
        watched = bar.step if previews is None else previews.after(bar.step)
        result = run(asked, model, num_images=count, callback_on_step_end=watched, progress=bar.stage, cache=cache)
        paths = result.save(out, overwrite=overwrite, embed=not writing.no_embed)
        if writing.overlay:
            write_overlays(result, paths, overwrite=overwrite)
    if note is not None:
        note(result, paths)
    for warning in result.report["warnings"]:
        to_stderr(f"Warning: {warning}")
    if result.report["dropped"]:
        to_stderr(f"Left out, because they do not fit the model's text: {', '.join(result.report['dropped'])}")
    if writing.as_json:
        typer.echo(json.dumps(result.report, ensure_ascii=False))
    else:
        for path in paths:
            typer.echo(str(path))
