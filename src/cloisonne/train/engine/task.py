"""The interface between the trainer and a kind of training: examples, trained parameters, loss and output."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cloisonne.train.engine.examples import Batch, Examples


class Task(Protocol):
    """One kind of training, instantiated for one run.

    Attributes:
        examples: The training examples.
        student: All networks that the loss evaluates.
        trained: The parameters that are trained, by name.
        facts: Values that a resumed run must not change, in addition to the settings.
        warnings: Sentences about the data.
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
        """Scalar loss of a batch. student: as wrapped by accelerate. autocast: context of the frozen networks."""
        ...

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the result and ``record`` (how it was trained) to the output. May modify the student."""
        ...


Maker = Callable[[Any, torch.device], Task]
"""(settings, device) -> task. Raises TrainingError or CheckpointError."""
