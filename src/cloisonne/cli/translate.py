"""``cloisonne translate``. Heavy imports happen inside."""

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from cloisonne.cli.options import Cache, Loading, MaskChannel, Overwrite, also, grouped, masked
from cloisonne.cli.terminal import progress, running, took, warn


@grouped
def translate(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The picture whose structure stays.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="The result's name.")],
    reference: Annotated[Path, typer.Option(help="The picture whose subject or style is taken.")],
    loading: Loading,
    mask: Annotated[Path | None, typer.Option(help="White changes; elsewhere every byte stays.")] = None,
    mask_channel: MaskChannel = "auto",
    preset: Annotated[
        str,
        typer.Option(
            help="fast; learned (the same of a learned concept); vct (the paper); vct-code (its released code)."
        ),
    ] = "fast",
    keep_structure: Annotated[
        float | None, typer.Option(help="0 to 1: how long the result looks as the source does.")
    ] = None,
    concept_strength: Annotated[float, typer.Option(help="0 to 1; 0 is the source.")] = 1.0,
    concept: Annotated[Path | None, typer.Option(help="A learned concept's file, in place of learning.")] = None,
    save_concept: Annotated[Path | None, typer.Option(help="Where to keep what was learned.")] = None,
    cache: Cache = None,
    word: Annotated[str, typer.Option(help="A word that learning begins at.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps; also --num-inference-steps.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(*also("num_inference_steps"), hidden=True)] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Steps of learning a concept.")] = None,
    seed: Annotated[int, typer.Option(help="Decides what learning sees.")] = 0,
    overwrite: Overwrite = False,
    no_embed: Annotated[
        bool, typer.Option("--no-embed", help="Name both pictures by path and hash, do not embed them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report and nothing else.")] = False,
) -> None:
    """Carry the subject or style of one picture over to another that keeps its structure."""
    from cloisonne.models.checkpoints.sources import check_path
    from cloisonne.pipelines.translation.settings import NAME, translating_of
    from cloisonne.scene import Source, check_output
    from cloisonne.scene.io.image_ref import given_background, given_concept_image, given_mask
    from cloisonne.scene.io.images import load_mask, seen
    from cloisonne.scene.values import own_names

    began = time.perf_counter()
    changes = {} if rounds is None else {"rounds": rounds}
    asked = {"steps": steps, "num_inference_steps": num_inference_steps}
    given = own_names({name: value for name, value in asked.items() if value is not None}, ("steps",))
    translating_of(preset, keep_structure, changes)  # refuses before anything is loaded
    check_output(out, overwrite=overwrite, like=Source.load(given_background(source)).upright)
    seen(given_concept_image(reference), "concept", NAME)
    if mask is not None:
        load_mask(given_mask(mask), NAME)
    if concept is not None:
        check_path(concept, "concept")
    model = loading.load(loading.model or "builtin")
    from cloisonne.models.text.learned_concept import Concept
    from cloisonne.pipelines.translation.translate import translate as translated

    known = None if concept is None else Concept.load(concept)
    with running(), progress() as bar:
        result = translated(
            source,
            reference,
            model,
            **({} if mask is None else masked(mask, mask_channel)),
            preset=preset,
            keep_structure=keep_structure,
            concept_strength=concept_strength,
            concept=known,
            word=word,
            steps=given.get("steps"),
            seed=seed,
            progress=bar.stage,
            cache=cache,
            **changes,
        )
        result.save(out, overwrite=overwrite, embed=not no_embed)
        if save_concept is not None and result.concept is not None:
            result.concept.save(save_concept)
    warn(result.warnings)
    typer.echo(json.dumps(result.report) if as_json else str(out))
    took(began)
