"""Muon and AdamW as one optimiser: who gets what, and a state that goes through plain tensors."""

import pytest
import torch
from torch import Tensor, nn

from cloisonne.train.optimiser import Mixed


def network() -> nn.Module:
    torch.manual_seed(2)
    return nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(3, 6, 3),
            "conv": nn.Conv2d(6, 6, 3),
            "linear": nn.Linear(6, 4),
            "embed": nn.Embedding(7, 4),
        }
    )


def optimiser(model: nn.Module, **options: float) -> Mixed:
    return Mixed(model.named_parameters(), lr=0.01, outer=("conv_in",), **options)


def gradients(model: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=rng)


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_state_goes_through_tensors_bit_for_bit() -> None:
    whole, first, second = network(), network(), network()
    one, before, after = optimiser(whole), optimiser(first), optimiser(second)
    for step in range(6):
        gradients(whole, step)
        one.step(1.0)
    for step in range(3):
        gradients(first, step)
        before.step(1.0)
    second.load_state_dict(first.state_dict())
    after.load({name: tensor.clone() for name, tensor in before.tensors().items()})
    for step in range(3, 6):
        gradients(second, step)
        after.step(1.0)
    assert all(torch.equal(a, b) for a, b in zip(values(whole).values(), values(second).values(), strict=True))
    assert one.tensors().keys() == after.tensors().keys()
    assert all(torch.equal(one.tensors()[name], after.tensors()[name]) for name in one.tensors())


def test_state_counts() -> None:
    """Without its state an optimiser goes elsewhere, so the test above can fail."""
    whole, fresh = network(), network()
    one = optimiser(whole)
    for step in range(3):
        gradients(whole, step)
        one.step(1.0)
    fresh.load_state_dict(whole.state_dict())
    gradients(whole, 3)
    one.step(1.0)
    gradients(fresh, 3)
    optimiser(fresh).step(1.0)
    for name, value in values(whole).items():
        assert not torch.equal(value, values(fresh)[name]), name


def test_matrices_inside_get_muon_and_the_rest_adam() -> None:
    """Muon's update has equal singular values whatever the gradient's; Adam's first has equal sizes."""
    model = network()
    before = values(model)
    rng = torch.Generator().manual_seed(0)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=rng) * torch.logspace(-1, 1, p.shape[0]).view(-1, *[1] * (p.ndim - 1))
    Mixed(model.named_parameters(), lr=0.01, weight_decay=0.0, outer=("conv_in",)).step(1.0)
    moved = {name: before[name] - value for name, value in values(model).items()}
    for name in ("conv.weight", "linear.weight"):
        spread = torch.linalg.svdvals(moved[name].flatten(1))
        assert spread.max() / spread.min() < 2
    for name in ("conv_in.weight", "embed.weight", "conv.bias", "linear.bias"):
        assert moved[name].abs().mean() == pytest.approx(0.01, rel=0.05)


def test_scale_is_of_the_learning_rate() -> None:
    half, whole = network(), network()
    start = values(half)
    for model, scale in ((half, 0.5), (whole, 1.0)):
        gradients(model, 0)
        optimiser(model, weight_decay=0.0).step(scale)
    for name, value in start.items():
        torch.testing.assert_close(2 * (values(half)[name] - value), values(whole)[name] - value, rtol=1e-4, atol=1e-6)


def test_gradients_are_measured_clipped_and_cleared() -> None:
    model = network()
    gradients(model, 0)
    expected = sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None) ** 0.5
    assert optimiser(model).step(1.0) == pytest.approx(float(expected))
    assert all(p.grad is None for p in model.parameters())


def test_convolutions_share_their_storage_with_the_matrix_that_is_updated() -> None:
    model = network()
    before = values(model)["conv.weight"]
    storage = model["conv"].weight.data_ptr()
    gradients(model, 0)
    optimiser(model).step(1.0)
    assert model["conv"].weight.data_ptr() == storage
    assert not torch.equal(model["conv"].weight, before)
