"""The public functions: they take scenes and models in any form, check their keywords, and give warnings.

Each is a shell around the module that does the work. A warning of a result is also a ``CloisonneWarning`` at the line
that called.
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
from cloisonne.pipelines import generate as drawing
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
from cloisonne.pipelines.translation.run import told_nothing
from cloisonne.pipelines.translation.translate import Translated
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel
from cloisonne.scene.values import own_names


def generate(scene: SceneLike, model: ModelLike, **options: Unpack[kw.GenerateOptions]) -> Result:
    """Draw a scene; or, where it has a background, repaint its regions in that picture (all of it without regions).

    scene: a ``Scene``, a dict, or the path of a JSON file or of a PNG that carries one. model: what :func:`load` gives,
    or what it takes. options: fields of the scene in place of its own, such as steps, guidance, sampler, width, and

    - seed: of the first picture; picture i has seed + i. num_images: how many, 1 if left out.
    - sampler: a name, or an object as ``core.samplers.Sampler`` has it. refines: ``core.plan.Refine``, asked of every
      estimate before a background is put back. readers: attention edits that only read, such as ``TokenMaps``.
    - attention: with True the result's ``attention`` has a map of each phrase.
    - output_type: "latent" leaves the pictures out. latents: unit noise [num_images, C, H, W] in place of the seeds'.
    - callback_on_step_end: is given a ``StepEnd`` after each step; may raise ``Cancelled``. progress: False or None for
      no bar (there is one only on a terminal), or a function that is given what is done, at, count and the loss.
    - cache: a folder where learning a concept is kept and gone on with.

    Raises SceneError, ImageError, CapabilityError or CheckpointError where the scene cannot be drawn, TypeError for a
    keyword that there is not. What is not honoured is a ``CloisonneWarning``.
    """
    kw.check_keywords(generate, options, kw.GenerateOptions)
    fields, run = kw.divided(options)
    result = _drawn(as_scene(scene, fields), as_model(model), run)
    _warn(result.warnings)
    return result


def generate_many(scenes: Iterable[SceneLike], model: ModelLike, **options: Unpack[kw.GenerateOptions]) -> list[Result]:
    """Several scenes, each drawn as :func:`generate` draws it alone; options are those of ``generate``."""
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
    """Repaint a picture by words where a mask is white: :func:`generate` for a scene of one region.

    source, mask: a path, a PIL image, an array or a tensor. feather: soft edge inwards, a fraction of the shorter side
    of the mask's bounding box. mask_channel: what of the mask is read, ``auto``, ``luminance``, ``alpha`` or
    ``transparency``. options: those of ``generate``; at strength 1 nothing of what is under the mask is kept.
    """
    kw.check_keywords(fill, options, kw.RepaintOptions)
    result = _repainted(
        source, drawing.filled(mask, phrase, feather=feather, mask_channel=mask_channel), model, options
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
    """Paint the subject of another picture where a mask is white: :func:`generate` for a scene of one region.

    Paint by Example, arXiv 2211.13227. source, mask, exemplar: a path, a PIL image, an array or a tensor. similarity:
    how much like the exemplar, from 1 (its kind) to 5 and above; None means 5, or with an IP-Adapter the guidance.
    phrase: words for the same region, where the model takes words. feather, options: as of :func:`fill`;
    ``composite=False`` gives the raw decode.
    """
    kw.check_keywords(paint, options, kw.RepaintOptions)
    given: dict[str, Any] = {"similarity": similarity, "phrase": phrase, "mask_channel": mask_channel}
    region = drawing.painted(mask, exemplar, feather=feather, **given)
    result = _repainted(source, region, model, options)
    _warn(result.warnings)
    return result


def edit(scene: SceneLike, model: ModelLike, **options: Unpack[kw.EditOptions]) -> Edited:
    """Draw a scene with edits as two pictures; with a background, that picture is the first one.

    options: fields of the scene in place of its own, and

    - preset: a way of editing, one of ``methods.mrgd.PRESETS``; the scene's own if left out, or "mrgd", or "follow"
      where the model has no segmenter. Fields of it that shall be other (``methods.mrgd.Editing``), such as looks, the
      share of the steps, in [0, 1], in which self-attention is that of the picture before.
    - callback_on_step_end: is given an ``EditStep`` after each step, of the inversion too; may raise ``Cancelled``.
      progress: False or None for no bar.

    Raises SceneError, ImageError or CapabilityError where that is refused, TypeError for a keyword that there is not.
    """
    kw.check_keywords(edit, options, kw.EditOptions)
    fields, changes = kw.divided(options)
    callback, progress = changes.pop("callback_on_step_end", None), changes.pop("progress", True)
    if "solver" in changes:
        raise SceneError("sampler is an object, which an edit does not take; give the name of a sampler.")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with progress_bar(progress) as bar:
        if watch := both(bar and bar.edit_step, callback):
            changes["callback_on_step_end"] = watch
        result = editing.edit(asked, loaded, **changes)
    _warn(result.warnings)
    return result


def translate(source: Any, reference: Any, model: ModelLike, **options: Unpack[kw.TranslateOptions]) -> Translated:
    """Carry the subject or style of a reference picture over to a source: a scene of one region with a concept.

    source, reference: a path, a PIL image, an array or a tensor. options: fields of the scene, and

    - mask: where it is black, the source keeps its bytes. keep_structure: share of the steps in [0, 1] in which the
      result's attention is the source's. concept_strength: in [0, 1]; 0 is the source.
    - preset: one of ``methods.vct.PRESETS``: "fast" and "learned" (ours), "vct" (the paper), "vct-code" (its released
      code); fields of it that shall be other (``methods.vct.Translating``), such as rounds.
    - concept: a learned one, in place of learning. word: where learning begins. seed: 0 if left out.
    - progress, cache: as of :func:`generate`.

    Raises SceneError, ImageError, CapabilityError or CheckpointError where that is refused, TypeError for a keyword
    that there is not.
    """
    kw.check_keywords(translate, options, kw.TranslateOptions)
    given = {name: value for name, value in own_names(options, Scene.model_fields).items() if value is not None}
    progress = options.get("progress", True)
    given.pop("progress", None)
    with progress_bar(progress) as bar:
        tell = progress if callable(progress) else bar.stage if bar else told_nothing
        result = translating.translate(source, reference, as_model(model), progress=tell, **given)
    _warn(result.warnings)
    return result


def sweep(
    scene: SceneLike, model: ModelLike, dial: str, values: Sequence[Any], **options: Unpack[kw.SweepOptions]
) -> list[Result]:
    """Draw a scene once for each value of a dial, all else equal; without a seed of its own one is drawn for all.

    dial: a field of the scene, such as "guidance" or "seed"; of one region, as in "pet.similarity"; or one that only
    regions have, such as "feather", which is then turned in all regions that have it. options: fields of the scene, and
    callback_on_step_end, progress, cache as of :func:`generate`; a ``StepEnd`` has the value's place as its image.
    Raises SceneError or CapabilityError, before anything is drawn, where one of the scenes cannot be drawn.
    """
    kw.check_keywords(sweep, options, kw.SweepOptions)
    fields, run = kw.divided(options)
    if "solver" in run:
        raise SceneError("sampler is an object, which a sweep does not take; give the name of a sampler.")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with _watched(run):
        results = sweeping.sweep(asked, loaded, dial, values, **run)
    _warn(sentence for result in results for sentence in result.warnings)
    return results


def explain(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Explanation:
    """What :func:`generate` would do for one picture, and what that would cost; no network is run.

    options: fields of the scene in place of its own; sampler also as an object. Raises what ``generate`` would raise.
    """
    kw.check_keywords(explain, options, kw.PlanOptions)
    fields, run = kw.divided(options)
    return explaining.explain(as_scene(scene, fields), as_model(model), **run)


def compile(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Prepared:
    """A scene as its ``plan``, with the ``steps`` and the ``sampler`` that :func:`generate` would draw it by.

    options: fields of the scene in place of its own; sampler also as an object. The text encoder is run, the UNet is
    not. Raises what ``generate`` would raise, and SceneError for a scene with a concept, whose plan inversion makes.
    """
    kw.check_keywords(compile, options, kw.PlanOptions)
    fields, run = kw.divided(options)
    asked = as_scene(scene, fields)
    if asked.translated is not None:
        raise SceneError(
            "The plan of a region with a concept is only known once the background is inverted; leave the region out.",
            region=asked.translated.name,
        )
    prepared = prepare(asked, as_model(model), **run)
    _warn(prepared.warnings)
    return prepared


def evaluate(image: Any, scene: SceneLike) -> Evaluation:
    """Whether a picture shows what a scene's phrases ask for, by the judge of the built-in family.

    image: a path, a PIL image, an array or a tensor. The judge knows the built-in family's objects and seven colours;
    what it does not know is None. Raises SceneError or ImageError.
    """
    return evaluated(image, as_scene(scene))


def _drawn(scene: Scene, model: Model, run: Mapping[str, Any]) -> Result:
    """A scene drawn with the options that are none of its fields."""
    run = dict(run)
    reading = read_words(scene, model) if run.pop("attention", False) else None
    if reading is not None:
        found = [reader for readers in reading.readers.values() for reader in readers]
        run["readers"] = [*run.get("readers", ()), *found]
    with _watched(run) as given:
        result = drawing.generate(scene, model, **given)
    if reading is not None:
        result.attention = _attention(reading, result.scene)
    return result


def _repainted(source: Any, region: Region, model: ModelLike, options: Mapping[str, Any]) -> Result:
    fields, run = kw.divided(options)
    given = {name: value for name, value in fields.items() if value is not None}
    return _drawn(Scene(background=source, regions=(region,), **given), as_model(model), run)


@contextmanager
def _watched(run: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Options with callbacks in the place of ``progress``, which move a bar where there is one."""
    given = dict(run)
    progress, cache = given.pop("progress", True), given.pop("cache", None)
    if cache is not None:
        given["cache"] = Path(cache)
    with progress_bar(progress) as bar:
        given["callback_on_step_end"] = both(bar and bar.step, given.get("callback_on_step_end"))
        if callable(progress) or bar is not None:
            given["progress"] = progress if callable(progress) else bar and bar.stage
        yield given


def _attention(reading: Reading, scene: Scene) -> AttentionMaps:
    maps = {name: own for name, readers in reading.readers.items() if (own := mean_map(readers)) is not None}
    silent = {name: "has no words in any step" for name in reading.readers if name not in maps}
    return AttentionMaps(
        maps=maps,
        phrases={region.phrase: region.name or "" for region in reversed(scene.regions)},
        unread=dict(reading.unread) | silent,
        window=reading.window,
    )


def _warn(sentences: Iterable[str]) -> None:
    """Each sentence once, as of the line that called the function that calls this."""
    for sentence in dict.fromkeys(sentences):
        warnings.warn(sentence, CloisonneWarning, stacklevel=3)
