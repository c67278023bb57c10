"""One forward of a network as data, and edits of its attention.

Letters as in ``core/plan.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

from torch import Tensor

from cloisonne.core.attention.image_prompts import ImagePrompts
from cloisonne.core.attention.joint_blocks import JointOptions
from cloisonne.core.attention.references import Reference
from cloisonne.core.attention.text_sequences import TextSequences
from cloisonne.core.control_residuals import InjectionPoint
from cloisonne.core.region_lora import BatchLoras
from cloisonne.core.run import DeepFeatures, Run
from cloisonne.core.step import Step


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
