"""The public functions: they accept scenes and models in any form, check keywords, and issue warnings.

Each wraps the module that does the work. Every warning of a result is also issued as a ``CloisonneWarning`` at the
caller's line.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from cloisonne.errors import CloisonneWarning, SceneError
from cloisonne.eval.evaluate import Evaluation, evaluated
from cloisonne.models.model import Model
from cloisonne.pipelines import explain as explaining
from cloisonne.pipelines import generate as generating
from cloisonne.pipelines import keywords as kw
from cloisonne.pipelines import sweep as sweeping
from cloisonne.pipelines.attention_maps.maps import AttentionMaps
from cloisonne.pipelines.attention_maps.token_spans import Reading, mean_map, read_words
from cloisonne.pipelines.editing import edit as editing
from cloisonne.pipelines.editing.result import Edited
from cloisonne.pipelines.explain import Explanation
from cloisonne.pipelines.inputs import ModelLike, SceneLike, as_model, as_scene
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.pipelines.progress_bar import both, progress_bar
from cloisonne.pipelines.result import Result
from cloisonne.pipelines.translation import translate as translating
from cloisonne.pipelines.translation.run import no_progress
from cloisonne.pipelines.translation.translate import Translated
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel
from cloisonne.scene.values import own_names


def generate(scene: SceneLike, model: ModelLike, **options: Unpack[kw.GenerateOptions]) -> Result:
    """Generate images of a scene, or repaint its background: the regions, or the whole image without regions.

    Args:
        scene: A ``Scene``, a dict, or the path of a JSON file or of a PNG that carries a scene.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene to override, such as steps, guidance, sampler and width, and

            - seed: seed of the first image; image i has seed + i. num_images: 1 if left out.
            - sampler: a name, or a ``core.samplers.Sampler`` object. refines: ``core.plan.Refine`` objects, applied to
              every estimate before the background is restored. readers: attention edits that only read, such as
              ``TokenMaps``.
            - attention: True adds a map of each phrase to the result's ``attention``.
            - output_type: "latent" decodes no images. latents: unit noise [num_images, C, H, W] that replaces the
              seeds' noise.
            - callback_on_step_end: receives a ``StepEnd`` after each step; may raise ``Cancelled``.
            - progress: False or None for no progress bar (it appears only on a terminal), or a function that receives
              the stage, the step reached, the number of steps, and the loss.
            - cache: a folder for checkpoints of learning a concept, which are resumed or reused.

    Returns:
        The images, the resolved scene and a report. Requests that are not honoured give a ``CloisonneWarning``.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The scene cannot be generated.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(generate, options, kw.GenerateOptions)
    fields, run = kw.divided(options)
    result = _drawn(as_scene(scene, fields), as_model(model), run)
    _warn(result.warnings)
    return result


def generate_many(scenes: Iterable[SceneLike], model: ModelLike, **options: Unpack[kw.GenerateOptions]) -> list[Result]:
    """Generate several scenes, each as :func:`generate` alone does; options: as for ``generate``."""
    kw.check_keywords(generate_many, options, kw.GenerateOptions)
    fields, run = kw.divided(options)
    asked, loaded = [as_scene(scene, fields) for scene in scenes], as_model(model)
    results = [_drawn(scene, loaded, run) for scene in asked]
    _warn(sentence for result in results for sentence in result.warnings)
    return results


def fill(
    source: Any,
    mask: Any,
    phrase: str,
    model: ModelLike,
    *,
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **options: Unpack[kw.RepaintOptions],
) -> Result:
    """Inpaint an image by a phrase where a mask is white: :func:`generate` for a scene of one region.

    Args:
        source, mask: A path, a PIL image, an array or a tensor.
        phrase: What to generate under the mask.
        model: What :func:`load` returns, or what it takes.
        feather: Width of the soft edge inside the mask, as a fraction of the shorter side of its bounding box.
        mask_channel: Channel to read: ``auto``, ``luminance``, ``alpha`` or ``transparency``.
        options: As for ``generate``. At strength 1 nothing under the mask is retained.
    """
    kw.check_keywords(fill, options, kw.RepaintOptions)
    result = _repainted(
        source, generating.filled(mask, phrase, feather=feather, mask_channel=mask_channel), model, options
    )
    _warn(result.warnings)
    return result


