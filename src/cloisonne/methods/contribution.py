"""A kind of condition: where it is supported, which options apply to it, and what it adds to the views by ``+``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cloisonne.core.plan import Conditioning, Refine, View
from cloisonne.methods.answers import WITHOUT_NULL, Answers
from cloisonne.methods.context import Context
from cloisonne.methods.layout import Part, Placed
from cloisonne.models.capabilities import UNSUPPORTED, YES, Support, Supports
from cloisonne.models.families import FAMILIES
from cloisonne.models.model import Model
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution:
    """cond, null: conditioning of these branches of every text-conditioned view. views: further views, of networks of
    their own, which take their weight from the canvas. refines: frozen dataclasses that constrain the estimate in these
    steps; their ``when`` is set by the compilation. ``Contribution()`` is the identity of ``+``."""

    cond: Conditioning = field(default_factory=Conditioning)
    null: Conditioning = field(default_factory=Conditioning)
    views: tuple[View, ...] = ()
    refines: tuple[Refine, ...] = ()

    def __add__(self, other: "Contribution") -> "Contribution":
        return Contribution(
            cond=self.cond + other.cond,
            null=self.null + other.null,
            views=self.views + other.views,
            refines=self.refines + other.refines,
        )


Contribute: TypeAlias = Callable[[Sequence[Part], Context], Contribution]
"""What all regions that are active in one interval of the steps contribute; those without the condition are skipped.

Called once for each interval. Where ``Context.blank`` is set, for ``explain``, it runs no network, and reads no file
but the images whose size is part of the cost.
"""


def both(conditioning: Conditioning) -> Contribution:
    """The same conditioning in every branch."""
    return Contribution(cond=conditioning, null=conditioning)


def nothing(parts: Sequence[Part], ctx: Context) -> Contribution:
    """No contribution."""
    return Contribution()


@dataclass(frozen=True, kw_only=True, eq=False)
class Variant:
    """How options apply to a condition on some models. families: those with such models."""

    options: Answers
    families: tuple[str, ...]
    applies: Callable[[Model], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConditionKind:
    """A row of ``KINDS``.

    Attributes:
        name: the field of a region (``scene/conditions/kinds.py``), or "phrase, method M" for the phrases of a method.
        supports: support by model family, but for those whose own row supports it.
        options: what becomes of each option of the region.
        variants: the same by models, by name, where these differ; replaces ``options``.
        method: the method of a phrase; its text conditions the views that the method makes.
        contribute: adds to the views.
        details: what of a region or scene (None) has to be supported one by one, such as the names of LoRAs.
        in_scene: whether the scene has a field of this name, too.
        lacks: completes "The model X ..." about a detail that is not supported; None: "cannot do NAME of kind DETAIL".
        takes: the fraction of a region's share that a network of its own takes from text, in [0, 1].
        canvas_options: which of "negative" and "guidance" a region without a phrase sets for the text-conditioned view.
        captioned: whether the caption describes a region without a phrase, for methods that encode all text in one
            sequence.
        idle_view: the view of a model that takes no other condition, in steps in which no region is active.
        two_images: whether its scenes are two images, before and after, made by the public function of its name.
        outside_plan: whether the caller generates its part of the canvas; the plan leaves it the region's share.
        warnings: what of it is not honoured, one sentence each.
    """

    name: str
    supports: Supports
    options: Answers = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    method: str = ""
    contribute: Contribute = nothing
    details: Callable[[Region | Scene], Sequence[str | None]] = lambda owner: (None,)
    in_scene: bool = False
    lacks: Callable[[Model, str | None], str] | None = None
    takes: Callable[[Region, Model], float] = lambda region, model: 0.0
    canvas_options: Callable[[Region, Model], tuple[str, ...]] = lambda region, model: ()
    captioned: bool = False
    idle_view: Callable[[Context], View] | None = None
    two_images: bool = False
    outside_plan: bool = False
    warnings: Callable[[Scene, Sequence[Placed], Model], Iterator[str]] = lambda scene, placed, model: iter(())

    def is_given(self, region: Region, scene: Scene) -> bool:
        """Whether a region of a resolved scene has this condition."""
        return bool(region.phrase) and scene.method == self.method if self.method else self.name in region.conditions

    def support(self, family: str) -> Support:
        """The support by a family of ``FAMILIES``."""
        return YES if self.name in FAMILIES[family].supports else self.supports.get(family, UNSUPPORTED)

    def answers(self, model: Model) -> Answers:
        """What becomes of each option, on a model that supports the condition."""
        own = next((variant.options for variant in self.variants.values() if variant.applies(model)), self.options)
        return own | WITHOUT_NULL if model.spec.embeds_guidance else own
