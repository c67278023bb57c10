"""The faster number format is taken, and both give the same kind of training."""

import pytest
import torch

from cloisonne.train import precision as module
from cloisonne.train.precision import Precision, autocast, precision


@pytest.mark.parametrize(
    ("float32", "bfloat16", "dtype"),
    [(39.0, 0.6, torch.float32), (100.0, 200.0, torch.bfloat16), (5.0, 5.0, torch.float32)],
)
def test_the_faster_format_is_taken(float32: float, bfloat16: float, dtype: torch.dtype) -> None:
    assert Precision(float32=float32, bfloat16=bfloat16).dtype == dtype


@pytest.mark.parametrize(("rate", "slow"), [(3.0, True), (39.0, False)])
def test_slow_machines_are_named(rate: float, slow: bool) -> None:
    assert ("slow" in str(Precision(float32=rate, bfloat16=0.6))) == slow


def test_the_probe_measures_this_machine() -> None:
    found = precision("cpu")
    assert found is precision("cpu")
    assert found.float32 > 0
    assert found.bfloat16 > 0


@pytest.mark.parametrize(
    ("found", "dtype"),
    [
        (Precision(float32=39.0, bfloat16=0.6), torch.float32),
        (Precision(float32=1.0, bfloat16=2.0), torch.bfloat16),
    ],
)
def test_products_are_cast_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, found: Precision, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(module, "precision", lambda device: found)
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu")):
        assert layer(torch.ones(1, 4)).dtype == dtype
