"""Commands that inspect a scene: ``sweep``, ``explain`` and ``words``. Heavy imports happen inside."""

import hashlib
import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cloisonne.cli.grouped import grouped
from cloisonne.cli.options import Cache, Caption, Drawing, Loading, Overwrite, Regions, SceneFile
from cloisonne.cli.terminal import progress, running, to_stderr, took, warn


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
