"""The state of one run of a plan: counts, caches, what attention edits and refines keep, and recorded attention maps.

Plans and networks are never written to, so that any number of runs can use them at once. A run belongs to one thread.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from cloisonne.core.step import Step

State = TypeVar("State")


@dataclass(frozen=True, kw_only=True)
class ReuseSchedule:
    """In which predictions a network reuses deep features of those before (DeepCache, arXiv 2312.00858).

    Features are of one run, of one batch of rows and of what conditions them: where a region's interval begins or ends,
    all layers are computed.

    interval: the deep layers are computed in one of so many predictions; 1 reuses nothing. whole: the fraction of the
    steps, from the first, in which all layers are computed, because the layout of the image forms there. change: of
    transformers, whose first block always runs: all others run, too, where what it adds has changed by this fraction.
    """

    interval: int = 1
    whole: float = 0.0
    change: float = 0.08


EXACT = ReuseSchedule()
"""All layers in all predictions."""
FAST = ReuseSchedule(interval=3, whole=0.2)
"""The schedule of a scene's ``speed: fast``. Its change is that of ParaAttention's example for FLUX.1."""
SCHEDULES: Mapping[str, ReuseSchedule] = {"exact": EXACT, "fast": FAST}
"""By ``Scene.speed``."""


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """What a transformer keeps of its blocks for one batch row: what the first one and all others add, [1, Q, D]."""

    first: Tensor
    others: Tensor


@dataclass(eq=False)
class DeepFeatures:
    """What a network keeps of the deep layers of one batch.

    value: what a UNet computed last, None before that. rows: the same of a transformer, by the number of the row.
    change: of the schedule. uses: how often they were reused since. step: the index of the last step that computed or
    reused them. reused: whether the network did in its last forward, which it sets.
    """

    value: Tensor | None = None
    rows: dict[int, RowFeatures] = field(default_factory=dict[int, RowFeatures])
    change: float = FAST.change
    uses: int = 0
    step: int = 0
    reused: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing was computed yet."""
        return self.value is None and not self.rows


@dataclass(eq=False)
class FeatureCaches:
    """The deep features of a run's batches, with what they were computed for, by network and rows."""

    found: dict[Any, tuple[tuple[Any, ...], DeepFeatures]] = field(default_factory=dict)

    def of(self, key: Any, inputs: tuple[Any, ...], schedule: ReuseSchedule, step: Step) -> DeepFeatures | None:
        """The features of a batch: with a value to reuse, or without one, to compute; None where nothing is reused.

        inputs: what conditions the batch; features are reused for these objects alone, not for equal ones, and only
        in the step that computed or reused them last and in the next one.
        """
        if schedule.interval <= 1:
            return None
        earlier, features = self.found.get(key, ((), None))
        same = len(earlier) == len(inputs) and all(a is b for a, b in zip(earlier, inputs, strict=True))
        if features is None or features.empty or not same or not _is_fresh(features, schedule, step):
            features = DeepFeatures(change=schedule.change)
            self.found[key] = (inputs, features)
        else:
            features.uses += 1
        features.step = step.index
        return features


def _is_fresh(features: DeepFeatures, schedule: ReuseSchedule, step: Step) -> bool:
    near = step.index - features.step <= 1
    return near and step.progress >= schedule.whole and features.uses < schedule.interval - 1


class AttentionReadings:
    """The attention maps that one reader recorded: sums by batch row and step index, on the device."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Hashable, int], tuple[Tensor, int]] = {}

    def add(self, row: Hashable, step: int, maps: Tensor) -> None:
        """Record the maps [W, h, w] of one attention layer."""
        maps = maps.detach().float()
        total, count = self._sums.get((row, step), (torch.zeros_like(maps), 0))
        self._sums[row, step] = (total + maps, count + 1)

    def extend(self, other: "AttentionReadings") -> None:
        """Record what another one recorded."""
        for key, (maps, layers) in other._sums.items():
            total, count = self._sums.get(key, (torch.zeros_like(maps), 0))
            self._sums[key] = (total + maps, count + layers)

    @property
    def steps(self) -> tuple[int, ...]:
        """The indices of the steps with a reading."""
        return tuple(sorted({step for _, step in self._sums}))

    def mean(self, step: int | None = None) -> Tensor | None:
        """[W, h, w] in [0, 1]: the mean over rows of the mean over layers, images and steps, or of one step.

        None where nothing was recorded.
        """
        by_row: dict[Hashable, list[tuple[Tensor, int]]] = {}
        for (row, index), reading in self._sums.items():
            if step in (None, index):
                by_row.setdefault(row, []).append(reading)
        means = [
            torch.stack([total for total, _ in own]).sum(0) / sum(count for _, count in own) for own in by_row.values()
        ]
        return torch.stack(means).mean(0) if means else None


@dataclass(eq=False)
class Run:
    """What one run of a plan counts, caches and records between its denoising steps.

    forwards, rows: forward passes (control networks included), and rows of all their batches. maps: recorded attention
    maps by reader. scenes: in a run of a merged plan, a run for each scene, which gets the counts of its own rows.
    parent: a run that gets the counts, too. reuse: when networks reuse deep features. reused: the forwards that did.
    """

    forwards: int = 0
    rows: int = 0
    maps: dict[Hashable, AttentionReadings] = field(default_factory=dict)
    scenes: "Mapping[str, Run]" = field(default_factory=lambda: dict[str, Run]())
    parent: "Run | None" = None
    reuse: ReuseSchedule = EXACT
    reused: int = 0
    _states: dict[Hashable, Any] = field(default_factory=dict)

    def state(self, owner: Hashable, make: Callable[[], State]) -> State:
        """What ``owner`` keeps in this run, made by ``make`` at the first request."""
        if owner not in self._states:
            self._states[owner] = make()
        return self._states[owner]

    def part(self) -> "Run":
        """A run with a state of its own, whose counts and attention maps belong to this run, too."""
        return Run(maps=self.maps, parent=self, reuse=self.reuse)

    def add(self, other: "Run") -> None:
        """Count the forwards of another run as well."""
        self.forwards, self.rows = self.forwards + other.forwards, self.rows + other.rows
        self.reused += other.reused

    def count(self, scenes: Iterable[str], *, reused: bool = False) -> None:
        """Count one forward. scenes: the name of each row's scene, "" outside of a merged plan."""
        rows = Counter(scenes)
        self._add(rows.total(), reused)
        for scene, number in rows.items():
            if scene in self.scenes:
                self.scenes[scene]._add(number, reused)

    def _add(self, rows: int, reused: bool) -> None:
        self.forwards += 1
        self.rows += rows
        self.reused += reused
        if self.parent is not None:
            self.parent._add(rows, reused)