def paint(
    source: Any,
    mask: Any,
    exemplar: Any,
    model: ModelLike,
    *,
    similarity: float | None = None,
    phrase: str = "",
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **options: Unpack[kw.RepaintOptions],
) -> Result:
    """Inpaint an image by an exemplar image where a mask is white: :func:`generate` for a scene of one region.

    Paint by Example, arXiv 2211.13227.

    Args:
        source, mask, exemplar: A path, a PIL image, an array or a tensor.
        model: What :func:`load` returns, or what it takes.
        similarity: Similarity to the exemplar, from 1 (same category) to 5 and above; None means 5, or with an
            IP-Adapter the guidance scale.
        phrase: Text for the same region, where the model takes text.
        feather, mask_channel, options: As for :func:`fill`; ``composite=False`` returns the raw decode.
    """
    kw.check_keywords(paint, options, kw.RepaintOptions)
    given: dict[str, Any] = {"similarity": similarity, "phrase": phrase, "mask_channel": mask_channel}
    region = generating.painted(mask, exemplar, feather=feather, **given)
    result = _repainted(source, region, model, options)
    _warn(result.warnings)
    return result


def edit(scene: SceneLike, model: ModelLike, **options: Unpack[kw.EditOptions]) -> Edited:
    """Generate a scene with edits as two images, before and after; a background is the image before.

    Args:
        scene: A scene with edits, in any form.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene to override, and

            - preset: an editing preset, one of ``scene.conditions.edit_presets.PRESETS``. If left out: the scene's own,
              else "mrgd", or "follow" where the model has no segmenter.
            - fields of the preset to change (``scene.conditions.edit_presets.Editing``), such as self_attention_share:
              the fraction of the steps, in [0, 1], in which self-attention is that of the image before.
            - callback_on_step_end: receives an ``EditStep`` after each step, of inversion too; may raise ``Cancelled``.
            - progress: False or None for no progress bar.

    Raises:
        SceneError, ImageError, CapabilityError: The scene cannot be edited.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(edit, options, kw.EditOptions)
    fields, changes = kw.divided(options)
    callback, progress = changes.pop("callback_on_step_end", None), changes.pop("progress", True)
    if "solver" in changes:
        raise SceneError("sampler is an object, but an edit takes only names; give the name of a sampler.")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with progress_bar(progress) as bar:
        if watch := both(bar and bar.edit_step, callback):
            changes["callback_on_step_end"] = watch
        result = editing.edit(asked, loaded, **changes)
    _warn(result.warnings)
    return result


def translate(source: Any, reference: Any, model: ModelLike, **options: Unpack[kw.TranslateOptions]) -> Translated:
    """Transfer the subject or style of a reference image to a source: a scene of one region with a concept.

    Args:
        source, reference: A path, a PIL image, an array or a tensor.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene, and

            - mask: the source's pixels stay unchanged where it is black.
            - keep_structure: fraction of the steps in [0, 1] in which the result's attention is the source's.
              concept_strength: in [0, 1]; 0 gives the source.
            - preset: "fast" and "learned" (ours), "vct" (the paper), "vct-code" (its released code); and fields of the
              preset to change (``scene.conditions.translation_presets.Translating``), such as rounds.
            - concept: a learned concept, which skips learning. word: the word whose embedding learning starts at.
            - seed: 0 if left out. progress, cache: as for :func:`generate`.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The translation is not possible.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(translate, options, kw.TranslateOptions)
    given = {name: value for name, value in own_names(options, Scene.model_fields).items() if value is not None}
    progress = options.get("progress", True)
    given.pop("progress", None)
    with progress_bar(progress) as bar:
        report = progress if callable(progress) else bar.stage if bar else no_progress
        result = translating.translate(source, reference, as_model(model), progress=report, **given)
    _warn(result.warnings)
    return result


