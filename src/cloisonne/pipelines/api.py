"""The public functions: they accept scenes and models in any form, check keywords, and issue warnings.

Each wraps the module that does the work. Every warning of a result is also issued as a ``CloisonneWarning`` at the
caller's line.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Unpack

from cloisonne.errors import CloisonneWarning, SceneError
from cloisonne.eval.evaluate import Evaluation, evaluated
from cloisonne.pipelines import explain as explaining
from cloisonne.pipelines import generate as generating
from cloisonne.pipelines import keywords as kw
from cloisonne.pipelines import sweep as sweeping
from cloisonne.pipelines.editing import edit as editing
from cloisonne.pipelines.explain import Explanation
from cloisonne.pipelines.inputs import ModelLike, SceneLike, as_model, as_scene
from cloisonne.pipelines.output.progress_bar import with_bar
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.pipelines.progress import relabelled
from cloisonne.pipelines.result import Result
from cloisonne.pipelines.translation import translate as translating
from cloisonne.scene.inpainting import inpaint_scene
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
            - sampler: a name, or a ``Sampler`` object. refines: ``Refine`` objects, applied to every estimate before
              the background is restored. readers: ``AttentionEdit`` objects that only read.
            - attention: True adds a map of each phrase to the result's ``attention``.
            - output_type: "latent" decodes no images. latents: unit noise [num_images, C, H, W] that replaces the
              seeds' noise.
            - on_step: receives a ``Progress`` after each step; may raise ``Cancelled``.
            - progress: False for no progress bar; by default it appears where standard error is a terminal.
            - cache: a folder for checkpoints of learning a concept, which are resumed or reused.

    Returns:
        The images, the resolved scene and a report. Requests that are not honoured give a ``CloisonneWarning``.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The scene cannot be generated.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(generate, options, kw.GenerateOptions)
    fields, run = kw.divided(options)
    asked, loaded = as_scene(scene, fields), as_model(model)
    with with_bar(run) as given:
        result = generating.generate(asked, loaded, **given)
    _warn(result.warnings)
    return result


def generate_many(scenes: Iterable[SceneLike], model: ModelLike, **options: Unpack[kw.GenerateOptions]) -> list[Result]:
    """Generate several scenes, each as :func:`generate` alone does.

    Args:
        scenes: Scenes, in any form.
        model: What :func:`load` returns, or what it takes.
        options: As for :func:`generate`; they apply to every scene.

    Returns:
        One result for each scene, in their order.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: As :func:`generate`.
    """
    kw.check_keywords(generate_many, options, kw.GenerateOptions)
    fields, run = kw.divided(options)
    asked, loaded = [as_scene(scene, fields) for scene in scenes], as_model(model)
    with with_bar(run) as given:
        results = generating.generate_many(asked, loaded, **given)
    _warn(sentence for result in results for sentence in result.warnings)
    return results


def inpaint(
    image: Any,
    mask: Any,
    model: ModelLike,
    *,
    phrase: str | None = None,
    exemplar: Any = None,
    similarity: float | None = None,
    feather: float = 0.0,
    mask_channel: Channel = "auto",
    **options: Unpack[kw.InpaintOptions],
) -> Result:
    """Inpaint an image by a phrase, an exemplar image, or both: :func:`generate` for a scene of one region.

    Args:
        image: A path, a PIL image, an array or a tensor.
        mask: The same, white where the image is repainted; or a box, four fractions (x0, y0, x1, y1) of the image.
        model: What :func:`load` returns, or what it takes.
        phrase: What to generate under the mask.
        exemplar: An image whose subject to generate there (Paint by Example, arXiv 2211.13227, or IP-Adapter).
        similarity: Similarity to the exemplar, from 1 (same category) to 5 and above; None means 5, or with an
            IP-Adapter the guidance scale.
        feather: Width of the soft edge inside the mask, as a fraction of the shorter side of its bounding box.
        mask_channel: Channel to read: ``auto``, ``luminance``, ``alpha`` or ``transparency``.
        options: As for :func:`generate`. At strength 1 nothing under the mask is retained; ``composite=False``
            returns the raw decode.

    Returns:
        The image, with every pixel outside of the mask preserved; ``named["source"]`` and ``named["raw"]``.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: As :func:`generate`.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(inpaint, options, kw.InpaintOptions)
    fields, run = kw.divided(options)
    region: dict[str, Any] = {"similarity": similarity, "feather": feather, "mask_channel": mask_channel}
    own = {name: value for name, value in fields.items() if value is not None}
    scene, loaded = inpaint_scene(image, mask, phrase=phrase, exemplar=exemplar, **region, **own), as_model(model)
    run["on_step"] = relabelled(run.get("on_step"), verb="inpaint")
    with with_bar(run) as given:
        result = generating.generate(scene, loaded, **given)
    _warn(result.warnings)
    return result


