"""The values a scene compiles to: which networks predict where, what conditions them, what must hold.

Letters used everywhere in ``core``: S streams (canvases), R rows of a batch, C channels, H W latent pixels, N tokens,
D width. Denoising is in ``z = alpha * x0 + s * n`` (n = unit noise); networks and refines estimate ``x0``.
``Conditioning()`` and ``Plan()`` are identities and ``+`` is associative: a scene is the sum of its regions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.joint import JointOptions
from cloisonne.core.attention.references import Reference
from cloisonne.core.attention.text_sequences import TextSequences
from cloisonne.core.conditioning import Branch, Conditioning, Tokens
from cloisonne.core.control_residuals import InjectionPoint
from cloisonne.core.region_lora import BatchLoras
from cloisonne.core.run import DeepFeatures, Run
from cloisonne.core.step import ALWAYS, Interval, Step
from cloisonne.errors import SceneError

__all__ = [
    "ALWAYS",
    "AttentionEdit",
    "AttentionTerm",
    "Box",
    "Branch",
    "Call",
    "Conditioning",
    "Guidance",
    "Interval",
    "Net",
    "Plan",
    "Refine",
    "Row",
    "Site",
    "Step",
    "Tokens",
    "View",
]


@dataclass(frozen=True)
class Box:
    """A window of the latent canvas in latent pixels; ``bottom`` and ``right`` are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the window in the last two dimensions of a tensor of the canvas."""
        return slice(self.top, self.bottom), slice(self.left, self.right)


@dataclass(frozen=True, order=True)
class Row:
    """The name of one line of a batch; rows are paired by name, never by position."""

    view: str
    stream: str
    branch: str


SiteKind = Literal["self", "cross", "joint"]
Stage = Literal["down", "mid", "up", "block"]


@dataclass(frozen=True)
class Site:
    """One attention layer during one call.

    layer: its name in the network. grid: (height, width) of its queries. kind: self-attention, cross-attention to text,
    or joint attention. stage: the part of the network; "block" in a transformer. depth: place among all attention
    layers of the network, in [0, 1].
    """

    layer: str
    grid: tuple[int, int]
    kind: SiteKind
    stage: Stage = "block"
    depth: float = 0.0

    @property
    def cross(self) -> bool:
        """Whether queries of pixels attend to text alone."""
        return self.kind == "cross"


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """One forward of one network.

    z: [R, C, H, W] float32. rows: the names of its batch rows. texts: the text sequences of each row, with the run's
    cached keys and values. image_prompts: the same of image prompts. run: where attention edits keep their state and
    record. channels: [R, K, H, W]. pooled: [R, P]. micro: [R, ...] by name. residuals: [R, ...] by injection point and
    level. loras: which count where. edits: attention edits. joint: how texts' masks hold in joint attention, by row.
    references: reference images as further image tokens, by row. deep: deep features to reuse, or to keep.
    All but z, rows, texts and run are None or empty if unused.
    """

    z: Tensor
    step: Step
    rows: tuple[Row, ...]
    texts: TextSequences
    run: Run = field(default_factory=Run)
    image_prompts: ImagePrompts | None = None
    channels: Tensor | None = None
    pooled: Tensor | None = None
    micro: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    residuals: Mapping[InjectionPoint, tuple[Tensor, ...]] = field(
        default_factory=dict[InjectionPoint, tuple[Tensor, ...]]
    )
    loras: BatchLoras | None = None
    edits: "tuple[AttentionEdit, ...]" = ()
    joint: tuple[JointOptions | None, ...] = ()
    references: tuple[tuple[Reference, ...], ...] = ()
    deep: DeepFeatures | None = None


@runtime_checkable
class Net(Protocol):
    """The only thing ``models`` must provide."""

    def __call__(self, call: Call) -> Tensor:
        """Estimate of x0, float32 [R, C, H, W]."""
        ...


@runtime_checkable
class Guidance(Protocol):
    """How the branches of one view become one estimate."""

    def branches(self, step: Step) -> tuple[str, ...]:
        """The branches to ask at this step; the others cost no row."""
        ...

    def __call__(self, x0s: Mapping[str, Tensor], z: Tensor, step: Step) -> Tensor:
        """One estimate [C, H, W] from those of the asked branches; z is the view's window of the canvas."""
        ...


class AttentionTerm(NamedTuple):
    """Attention that is added to that of some rows of a batch: q [B, heads, Q, d], k and v [B, heads, K, d]."""

    rows: tuple[int, ...]
    q: Tensor
    k: Tensor
    v: Tensor


