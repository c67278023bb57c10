"""Deep features that a network reuses between neighbouring steps (DeepCache, arXiv 2312.00858).

The deep layers of a network change little from one step to the next. With an interval of N, they are computed in every
N-th prediction of a batch, and the predictions between them run only the outer layers. Features are of one run, of one
batch of rows and of what conditions them: where a region's interval begins or ends, all layers are computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cloisonne.core.step import Step


@dataclass(frozen=True, kw_only=True)
class ReuseSchedule:
    """In which predictions deep features are reused.

    interval: the deep layers are computed in one of so many predictions; 1 reuses nothing. whole: the fraction of the
    steps, from the first, in which all layers are computed, because the layout of the image forms there.
    """

    interval: int = 1
    whole: float = 0.0


EXACT = ReuseSchedule()
"""All layers in all predictions."""
FAST = ReuseSchedule(interval=3, whole=0.2)
"""The schedule of a scene's ``speed: fast``."""
SCHEDULES: Mapping[str, ReuseSchedule] = {"exact": EXACT, "fast": FAST}
"""By ``Scene.speed``."""


@dataclass(eq=False)
class DeepFeatures:
    """What a network keeps of the deep layers of one batch.

    value: what it computed last, None before that. uses: how often it was reused since. step: the index of the last
    step that computed or reused it.
    """

    value: Tensor | None = None
    uses: int = 0
    step: int = 0


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
        if features is None or features.value is None or not same or not _is_fresh(features, schedule, step):
            features = DeepFeatures()
            self.found[key] = (inputs, features)
        else:
            features.uses += 1
        features.step = step.index
        return features


def _is_fresh(features: DeepFeatures, schedule: ReuseSchedule, step: Step) -> bool:
    near = step.index - features.step <= 1
    return near and step.progress >= schedule.whole and features.uses < schedule.interval - 1