def sweep(
    scene: SceneLike, model: ModelLike, field: str, values: Sequence[Any], **options: Unpack[kw.SweepOptions]
) -> list[Result]:
    """Generate a scene once for each value of one option; a scene without a seed gets one random seed for all.

    Args:
        scene: A scene, in any form.
        model: What :func:`load` returns, or what it takes.
        field: A field of the scene, such as "guidance" or "seed"; of one region, as in "pet.similarity"; or
            a field that only regions have, such as "feather", which then changes in all regions that can have it.
        values: The values of the option.
        options: Fields of the scene to override, and callback_on_step_end, progress and cache as for :func:`generate`;
            a ``StepEnd`` has the value's index as its image.

    Raises:
        SceneError, CapabilityError: One of the scenes cannot be generated. Raised before the first image.
    """
    kw.check_keywords(sweep, options, kw.SweepOptions)
    fields, run = kw.divided(options)
    if "solver" in run:
        raise SceneError("sampler is an object, but a sweep takes only names; give the name of a sampler.")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with _watched(run):
        results = sweeping.sweep(asked, loaded, field, values, **run)
    _warn(sentence for result in results for sentence in result.warnings)
    return results


def explain(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Explanation:
    """Plan and cost of :func:`generate` for one image; no network is run.

    options: fields of the scene to override; sampler also as an object. Raises what ``generate`` raises.
    """
    kw.check_keywords(explain, options, kw.PlanOptions)
    fields, run = kw.divided(options)
    return explaining.explain(as_scene(scene, fields), as_model(model), **run)


def compile(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Prepared:
    """Compile a scene to the ``plan``, ``steps`` and ``sampler`` that :func:`generate` uses.

    The text encoder runs, the UNet does not. options: fields of the scene to override; sampler also as an object.
    Raises what ``generate`` raises, and SceneError for a scene with a concept, whose plan depends on inversion.
    """
    kw.check_keywords(compile, options, kw.PlanOptions)
    fields, run = kw.divided(options)
    asked = as_scene(scene, fields)
    if asked.translated is not None:
        raise SceneError(
            "The plan of a region with a concept depends on the background's inversion; leave the region out.",
            region=asked.translated.name,
        )
    prepared = prepare(asked, as_model(model), **run)
    _warn(prepared.warnings)
    return prepared


def evaluate(image: Any, scene: SceneLike) -> Evaluation:
    """Check whether an image shows the objects of a scene's phrases, with the built-in family's judge.

    image: a path, a PIL image, an array or a tensor. The judge knows the built-in family's objects and seven colours;
    unknown ones give None. Raises SceneError or ImageError.
    """
    return evaluated(image, as_scene(scene))


def _drawn(scene: Scene, model: Model, run: Mapping[str, Any]) -> Result:
    """Generate a scene with the options that are not its fields."""
    run = dict(run)
    reading = read_words(scene, model) if run.pop("attention", False) else None
    if reading is not None:
        found = [reader for readers in reading.readers.values() for reader in readers]
        run["readers"] = [*run.get("readers", ()), *found]
    with _watched(run) as given:
        result = generating.generate(scene, model, **given)
    if reading is not None:
        result.attention = _attention(reading, result)
    return result


def _repainted(source: Any, region: Region, model: ModelLike, options: Mapping[str, Any]) -> Result:
    fields, run = kw.divided(options)
    given = {name: value for name, value in fields.items() if value is not None}
    return _drawn(Scene(background=source, regions=(region,), **given), as_model(model), run)


@contextmanager
def _watched(run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The options with callbacks that move the progress bar, if there is one."""
    given = dict(run)
    progress, cache = given.pop("progress", True), given.pop("cache", None)
    if cache is not None:
        given["cache"] = Path(cache)
    with progress_bar(progress) as bar:
        given["callback_on_step_end"] = both(bar and bar.step, given.get("callback_on_step_end"))
        if callable(progress) or bar is not None:
            given["progress"] = progress if callable(progress) else bar and bar.stage
        yield given


def _attention(reading: Reading, result: Result) -> AttentionMaps:
    found = {name: mean_map(readers, result.run) for name, readers in reading.readers.items()}
    maps = {name: own for name, own in found.items() if own is not None}
    empty = {name: "has no words in any step" for name in reading.readers if name not in maps}
    return AttentionMaps(
        maps=maps,
        phrases={region.phrase: region.name or "" for region in reversed(result.scene.regions)},
        unread=dict(reading.unread) | empty,
        window=reading.window,
    )


def _warn(sentences: Iterable[str]) -> None:
    """Issue each sentence once, at the line that called the public function."""
    for sentence in dict.fromkeys(sentences):
        warnings.warn(sentence, CloisonneWarning, stacklevel=3)
