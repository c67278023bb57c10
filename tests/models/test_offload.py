"""Which networks leave the device when another one runs. Weights cannot leave torch's device "meta", which raises."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from cloisonne.models.checkpoints.assemble import Placement, put

X = torch.zeros(1, 2, device="meta")


def placed() -> list[nn.Module]:
    """Two text encoders, a transformer and an autoencoder."""
    made: list[nn.Module] = [nn.Linear(2, 2) for _ in range(4)]
    put(made, Placement(torch.device("meta"), torch.float32, offload=True), together=made[:2])
    return made


def on_device(modules: Sequence[nn.Module]) -> list[int]:
    return [i for i, module in enumerate(modules) if next(module.parameters()).device.type == "meta"]


def test_text_encoders_stay_together() -> None:
    modules = placed()
    assert on_device(modules) == []
    for _ in range(2):
        for encoder in modules[:2]:
            encoder(X)
    assert on_device(modules) == [0, 1]


@pytest.mark.parametrize(("first", "then"), [(0, 2), (1, 2), (2, 3), (2, 0), (3, 2), (3, 1)])
def test_any_other_network_leaves(first: int, then: int) -> None:
    """In whatever order they run, such as a text after a run that was cancelled in the transformer."""
    modules = placed()
    modules[first](X)
    assert on_device(modules) == [first]
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        modules[then](X)
