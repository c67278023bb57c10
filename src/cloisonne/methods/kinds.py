"""The table of conditions, one row a kind: ``KINDS``.

Capability errors, region options, the compiled plan, the tables of docs/checkpoints.md and docs/region-options.md, and
the tests follow it. The fields of a kind are in ``scene/conditions/kinds.py``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from cloisonne.methods import answers as options
from cloisonne.methods import bounded, control, exemplar, ip_adapter, lora, references
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import ConditionKind, Contribution, Variant
from cloisonne.methods.layout import Part, Placed
from cloisonne.models import capabilities as support
from cloisonne.models.capabilities import refusal
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def _phrase(method: str, answers: options.Answers, supports: support.Supports = support.TEXT) -> ConditionKind:
    return ConditionKind(name=f"phrase, method {method}", method=method, supports=supports, options=answers)


def _exemplars(parts: Sequence[Part], ctx: Context) -> Contribution:
    return exemplar.contribute(parts, ctx) + ip_adapter.contribute(parts, ctx) + references.contribute(parts, ctx)


def _exemplar_warnings(scene: Scene, placed: Sequence[Placed], model: Model) -> Iterator[str]:
    yield from references.idle_similarity(scene, placed, model)
    yield from exemplar.idle_bottleneck(scene, placed, model)


def _exemplar_options(region: Region, model: Model) -> tuple[str, ...]:
    return ip_adapter.canvas_options(region, model) + references.canvas_options(region, model)


KINDS: dict[str, ConditionKind] = {
    kind.name: kind
    for kind in (
        _phrase(
            "reco",
            options.BY_BOX,
            support.by_family(support.WITH_POSITIONS, sdxl=support.NOT_XL, pbe=support.NO_TEXT)
            | support.on_transformers(support.NOT_JOINT),
        ),
        replace(_phrase("bounded", options.MASKED), warnings=bounded.idle_boost),
        _phrase("bounded-words", options.MASKED),
        _phrase("isolated", options.MASKED, support.by_family(support.NOT_CROSS, pbe=support.NO_TEXT)),
        _phrase("attention", options.MASKED, support.OF_UNETS),
        _phrase("multidiffusion", options.MASKED),
        _phrase("words", options.BY_WORDS),
        _phrase("caption", options.BY_CAPTION),
        ConditionKind(
            name="exemplar",
            supports=support.by_family(
                support.WITH_PAINT_BY_EXAMPLE,
                sd1=support.WITH_EITHER,
                sdxl=support.WITH_IP_ADAPTER,
            ),
            variants={
                "references": Variant(
                    options=options.MASKED,
                    families=("kontext", "flux2"),
                    applies=lambda model: model.spec.takes_references,
                ),
                "IP-Adapter": Variant(
                    options=options.MASKED,
                    families=("sd1", "sdxl"),
                    applies=lambda model: model.ip_adapter is not None,
                ),
                "Paint by Example": Variant(
                    options=options.PAINTED,
                    families=("builtin", "sd1", "sd2"),
                    applies=lambda model: model.ip_adapter is None and not model.image_only,
                ),
                "Paint by Example alone": Variant(
                    options=options.PAINTED_ALONE, families=("pbe",), applies=lambda model: model.image_only
                ),
            },
            contribute=_exemplars,
            takes=exemplar.taken,
            canvas_options=_exemplar_options,
            idle_view=exemplar.nothing_painted,
            warnings=_exemplar_warnings,
        ),
        ConditionKind(
            name="control",
            supports=support.by_family(support.WITH_ADAPTER, pbe=support.NO_TEXT)
            | dict.fromkeys(("flux", "sd3", "zimage"), support.WITH_CONTROLNET),
            options=options.MASKED,
            contribute=control.contribute,
            details=control.kinds_of,
            canvas_options=control.canvas_options,
            captioned=True,
            warnings=control.idle_branches,
        ),
        ConditionKind(
            name="lora",
            supports=support.by_family(support.WITH_LORA, pbe=support.NO_TEXT)
            | support.on_transformers(support.WITH_LORA),
            options=options.OF_LORA,
            contribute=lora.contribute,
            details=lora.names_of,
            in_scene=True,
            lacks=lora.lacks,
            warnings=lora.lora_warnings,
        ),
        # Edits are compiled as the phrases before and after them.
        ConditionKind(
            name="edit", supports=support.TEXT, options=options.OF_EDIT, details=lambda owner: (), two_images=True
        ),
        ConditionKind(
            name="concept",
            supports=support.by_family(
                support.LEARNED,
                sd1=support.LEARNED_EITHER,
                sdxl=support.NOT_TRANSLATED,
                pbe=support.NOT_TRANSLATED,
            )
            | support.on_transformers(support.NOT_TRANSLATED)
            | {"flux2": support.REFERENCED},
            options=options.OF_CONCEPT,
            details=lambda owner: (),  # its preset is, which translations check
            lacks=lambda model, preset: f"cannot do concept by the preset {preset}",
            outside_plan=True,
        ),
    )
}
"""The kinds of condition, by name."""

OF_SCENES = ("background",)
"""What only scenes have and ``Family.supports`` names."""


def check(condition: str, model: Model, region: str | None = None, kind: str | None = None) -> None:
    """Raise CapabilityError, naming the region, if the model does not support a condition of ``KINDS``.

    kind: the detail to support: the control's kind, the LoRA's name, or the preset of a translation.
    """
    row = KINDS[condition]
    found = row.support(model.family)
    if found.met(model, kind):
        return
    wanted = condition if kind is None else f"{condition} of kind {kind}"
    lacks = f"cannot do {wanted}" if row.lacks is None or kind is None else row.lacks(model, kind)
    raise refusal(lacks, found, model, kind, region)


def check_scene(scene: Scene, model: Model) -> None:
    """Raise CapabilityError for a condition of the whole scene that the model does not support."""
    for kind in KINDS.values():
        for detail in kind.details(scene) if kind.in_scene else ():
            check(kind.name, model, kind=detail)


def check_region(region: Region, scene: Scene, model: Model) -> None:
    """Raise CapabilityError for a condition of a region that the model does not support."""
    for kind in given_kinds(region, scene):
        for detail in kind.details(region):
            check(kind.name, model, region.name, detail)


def given_kinds(region: Region, scene: Scene) -> list[ConditionKind]:
    """The conditions of a region of a resolved scene."""
    return [kind for kind in KINDS.values() if kind.is_given(region, scene)]


def rows(kind: ConditionKind) -> Iterator[tuple[str, options.Answers, tuple[str, ...]]]:
    """Name, options and model families of each variant of a kind."""
    if not kind.variants:
        yield kind.name, kind.options, tuple(family for family in FAMILIES if kind.support(family).mark != "no")
    for name, variant in kind.variants.items():
        yield f"{kind.name}, {name}", variant.options, variant.families


def markdown() -> str:
    """Support by condition and model family as a Markdown table."""
    head = ["condition", *(family.title for family in FAMILIES.values())]
    lines = [head, ["---"] * len(head)]
    lines += [[kind.name, *(kind.support(family).mark for family in FAMILIES)] for kind in KINDS.values()]
    for name in OF_SCENES:
        lines.append([name, *("yes" if name in family.supports else "no" for family in FAMILIES.values())])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