def edit(scene: SceneLike, model: ModelLike, **options: Unpack[kw.EditOptions]) -> Result:
    """Generate a scene with edits as two images, before and after; a background is the image before.

    Args:
        scene: A scene with edits, in any form.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene to override, and

            - preset: an editing preset, one of ``scene.conditions.edit_presets.PRESETS``. If left out: the scene's own,
              else "flow" for a given image, and "mrgd", or "follow" where the model has no segmenter, for generated
              pairs and where fields of these are changed.
            - fields of the preset to change (``scene.conditions.edit_presets.Editing``), such as self_attention_share:
              the fraction of the steps, in [0, 1], in which self-attention is that of the image before.
            - on_step, progress: as for :func:`generate`; inversion counts too.

    Returns:
        The image after; ``named`` has "before", "after", "difference" and "raw".

    Raises:
        SceneError, ImageError, CapabilityError: The scene cannot be edited.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(edit, options, kw.EditOptions)
    fields, run = kw.divided(options)
    _check_sampler(run, "an edit")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with with_bar(run) as given:
        result = editing.edit(asked, loaded, **given)
    _warn(result.warnings)
    return result


def translate(source: Any, reference: Any, model: ModelLike, **options: Unpack[kw.TranslateOptions]) -> Result:
    """Transfer the subject or style of a reference image to a source: a scene of one region with a concept.

    Args:
        source: A path, a PIL image, an array or a tensor.
        reference: The same.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene, and

            - mask: the source's pixels stay unchanged where it is black. mask_channel: as for :func:`inpaint`.
            - keep_structure: fraction of the steps in [0, 1] in which the result's attention is the source's.
              concept_strength: in [0, 1]; 0 gives the source.
            - preset: "fast" and "learned" (ours), "flow" (FlowEdit, no inversion), "interrogate" (FlowEdit to the
              words of a style), "vct" (the paper), "vct-code" (its released code); and fields of the preset to change
              (``scene.conditions.translation_presets.Translating``), such as rounds.
            - concept: a learned concept, which skips learning. word: the word whose embedding learning starts at;
              of "interrogate" its words, or alternatives with "|" between them.
            - seed: 0 if left out. on_step, progress, cache: as for :func:`generate`.

    Returns:
        The image, at the source's size; ``concept`` is the learned one; ``named`` has "source", "reference" and "raw".

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The translation is not possible.
        TypeError: An unknown keyword.
    """
    kw.check_keywords(translate, options, kw.TranslateOptions)
    run = {name: value for name, value in own_names(options, Scene.model_fields).items() if value is not None}
    loaded = as_model(model)
    with with_bar(run) as given:
        result = translating.translate(source, reference, loaded, **given)
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
        options: Fields of the scene to override, and on_step, progress and cache as for :func:`generate`; a
            ``Progress`` has the value's index as its image.

    Returns:
        One result for each value.

    Raises:
        SceneError, CapabilityError: One of the scenes cannot be generated. Raised before the first image.
    """
    kw.check_keywords(sweep, options, kw.SweepOptions)
    fields, run = kw.divided(options)
    _check_sampler(run, "a sweep")
    asked, loaded = as_scene(scene, fields), as_model(model)
    with with_bar(run) as given:
        results = sweeping.sweep(asked, loaded, field, values, **given)
    _warn(sentence for result in results for sentence in result.warnings)
    return results


def explain(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Explanation:
    """Plan and cost of :func:`generate` for one image; no network is run.

    Args:
        scene: A scene, in any form.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene to override; sampler also as an object.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: As :func:`generate`.
    """
    kw.check_keywords(explain, options, kw.PlanOptions)
    fields, run = kw.divided(options)
    return explaining.explain(as_scene(scene, fields), as_model(model), **run)


def compile(scene: SceneLike, model: ModelLike, **options: Unpack[kw.PlanOptions]) -> Prepared:
    """Compile a scene to the ``plan``, ``steps`` and ``sampler`` that :func:`generate` uses.

    Text encoders run, the denoiser does not.

    Args:
        scene: A scene, in any form.
        model: What :func:`load` returns, or what it takes.
        options: Fields of the scene to override; sampler also as an object.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: As :func:`generate`, and for a scene with a concept,
            whose plan depends on inversion.
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

    The judge knows the built-in family's objects and seven colours; unknown ones give None.

    Args:
        image: A path, a PIL image, an array or a tensor.
        scene: A scene, in any form.

    Raises:
        SceneError, ImageError: The scene or the image is invalid.
    """
    return evaluated(image, as_scene(scene))


def _check_sampler(run: Mapping[str, Any], what: str) -> None:
    """Raise SceneError for a sampler object."""
    if "solver" in run:
        raise SceneError(f"sampler is an object, but {what} takes only names; give the name of a sampler.")


def _warn(sentences: Iterable[str]) -> None:
    """Issue each sentence once, at the line that called the public function."""
    for sentence in dict.fromkeys(sentences):
        warnings.warn(sentence, CloisonneWarning, stacklevel=3)
