"""The values a scene compiles to: which networks predict where, what conditions them, what must hold.

Letters used everywhere in ``core``: S streams (canvases), R rows of a batch, C channels, H W latent pixels, N tokens,
D width. Denoising is in ``z = alpha * x0 + s * n`` (n = unit noise); networks and refines estimate ``x0``.
``Conditioning()`` and ``Plan()`` are identities and ``+`` is associative: a scene is the sum of its regions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from cloisonne.core.attention.call import AttentionEdit, AttentionTerm, Call, Row, Site
from cloisonne.core.conditioning import Branch, Conditioning, Tokens
from cloisonne.core.run import Run
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
    "LatentUpdate",
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


@runtime_checkable
class LatentUpdate(Protocol):
    """A change of the noisy canvases before a denoising step: an immutable value."""

    def views(self, plan: "Plan", step: Step) -> "tuple[View, ...]":
        """The views whose networks it runs before this step, asked for the branches of their guidance; may be ()."""
        ...

    def __call__(self, plan: "Plan", z: Tensor, step: Step, run: Run) -> Tensor:
        """The changed canvases; z and the result are [S, C, H, W]. What it keeps is in the run."""
        ...

    def in_scene(self, scene: str) -> Self:
        """The same update for streams named ``scene/stream``."""
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
    updates: tuple[LatentUpdate, ...] = ()

    def __post_init__(self) -> None:
        seen: set[tuple[str, str, int]] = set()
        for view in self.views:
            if view.key in seen:
                raise SceneError(f'Two views of "{view.stream}" are named "{view.name}"; give each its own name.')
            seen.add(view.key)

    def __add__(self, other: "Plan") -> "Plan":
        return Plan(
            views=self.views + other.views,
            edits=self.edits + other.edits,
            refines=self.refines + other.refines,
            updates=self.updates + other.updates,
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
            updates=tuple(update.in_scene(scene) for update in self.updates),
        )

    def without_empty_views(self) -> "Plan":
        """The plan less the views that can change nothing: no weight anywhere, or an empty interval."""
        views = tuple(view for view in self.views if not view.when.empty and bool((view.weight > 0).any()))
        return replace(self, views=views)

    def __repr__(self) -> str:
        head = (
            f"Plan of {len(self.views)} views, {len(self.edits)} edits, {len(self.refines)} refines, "
            f"{len(self.updates)} updates"
        )
        return "\n".join(
            [head, *map(repr, self.views), *(f"  {part}" for part in self.edits + self.refines + self.updates)]
        )