@runtime_checkable
class AttentionEdit(Protocol):
    """Changes of the queries, keys, values or probabilities of attention between the rows of a batch.

    Heads are split: q [R, heads, Q, d], k and v [R, heads, K, d], p [R, heads, Q, K].
    At a cross-attention site where rows have several pieces of text, K runs over the pieces one after the other, padded
    with zeros to the longest row, and p already carries the masks. What an edit does not define itself changes nothing.
    An edit is an immutable, hashable value: what it keeps or records is in ``call.run``.
    """

    def touches(self, site: Site, call: Call) -> bool:
        """False leaves the site on its fast path."""
        ...

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values to attend with."""
        return q, k, v

    def terms(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> Sequence[AttentionTerm]:
        """What is added to the attention of the edited q, k, v; called with those before the edit."""
        return ()

    def query_key_donors(self, site: Site, call: Call) -> list[tuple[int, int]]:
        """Pairs of rows (a, b): b attends with a's queries and keys in place of its own, so one softmax serves both."""
        return []

    def wants_probs(self, site: Site, call: Call) -> bool:
        """False keeps the fused kernel."""
        return False

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        """Probabilities to average the values with; asked only where they are wanted."""
        return p

    def features(self, call: Call) -> list[tuple[int, int]]:
        """Pairs of rows (a, b): in the decoder b goes on with what a's residual blocks add in place of its own."""
        return []

    def in_scene(self, scene: str) -> Self:
        """The same edit for streams named ``scene/stream``."""
        ...


@runtime_checkable
class Refine(Protocol):
    """What must hold of the estimate: an immutable value, called with the canvases of ``streams``, in that order."""

    @property
    def when(self) -> Interval: ...

    @property
    def streams(self) -> tuple[str, ...]: ...

    def __call__(self, x0: Tensor, z: Tensor, step: Step, run: Run) -> Tensor:
        """The refined estimate; x0, z and the result are [len(streams), C, H, W]. What it keeps is in the run."""
        ...

    def in_scene(self, scene: str) -> Self:
        """The same refine for streams named ``scene/stream``."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class View:
    """A prediction of a canvas: by which network, where, with what weight, and when.

    branches: what conditions each branch ("cond", "null"). weight: [H, W] >= 0 of the window: estimates are averaged by
    it. box: the window of the canvas (None = all of it); every tensor of the view has the window's size.
    stream: the canvas, ``image`` unless a method works on several; ``Plan.in_scene`` prefixes it.
    region: name of the region that the view is the own prediction of; None for views of several regions or of none.
    interval_index: which part of the steps the view is of, where a scene changes in between; views of equal names in
    different parts are different views.
    """

    name: str
    net: Net
    branches: Mapping[str, Branch]
    guide: Guidance
    weight: Tensor
    box: Box | None = None
    stream: str = "image"
    when: Interval = ALWAYS
    region: str | None = None
    interval_index: int = 0

    @property
    def scene(self) -> str:
        """The scene (one image of a batch) that the view's canvas belongs to; empty outside of a merged plan."""
        return self.stream.rpartition("/")[0]

    @property
    def key(self) -> tuple[str, str, int]:
        """What is unique in a plan."""
        return self.name, self.stream, self.interval_index

    def crop(self, canvas: Tensor) -> Tensor:
        """The view's window of a tensor whose last two dimensions are the canvas."""
        return canvas if self.box is None else canvas[..., *self.box.window]

    def __repr__(self) -> str:
        place = "whole canvas" if self.box is None else f"{self.box}"
        described = [f"    {name}: {'depends on the step' if callable(b) else b}" for name, b in self.branches.items()]
        head = f'  View "{self.name}" of "{self.stream}": {place}, mean weight {float(self.weight.mean()):.2f}'
        return "\n".join([f"{head}, {self.when}, {self.guide}", *described])


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Plan:
    """Everything that happens at every step, as data. ``View.key`` must be unique."""

    views: tuple[View, ...] = ()
    edits: tuple[AttentionEdit, ...] = ()
    refines: tuple[Refine, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[str, str, int]] = set()
        for view in self.views:
            if view.key in seen:
                raise SceneError(f'Two views of "{view.stream}" are named "{view.name}"; give each its own name.')
            seen.add(view.key)

    def __add__(self, other: "Plan") -> "Plan":
        return Plan(
            views=self.views + other.views, edits=self.edits + other.edits, refines=self.refines + other.refines
        )

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the canvases in the order of dimension S, which does not depend on the order of the views."""
        return tuple(sorted({view.stream for view in self.views}))

    def stack(self, canvases: Mapping[str, Tensor]) -> Tensor:
        """[S, C, H, W] from one [C, H, W] a stream."""
        return torch.stack([canvases[stream] for stream in self.streams])

    def in_scene(self, scene: str) -> "Plan":
        """The same plan on canvases named ``scene/stream``, so that plans of several scenes can be added."""
        return Plan(
            views=tuple(replace(view, stream=f"{scene}/{view.stream}") for view in self.views),
            edits=tuple(edit.in_scene(scene) for edit in self.edits),
            refines=tuple(refine.in_scene(scene) for refine in self.refines),
        )

    def without_empty_views(self) -> "Plan":
        """The plan less the views that can change nothing: no weight anywhere, or an empty interval."""
        views = tuple(view for view in self.views if not view.when.empty and bool((view.weight > 0).any()))
        return replace(self, views=views)

    def __repr__(self) -> str:
        head = f"Plan of {len(self.views)} views, {len(self.edits)} edits, {len(self.refines)} refines"
        return "\n".join([head, *map(repr, self.views), *(f"  {part}" for part in self.edits + self.refines)])
