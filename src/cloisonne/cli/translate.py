"""``cloisonne translate``. Heavy imports happen inside."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from cloisonne.cli.grouped import grouped
from cloisonne.cli.options import Cache, Drawing, Loading, MaskChannel, Overwrite
from cloisonne.cli.terminal import progress, running, took, warn


@dataclass(frozen=True, kw_only=True)
class Translating:
    """Options of the method."""

    preset: Annotated[
        str,
        typer.Option(
            help="Method: fast (an image encoder gives the concept), flow (the same without inversion), interrogate "
            "(find the words of its style), learned (fit to the reference), vct (the paper) or vct-code (its code)."
        ),
    ] = "fast"
    keep_structure: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the steps, 0 to 1, that reuse the source's self-attention. Default: the preset's."
        ),
    ] = None
    flow_start: Annotated[
        float | None,
        typer.Option(help="Preset flow: fraction of the steps, 0 to 1, in which the image changes. Default: 1."),
    ] = None
    n_avg: Annotated[
        int | None, typer.Option(min=1, help="Preset flow: number of noises to average per step. Default: 1.")
    ] = None
    learned: Annotated[
        bool | None,
        typer.Option("--learned", help="Preset flow: learn the concept as words, which needs no image encoder."),
    ] = None
    concept_strength: Annotated[float, typer.Option(help="Strength of the concept, 0 to 1; 0 returns the source.")] = (
        1.0
    )
    concept: Annotated[Path | None, typer.Option(help="Learned concept file to use instead of learning one.")] = None
    save_concept: Annotated[Path | None, typer.Option(help="File to write the learned concept to.")] = None
    cache: Cache = None
    word: Annotated[
        str,
        typer.Option(
            help="Word whose embedding initialises the learned concept; with the preset interrogate its words, or "
            'alternatives with "|" between them. Default there: the styles that the model knows.'
        ),
    ] = ""
    rounds: Annotated[
        int | None, typer.Option(min=1, help="Training steps of a learned concept. Default: the preset's.")
    ] = None

    def given(self) -> dict[str, Any]:
        """Keywords of ``translate``. Refuses a preset or a number that there is not, before anything is loaded."""
        from cloisonne.pipelines.translation.settings import translating_of

        names = ("rounds", "flow_start", "n_avg", "learned")
        changes = {name: value for name in names if (value := getattr(self, name)) is not None}
        translating_of(self.preset, self.keep_structure, changes)
        own = ("preset", "keep_structure", "concept_strength", "cache", "word")
        return {**{name: getattr(self, name) for name in own}, **changes}


@grouped
def translate(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="Image whose structure is preserved.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Image file to write.")],
    reference: Annotated[Path, typer.Option(help="Image that gives the subject or style.")],
    loading: Loading,
    drawing: Drawing,
    translating: Translating,
    mask: Annotated[
        Path | None, typer.Option(help="Mask image: white is translated, black is preserved byte for byte.")
    ] = None,
    mask_channel: MaskChannel = "auto",
    overwrite: Overwrite = False,
    no_embed: Annotated[
        bool,
        typer.Option("--no-embed", help="Record both input images by path and hash; do not embed them in the PNG."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print only a JSON report to stdout.")] = False,
) -> None:
    """Transfer the subject or style of a reference image. The structure of SOURCE is preserved."""
    from cloisonne.cli.scene_arguments import masked
    from cloisonne.scene import Scene
    from cloisonne.scene.values import own_names

    began, given = time.perf_counter(), translating.given() | own_names(drawing.given(), Scene.model_fields)
    _check_files(source, reference, mask, translating.concept, out, overwrite=overwrite)
    given |= {} if mask is None else masked(mask, mask_channel)
    model = loading.load(loading.model or "builtin")
    from cloisonne.models.text.learned_concept import Concept
    from cloisonne.pipelines.translation.translate import translate as translated

    given["concept"] = None if translating.concept is None else Concept.load(translating.concept)
    with running(), progress() as bar:
        result = translated(source, reference, model, on_step=bar, **given)
        result.save(out, overwrite=overwrite, embed=not no_embed)
        if translating.save_concept is not None and result.concept is not None:
            result.concept.save(translating.save_concept)
    warn(result.warnings)
    typer.echo(json.dumps(result.report) if as_json else str(out))
    took(began)


def _check_files(
    source: Path, reference: Path, mask: Path | None, concept: Path | None, out: Path, *, overwrite: bool
) -> None:
    """Refuse files that cannot be read or written, before anything is loaded."""
    from cloisonne.models.checkpoints.sources import check_path
    from cloisonne.pipelines.translation.settings import NAME
    from cloisonne.scene import Source, check_output
    from cloisonne.scene.conditions.concept import given_concept_image
    from cloisonne.scene.io.image_ref import given_background, given_mask
    from cloisonne.scene.io.images import load_mask, open_rgb

    check_output(out, overwrite=overwrite, like=Source.load(given_background(source)).upright)
    open_rgb(given_concept_image(reference), "concept", NAME)
    if mask is not None:
        load_mask(given_mask(mask), NAME)
    if concept is not None:
        check_path(concept, "concept")
