"""The keywords of the public functions, for type checkers, and their check at run time.

diffusers' names (``num_inference_steps``, ``guidance_scale``, ``negative_prompt``) are accepted too.
"""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, TypedDict

from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Refine
from cloisonne.core.samplers import Sampler
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.progress import OnStep
from cloisonne.scene.io.renamed_fields import new_name
from cloisonne.scene.overlap import Overlap
from cloisonne.scene.scene import MethodName, SamplerName, Spacing, Speed
from cloisonne.scene.shapes.mask_reading import Channel
from cloisonne.scene.values import closest


class DrawingFields(TypedDict, total=False):
    """Fields of a scene that every function can override; None leaves the scene's value."""

    width: int | None
    height: int | None
    caption: str | None
    negative: str | None
    lora: Any
    seed: int | None
    steps: int | None
    guidance: float | None
    guidance_rescale: float | None
    guidance_interval: Sequence[float] | None
    spacing: Spacing | None
    eta: float | None
    method: MethodName | None
    region_boost: float | Literal["auto"] | None
    layout_guidance: float | None
    isolate: float | None
    blocks: int | None
    overlap: Overlap | None
    speed: Speed | None
    hires: Any
    windows: float | None
    strength: float | None
    composite: bool | None
    num_inference_steps: int | None
    guidance_scale: float | None
    negative_prompt: str | None


class SceneFields(DrawingFields, total=False):
    """The same, with the fields that only whole scenes have."""

    background: Any
    editing: Mapping[str, Any] | None
    translating: Mapping[str, Any] | None
    outside: Any


class PlanOptions(SceneFields, total=False):
    """Keywords of ``compile`` and ``explain``. sampler: a name, or a ``core.samplers.Sampler`` object."""

    sampler: SamplerName | Sampler[Any] | None


class RunOptions(TypedDict, total=False):
    """Options of a run; see ``generate``."""

    num_images: int
    on_step: OnStep | None
    output_type: Literal["pil", "latent"]
    latents: Tensor | None
    readers: Sequence[AttentionEdit]
    refines: Sequence[Refine]
    attention: bool
    progress: bool
    cache: str | PathLike[str] | None
    sampler: SamplerName | Sampler[Any] | None


class GenerateOptions(SceneFields, RunOptions, total=False):
    """Keywords of ``generate`` and ``generate_many``."""


class InpaintOptions(DrawingFields, RunOptions, total=False):
    """Keywords of ``inpaint``."""


class BatchOptions(SceneFields, total=False):
    """Fields of the scene that ``batch`` takes."""

    sampler: SamplerName | None


class SweepOptions(SceneFields, total=False):
    """Keywords of ``sweep``."""

    sampler: SamplerName | None
    on_step: OnStep | None
    progress: bool
    cache: str | PathLike[str] | None


class EditOptions(SceneFields, total=False):
    """Keywords of ``edit``: fields of the scene and of its preset (``scene.conditions.edit_presets.Editing``)."""

    sampler: SamplerName | None
    preset: str | None
    on_step: OnStep | None
    progress: bool
    regions: bool
    crops: bool
    whole: bool
    policies: bool
    self_attention_share: float
    boost: Literal["none", "additive", "official"]
    keywords: int
    loss_rs: float
    loss_is: float
    loss_ip: float
    loss_gone: float
    loss_seen: float
    contrast: Literal["infonce", "official"]
    normalise: bool
    decoder: Literal["vae", "linear"]
    gain: float
    limit: float
    follow: bool
    paste_changed_only: bool | None
    inversion: Literal["auto", "direct", "belm", "null-text"]
    fresh_noise: float | None
    close_up: float | None
    flow: bool
    flow_start: float | None
    n_avg: int
    source_guidance: float
    reuse_background: bool


class TranslateOptions(DrawingFields, total=False):
    """Keywords of ``translate``: fields of the scene and of its preset
    (``scene.conditions.translation_presets.Translating``)."""

    sampler: SamplerName | None
    mask: Any
    mask_channel: Channel
    preset: str
    keep_structure: float | None
    concept_strength: float
    concept: Concept | None
    word: str
    on_step: OnStep | None
    progress: bool
    cache: str | PathLike[str] | None
    learned: bool
    pivot: Literal["none", "source", "null"]
    self_attention_share: float
    cross_attention_share: float
    features: float
    flow: bool
    flow_start: float
    n_avg: int
    vectors: int
    interrogate: bool
    content_vectors: int
    content_rounds: int
    rounds: int
    batch: int
    rate: float
    l1: float
    patience: int


FIELDS = frozenset((*SceneFields.__annotations__, "sampler"))
"""Keywords that are fields of the scene."""


_ELSEWHERE = {"callback_on_step_end": "on_step", "callback": "on_step"}
"""Keywords of diffusers' pipelines, and those here that mean the same."""


def check_keywords(function: Callable[..., Any], given: Mapping[str, Any], options: type) -> None:
    """Raise TypeError, with the closest known name, for an unknown keyword."""
    known = sorted(options.__annotations__)
    for name in given:
        if name not in known:
            if renamed := new_name(name, known):
                raise TypeError(f'{function.__name__}() has no keyword "{name}"; it is now "{renamed}".')
            meant = _ELSEWHERE.get(name) or closest(name, known)
            advice = f'did you mean "{meant}"?' if meant else f"its keywords are {', '.join(known)}."
            raise TypeError(f'{function.__name__}() has no keyword "{name}"; {advice}')


def divided(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split keywords into fields of the scene and the others; a sampler object is one of the others, as ``solver``."""
    fields = {name: value for name, value in given.items() if name in FIELDS}
    others = {name: value for name, value in given.items() if name not in FIELDS}
    if not isinstance(fields.get("sampler"), str | None):
        others["solver"] = fields.pop("sampler")
    return fields, others
