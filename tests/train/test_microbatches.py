"""Microbatches of a batch on threads: the gradient of the whole, the same each time, and nothing left behind."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from cloisonne.train.microbatches import Loss, Microbatches

ROWS = 12


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def losses(model: nn.Module, count: int) -> tuple[Loss, ...]:
    """Equal parts of one batch, which the step decides."""

    def part(rows: slice) -> Loss:
        def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
            x = torch.randn(ROWS, 6, generator=torch.Generator().manual_seed(step))[rows]
            error = (model(x)[:, 0] - x.sum(1)).square().mean()
            return error, {"error": float(error.detach()), **({"first": 1.0} if rows.start == 0 else {})}

        return loss

    return tuple(part(slice(k, None, count)) for k in range(count))


def gradients(count: int, step: int = 3) -> tuple[list[Tensor], dict[str, float]]:
    model = network()
    with Microbatches(losses(model, count), list(model.parameters())) as parts:
        figures = parts.backward(step, 0.5)
    found = [p.grad for p in model.parameters()]
    assert all(g is not None for g in found)
    return [g for g in found if g is not None], figures


@pytest.mark.parametrize("count", [2, 3, 4])
def test_parts_give_the_gradient_and_the_figures_of_the_whole(count: int) -> None:
    (whole, expected), (shared, figures) = gradients(1), gradients(count)
    for a, b in zip(whole, shared, strict=True):
        torch.testing.assert_close(a, b)
    assert figures["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert figures["error"] == pytest.approx(expected["error"], rel=1e-5)
    assert figures["first"] == 1, "a metric of one microbatch is not diluted"


def test_parts_repeat_bit_for_bit() -> None:
    first, _ = gradients(3)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, gradients(3)[0], strict=True))


def test_what_no_part_needs_has_no_gradient() -> None:
    model, unused = network(), nn.Parameter(torch.zeros(3))
    with Microbatches(losses(model, 2), [*model.parameters(), unused]) as parts:
        parts.backward(0, 0.0)
    assert unused.grad is None


def test_threads_are_given_back_even_after_an_error() -> None:
    model = network()

    def broken(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        raise ValueError(f"step {step}")

    def use() -> None:
        with Microbatches((*losses(model, 1), broken), list(model.parameters())) as parts:
            assert torch.get_num_threads() == 1
            parts.backward(7, 0.0)

    with pytest.raises(ValueError, match="step 7"):
        use()
    assert torch.get_num_threads() == 2
