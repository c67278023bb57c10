"""Transfer the subject or style of a reference image to a source image (VCT, arXiv 2307.14352).

The scene has one region with a concept; :func:`~cloisonne.pipelines.generate.generate` runs it.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import BackgroundEdit, as_pixels
from cloisonne.pipelines.result import Result
from cloisonne.pipelines.translation.settings import NAME, Progress, no_progress, translating_of
from cloisonne.scene.conditions.concept import ConceptImage, given_concept_image
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel


@dataclass(kw_only=True, eq=False, repr=False)
class Translated:
    """A translated image.

    result: as ``generate`` returns it. concept: the learned or given concept, which can be saved and reused; None
    where the reference is encoded as an exemplar instead.
    """

    result: Result
    concept: Concept | None

    @property
    def image(self) -> Image.Image:
        """The result, at the source's size."""
        return self.result.image

    @property
    def scene(self) -> Scene:
        """The scene that reproduces the result."""
        return self.result.scene

    @property
    def report(self) -> dict[str, Any]:
        """The report that ``--json`` prints; see ``Result``."""
        return self.result.report

    @property
    def warnings(self) -> tuple[str, ...]:
        """Requests that the image does not honour, one sentence each."""
        return self.result.warnings

    def __repr__(self) -> str:
        learned = "" if self.concept is None else ", with its concept"
        return f"Translated: {self.result!r}{learned}"

    @cached_property
    def raw(self) -> Image.Image:
        """The decoded image without the source's pixels outside of the mask."""
        edit = BackgroundEdit.of(self.scene)
        pixels = as_pixels(self.result.model.vae.decode(self.result.latents)[0])
        return edit.whole(pixels)

    def save(self, path: str | Path, *, overwrite: bool = False, embed: bool = True) -> Path:
        """Write the image; a PNG carries its scene. Raises OutputError as ``Result.save`` does."""
        return self.result.save(path, overwrite=overwrite, embed=embed)[0]


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
    progress: Progress = no_progress,
    cache: str | Path | None = None,
    **options: Any,
) -> Translated:
    """Translate a source by one reference image: :func:`generate` for a scene of one region with a concept.

    Args:
        source, reference: A path, a PIL image or an array.
        model: The model.
        progress: Receives the stage, the step reached, the number of steps, and the loss while fitting; may raise
            Cancelled.
        cache: A folder for checkpoints of learning: an interrupted run resumes, a finished concept is reused.
        options: Fields of the scene, such as steps, or of the preset, and

            - mask: the source's pixels stay unchanged where it is black. mask_channel: channel to read, ``auto``,
              ``luminance``, ``alpha`` or ``transparency``.
            - preset: "fast" and "learned" (ours), "vct" (the paper), "vct-code" (its released code).
            - keep_structure: fraction of the steps in [0, 1] in which the result's attention is the source's.
            - concept_strength: in [0, 1]; 0 gives the source.
            - concept: a learned concept, which skips learning. word: the word whose embedding learning starts at.
            - seed: 0 if left out.

    Raises:
        SceneError, ImageError, CapabilityError, CheckpointError: The translation is not possible.
    """
    scene = scene_of(source, reference, **options)
    result = generate(scene, model, progress=progress, cache=None if cache is None else Path(cache))
    region = result.scene.translated
    assert region is not None, "the scene has a concept"
    assert region.concept is not None, "the region has a concept"
    file = region.concept.file
    return Translated(result=result, concept=None if file is None else Concept.read(file.read()))
