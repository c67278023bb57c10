"""Training in slices is the same as training in one go, to the last bit, and the average is what comes out.

The clock is a counter: a step takes a second, so budgets, slices and the learning rate's fall are exact.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cloisonne.errors import OutputError
from cloisonne.train import loop
from cloisonne.train.loop import Stage, load_average, replacing, run

STEPS = 60


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Toy(nn.Module):
    """Something for each part of the optimiser: a convolution, a norm, an embedding, first and last layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(2, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.embed = nn.Embedding(5, 8)
        self.conv_out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        hidden = self.norm(self.middle(self.conv_in(x).relu())) + self.embed(ids)[:, :, None, None]
        return self.conv_out(hidden)


def toy() -> Toy:
    torch.manual_seed(1)
    return Toy()


def stage(
    clock: Clock, model: nn.Module, *, frozen: tuple[str, ...] = (), seen: Callable[[int, float], None] | None = None
) -> Stage:
    """Denoising synthetic images; a step draws from torch's global generator, as real stages do."""

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        clock.now += 1
        if seen:
            seen(step, progress)
        x, noise, ids = torch.randn(4, 2, 6, 6), torch.randn(4, 2, 6, 6), torch.randint(5, (4,))
        error = (model(x + progress * noise, ids) - x).square().mean()
        return error, {"error": float(error.detach())}

    return Stage(
        name="toy",
        modules={"toy": model},
        loss=loss,
        minutes=STEPS / 60,
        pictures_per_step=4,
        lr=0.01,
        outer=("conv_in", "conv_out"),
        frozen=frozen,
        ema=0.9,
        warmup=10,
    )


def quiet(line: str) -> None:
    pass


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("slice_minutes", [7 / 60, 0.5, 59 / 60])
def test_slices_equal_one_go_bit_for_bit(tmp_path: Path, clock: Clock, slice_minutes: float) -> None:
    """Each slice in a new module and with another state of torch's generator, as in a new process."""
    whole = toy()
    assert run(stage(clock, whole), tmp_path / "whole", report=quiet)
    finished, slices, model = False, 0, whole
    while not finished:
        model = toy()
        torch.manual_seed(slices)
        finished = run(stage(clock, model), tmp_path / "slices", slice_minutes=slice_minutes, report=quiet)
        slices += 1
    assert slices == -(-1 // slice_minutes)
    assert same(model, whole)
    one, many = (saved(tmp_path / name) for name in ("whole", "slices"))
    assert one.keys() == many.keys()
    assert all(torch.equal(one[key], many[key]) for key in one)


def test_run_that_is_killed_goes_on_from_its_last_checkpoint(tmp_path: Path, clock: Clock) -> None:
    whole, killed, resumed = toy(), toy(), toy()
    run(stage(clock, whole), tmp_path / "whole", report=quiet)
    steps: list[int] = []

    def kill(step: int, progress: float) -> None:
        if step == 37:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stage(clock, killed, seen=kill), tmp_path / "killed", report=quiet, checkpoint_seconds=10)
    resuming = stage(clock, resumed, seen=lambda step, progress: steps.append(step))
    assert run(resuming, tmp_path / "killed", report=quiet)
    assert 37 - 11 <= steps[0] < 37
    assert steps == list(range(steps[0], STEPS))
    assert same(resumed, whole)


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors that the state names; no other file is left."""
    name = json.loads((folder / "state.json").read_text())["tensors"]
    assert sorted(file.name for file in folder.iterdir()) == sorted([name, "state.json"])
    return load_file(folder / name)


def test_a_run_stopped_while_writing_finds_the_state_before(tmp_path: Path, clock: Clock) -> None:
    run(stage(clock, toy()), tmp_path, slice_minutes=0.5, report=quiet)
    step = json.loads((tmp_path / "state.json").read_text())["progress"]["step"]
    (tmp_path / f"state-{step + 1}.safetensors.partial").write_bytes(b"half")
    (tmp_path / f"state-{step + 1}.safetensors").write_bytes(b"whole, but not named yet")
    model, whole = toy(), toy()
    run(stage(clock, model), tmp_path, report=quiet)
    run(stage(clock, whole), tmp_path / "other", report=quiet)
    assert same(model, whole)
    saved(tmp_path / "other")


def test_budget_is_spent_once(tmp_path: Path, clock: Clock) -> None:
    calls: list[tuple[int, float]] = []
    watching = stage(clock, toy(), seen=lambda step, progress: calls.append((step, progress)))
    assert not run(watching, tmp_path, slice_minutes=0.5, report=quiet)
    assert run(watching, tmp_path, report=quiet)
    assert calls == [(step, pytest.approx(step / STEPS)) for step in range(STEPS)]
    assert run(watching, tmp_path, report=quiet)
    assert len(calls) == STEPS
    state = json.loads((tmp_path / "state.json").read_text())["progress"]
    assert (state["step"], state["pictures"], state["seconds"]) == (STEPS, 4 * STEPS, STEPS)


def test_learning_rate_rises_and_falls(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[float] = []

    class Recorded(loop.Mixed):
        def step(self, scale: float, *args: Any, **options: Any) -> float:
            scales.append(scale)
            return super().step(scale, *args, **options)

    monkeypatch.setattr(loop, "Mixed", Recorded)
    run(stage(clock, toy()), tmp_path, report=quiet)
    assert scales[:10] == pytest.approx([0.1 * (k + 1) for k in range(10)])
    assert scales[10:37] == [1.0] * 27
    assert scales[36:] == sorted(scales[36:], reverse=True)
    assert scales[48] == pytest.approx(0.5)
    assert 0.02 <= scales[-1] < 0.06


def test_average_comes_out_when_the_stage_is_finished(tmp_path: Path, clock: Clock) -> None:
    model, other = toy(), toy()
    run(stage(clock, model), tmp_path, slice_minutes=0.5, report=quiet)
    tensors = saved(tmp_path)
    assert torch.equal(model.middle.weight, tensors["now.toy.middle.weight"])
    run(stage(clock, model), tmp_path, report=quiet)
    tensors = saved(tmp_path)
    assert torch.equal(model.middle.weight, tensors["ema.toy.middle.weight"])
    assert not torch.equal(model.middle.weight, tensors["now.toy.middle.weight"])
    progress = load_average(tmp_path, {"toy": other})
    assert progress.step == STEPS
    assert same(other, model)


def test_frozen_parts_stay_and_take_no_room(tmp_path: Path, clock: Clock) -> None:
    model, before = toy(), toy()
    run(stage(clock, model, frozen=("toy.conv_in", "toy.norm")), tmp_path, report=quiet)
    assert torch.equal(model.conv_in.weight, before.conv_in.weight)
    assert torch.equal(model.norm.bias, before.norm.bias)
    assert not torch.equal(model.middle.weight, before.middle.weight)
    assert not [key for key in saved(tmp_path) if "conv_in" in key or ".norm" in key]


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_the_state_of_another_network_is_refused(tmp_path: Path, clock: Clock, change: str) -> None:
    run(stage(clock, toy()), tmp_path, slice_minutes=0.5, report=quiet)
    before = (tmp_path / "state.json").read_bytes()
    made = stage(clock, toy())
    name, module = next(iter(made.modules.items()))
    parameter, tensor = next(iter(module.named_parameters()))
    if change == "missing":
        module.register_parameter("added", nn.Parameter(torch.zeros(3)))
        expected = f"{name}.added"
    else:
        holder = module.get_submodule(parameter.rpartition(".")[0])
        setattr(holder, parameter.rpartition(".")[2], nn.Parameter(torch.zeros(*tensor.shape, 2)))
        expected = f"{name}.{parameter}"
    with pytest.raises(OutputError, match=expected):
        run(made, tmp_path, report=quiet)
    assert (tmp_path / "state.json").read_bytes() == before


def test_training_lowers_the_loss(tmp_path: Path, clock: Clock) -> None:
    lines: list[str] = []
    longer = stage(clock, toy())
    longer.minutes = 200 / 60
    run(longer, tmp_path, report=lines.append)
    errors = [json.loads(line.removeprefix("toy "))["error"] for line in lines]
    assert len(errors) == 4
    assert errors[-1] < 0.8 * errors[0]


def test_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    def stopped() -> None:
        with replacing(path) as partial:
            partial.write_text("half of the n")
            raise KeyboardInterrupt

    with replacing(path) as partial:
        partial.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
