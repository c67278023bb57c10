"""The plug of the trainer: what is trained, on which examples, by which loss, and how it is written."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cloisonne.train.engine.examples import Batch, Examples


class Task(Protocol):
    """One kind of training, made for one run.

    student: all networks that the loss asks; ``trained`` names the parameters that change. facts: what a resumed run
    must share with the one it continues, beside the settings. warnings: sentences about the data.
    """

    @property
    def examples(self) -> Examples: ...

    @property
    def student(self) -> nn.Module: ...

    @property
    def trained(self) -> dict[str, nn.Parameter]: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    @property
    def warnings(self) -> tuple[str, ...]: ...

    def loss(self, student: nn.Module, batch: Batch, autocast: Any) -> Tensor:
        """A number, of a batch. student: the task's, as accelerate wrapped it. autocast: for what is frozen."""
        ...

    def write(self, record: Mapping[str, Any]) -> None:
        """Leave the result in the run's output; ``record`` says how it was made. The student may be spent."""
        ...


Maker = Callable[[Any, torch.device], Task]
"""(settings, device) to the task; raises TrainingError and CheckpointError where there is none."""
