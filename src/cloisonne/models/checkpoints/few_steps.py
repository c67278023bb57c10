"""Networks distilled for a few steps: defaults of a scene from their scheduler or their name."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import safe_open

from cloisonne.core.schedule import Schedule
from cloisonne.models.model import Model

TITLES = ("modelspec.title", "ss_output_name")
"""Entries of a safetensors header that hold a network's name."""


@dataclass(frozen=True, kw_only=True)
class FewSteps:
    """How a distilled network is sampled.

    Attributes:
        title: its name for users.
        pattern: of the names of its files.
        sampler, spacing: as fields of a scene.
        steps: where the name has no number of steps.
        guidance: guidance scale; 1 is none, one batch row a step.
    """

    title: str
    pattern: str
    sampler: str
    spacing: str
    steps: int
    guidance: float = 1.0


KINDS = (
    FewSteps(title="Hyper-SD", pattern=r"hyper-?sd(?:xl|3)?", sampler="ddim", spacing="trailing", steps=8),
    FewSteps(title="Lightning", pattern=r"lightning", sampler="euler", spacing="trailing", steps=4),
    FewSteps(title="DMD2", pattern=r"dmd-?2", sampler="lcm", spacing="trailing", steps=4),
    FewSteps(title="Turbo", pattern=r"turbo", sampler="euler-ancestral", spacing="trailing", steps=1),
    FewSteps(title="TCD", pattern=r"tcd", sampler="tcd", spacing="distilled", steps=4),
    FewSteps(title="LCM", pattern=r"lcm|latent-?consistency", sampler="lcm", spacing="distilled", steps=4),
)
"""The published kinds, each with its authors' settings; the first pattern that a name has decides."""

_OF_FLUX = (
    FewSteps(title="Hyper-SD", pattern=r"hyper-?flux", sampler="euler", spacing="default", steps=8, guidance=3.5),
    FewSteps(title="Turbo", pattern=r"turbo", sampler="euler", spacing="default", steps=8, guidance=3.5),
)
OF_FLOWS = {
    "flux": _OF_FLUX,
    "kontext": _OF_FLUX,
    "sd3": (
        FewSteps(title="Hyper-SD", pattern=r"hyper-?sd3", sampler="euler", spacing="default", steps=8),
        FewSteps(title="Turbo", pattern=r"turbo", sampler="euler", spacing="default", steps=4),
    ),
}
"""The same of flow models, by family; their own shift spreads the steps."""

SCHEDULERS = {"LCMScheduler": "LCM", "TCDScheduler": "TCD"}
"""The kinds that a checkpoint's scheduler names."""

CFG_SCALE = 5.0
"""Guidance scale of the networks of Hyper-SD that were distilled with guidance ("CFG" in their names)."""

GUIDANCE_AS_INPUT = 8.5
"""Guidance scale of latent consistency models that take it as an input: the default of diffusers' pipeline for them."""


def few_steps_of(name: str, kinds: Sequence[FewSteps] = KINDS) -> FewSteps | None:
    """What the name of a file or folder, or a title, says; None where it says nothing.

    The name must have the kind as words of its own: "lcm-lora-sdv1-5", "sdxl_lightning_4step_lora". kinds: to look for.
    """
    words = re.sub(r"[\s_.]+", "-", name.lower())
    kind = next((kind for kind in kinds if re.search(rf"(?<![a-z])(?:{kind.pattern})(?![a-z])", words)), None)
    if kind is None:
        return None
    number = re.search(r"(?<!\d)(\d{1,2})-?steps?(?![a-z])", words)
    guidance = CFG_SCALE if kind.title == "Hyper-SD" and re.search(r"(?<![a-z])cfg(?![a-z])", words) else kind.guidance
    return replace(kind, steps=int(number[1]) if number else kind.steps, guidance=guidance)


def with_few_steps(model: Model, loras: Iterable[Path] = ()) -> Model:
    """The model with the defaults of a distilled network, where its scheduler, its name or a fused LoRA says so.

    The last LoRA decides, then the checkpoint's scheduler, then its name. ``explain`` names the reason.
    """
    kinds = KINDS if isinstance(model.schedule, Schedule) else OF_FLOWS.get(model.family, ())
    found: tuple[FewSteps, str] | None = None
    for name in (name for file in loras for name in (*reversed(_titles(file)), file.stem)):
        if (kind := few_steps_of(name, kinds)) is not None:
            found = (kind, f'the name of the LoRA "{name}"')
    if found is None and model.scheduler in SCHEDULERS:
        kind = next(kind for kind in KINDS if kind.title == SCHEDULERS[model.scheduler])
        found = (kind, f"the checkpoint's scheduler {model.scheduler}")
    if found is None and model.name != "builtin" and (kind := few_steps_of(model.name, kinds)) is not None:
        found = (kind, f'the name "{model.name}"')
    if found is None:
        return model
    kind, reason = found
    guidance = kind.guidance
    if model.spec.embeds_guidance:
        guidance = GUIDANCE_AS_INPUT if kinds is KINDS else model.native.guidance
    native = replace(model.native, steps=kind.steps, guidance=guidance, sampler=kind.sampler, spacing=kind.spacing)
    guided = "no guidance (1)" if guidance == 1 else f"guidance {guidance:g}"
    note = (
        f"From {reason}: distilled for a few steps ({kind.title}), so the defaults are sampler {kind.sampler}, "
        f"spacing {kind.spacing}, {kind.steps} step{'s' * (kind.steps > 1)} and {guided}; what a scene gives wins."
    )
    return replace(model, native=native, notes=(*model.notes, note))


def _titles(file: Path) -> list[str]:
    with safe_open(file, "pt") as opened:
        header = opened.metadata() or {}
    return [header[entry] for entry in TITLES if entry in header]
