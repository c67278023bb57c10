"""Transfer the subject or style of a reference image to a source image (VCT, arXiv 2307.14352).

The scene has one region with a concept; :func:`~cloisonne.pipelines.generate.generate` runs it.
"""

from os import PathLike
from typing import Any

from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.progress import OnStep, relabelled
from cloisonne.pipelines.result import Result
from cloisonne.pipelines.translation.settings import NAME, translating_of
from cloisonne.scene.conditions.concept import ConceptImage, given_concept_image
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel


def scene_of(
    source: Any,
    reference: Any,
    *,
    mask: Any = None,
    mask_channel: Channel = "auto",
    preset: str = "fast",
    keep_structure: float | None = None,
    concept_strength: float = 1.0,
    concept: Concept | None = None,
    word: str = "",
    seed: int = 0,
    **fields: Any,
) -> Scene:
    """The scene of a translation. fields: of the scene or of the preset. Raises what :func:`translate` raises."""
    own = {name: fields.pop(name) for name in tuple(fields) if name in Scene.model_fields}
    translating_of(preset, keep_structure, fields)
    given = ConceptImage(
        image=given_concept_image(reference),
        file=None if concept is None else ImageRef(data=concept.data()),
        keep_structure=keep_structure,
        concept_strength=concept_strength,
        word=word,
    )
    shape = {"box": (0.0, 0.0, 1.0, 1.0)} if mask is None else {"mask": mask, "mask_channel": mask_channel}
    changes = {name: value for name, value in fields.items() if value is not None}
    return Scene(
        background=source,
        regions=(Region(name=NAME, concept=given, guidance=own.pop("guidance", None), **shape),),
        translating={"preset": preset, **changes},
        seed=seed,
        **{name: value for name, value in own.items() if value is not None},
    )


def translate(
    source: Any,
    reference: Any,
    model: Model,
    *,
    on_step: OnStep | None = None,
    cache: str | PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """:func:`cloisonne.translate` for a loaded model."""
    scene = scene_of(source, reference, **options)
    return generate(scene, model, on_step=relabelled(on_step, verb="translate"), cache=cache)
