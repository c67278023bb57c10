"""Where the mask is 0 the network is the base, and of all networks only the adapter is trained."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_checkpoint
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.train.control.settings import Settings
from cloisonne.train.control.task import ControlTask
from cloisonne.train.engine import trainer
from cloisonne.train.engine.examples import Batch, PositionSampler, batches

CPU = torch.device("cpu")
Quick = Callable[..., Settings]
SD_LIKE = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
"""Attention on the first level, as Stable Diffusion 1.x has it."""


@pytest.fixture(scope="module")
def sd_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("like"), unet=SD_LIKE)


def first_batch(task: ControlTask, settings: Settings) -> Batch:
    stream: Iterator[Batch] = batches(
        task.examples, PositionSampler(settings, rank=0, world=1, first=0, last=1), 0, CPU
    )
    return next(stream)


def answers(task: ControlTask, batch: Batch, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The student's, and that of the base without an adapter."""
    student: Any = task.student
    z, ids, t = batch["noise"], batch["ids"], batch["t"]
    with torch.no_grad():
        ours = student(z, batch["map"], mask, ids, t)
        hidden_states = student.text(ids).last_hidden_state
        base = student.unet(z, t, encoder_hidden_states=hidden_states).sample
    return ours, base


@pytest.mark.parametrize("base", ["tiny_sd", "sd_like", "tiny_family"])
def test_masked_features_of_mask_0_are_the_base_exactly(
    quick: Quick, base: str, request: pytest.FixtureRequest
) -> None:
    settings = quick(base=str(request.getfixturevalue(base)))
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    ours, plain = answers(task, batch, torch.zeros_like(batch["mask"]))
    assert torch.equal(ours, plain)
    ours, plain = answers(task, batch, torch.ones_like(batch["mask"]))
    assert not torch.allclose(ours, plain, atol=1e-4)


def test_a_masked_map_of_mask_0_is_not_the_base(quick: Quick) -> None:
    """An adapter's biases speak where its map is empty."""
    settings = quick(masked="map")
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    nothing = torch.zeros_like(batch["mask"])
    ours, plain = answers(task, batch, nothing)
    assert not torch.allclose(ours, plain, atol=1e-4)
    batch["map"] = 1 - batch["map"]
    again, _ = answers(task, batch, nothing)
    assert torch.equal(ours, again), "but nothing of the map is seen"


def features_given(task: ControlTask, batch: Batch, mask: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the UNet's levels get."""
    seen: list[Tensor] = []
    student: Any = task.student
    own = student.unet.forward

    def watched(*args: Any, **given: Any) -> Any:
        seen.extend(given["down_intrablock_additional_residuals"])
        return own(*args, **given)

    monkeypatch.setattr(student.unet, "forward", watched)
    with torch.no_grad():
        student(batch["noise"], batch["map"], mask, batch["ids"], batch["t"])
    return seen


def test_the_mask_is_soft_at_every_level(quick: Quick, sd_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of 20 of 64 columns: 2 1/2 of the 8 of the first level, 1 1/4 of the 4 of the second."""
    settings = quick(base=str(sd_like))
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    mask = torch.zeros_like(batch["mask"])
    mask[..., :20] = 1
    masked = features_given(task, batch, mask, monkeypatch)
    student: Any = task.student
    with torch.no_grad():
        levels = student.adapter(batch["map"])
    softs = [torch.tensor([1, 1, 0.5, 0, 0, 0, 0, 0]), torch.tensor([1, 0.25, 0, 0])]
    assert [level.shape[-1] for level in levels] == [8, 4]
    for ours, level, soft in zip(masked, levels, softs, strict=True):
        torch.testing.assert_close(ours, level * soft, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("base", "kind"), [("tiny_sd", "full_adapter_xl"), ("sd_like", "full_adapter")])
def test_the_adapters_form_is_the_bases(quick: Quick, base: str, kind: str, request: pytest.FixtureRequest) -> None:
    task = ControlTask(quick(base=str(request.getfixturevalue(base)), num_res_blocks=3), CPU)
    student: Any = task.student
    config = student.adapter.config
    assert (config.adapter_type, config.channels, config.num_res_blocks) == (kind, [8, 16], 3)


@pytest.mark.parametrize(("kind", "channels"), [("canny", 1), ("sobel", 1), ("color", 3)])
def test_maps_of_colours_have_three_channels(quick: Quick, kind: str, channels: int) -> None:
    settings = quick(kind=kind)
    task = ControlTask(settings, CPU)
    student: Any = task.student
    assert student.adapter.config.in_channels == channels
    assert first_batch(task, settings)["map"].shape[1] == channels
    assert float(task.loss(task.student, first_batch(task, settings), nullcontext()).detach()) > 0


def test_the_initial_adapter_depends_on_the_seed(quick: Quick) -> None:
    made = [ControlTask(quick(seed=seed), CPU).trained for seed in (0, 0, 1)]
    name = "adapter.adapter.conv_in.weight"
    assert torch.equal(made[0][name], made[1][name])
    assert not torch.equal(made[0][name], made[2][name])


def test_a_given_adapter_is_begun_with(quick: Quick, tmp_path: Path) -> None:
    trainer.train(quick(), ControlTask, lambda line: None)
    task = ControlTask(quick(adapter=str(tmp_path / "out"), num_res_blocks=3, seed=5), CPU)
    given = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert len(given) == len(task.trained) > 10
    for name, values in given.items():
        assert torch.equal(task.trained[f"adapter.{name}"], values), name
    settings = quick()
    task.loss(task.student, first_batch(task, settings), nullcontext()).backward()
    assert all(p.grad is not None for p in task.trained.values())


def test_an_adapter_for_other_maps_or_another_base_is_refused(quick: Quick, tmp_path: Path, sd_like: Path) -> None:
    trainer.train(quick(), ControlTask, lambda line: None)
    given = str(tmp_path / "out")
    with pytest.raises(CheckpointError, match='maps of 1 channels, and "color" has 3'):
        ControlTask(quick(adapter=given, kind="color"), CPU)
    with pytest.raises(CheckpointError, match="does not fit"):
        ControlTask(quick(adapter=given, base=str(sd_like)), CPU)


def test_only_the_adapter_learns(quick: Quick) -> None:
    settings = quick()
    task = ControlTask(settings, CPU)
    assert all(name.startswith("adapter.") for name in task.trained)
    task.loss(task.student, first_batch(task, settings), nullcontext()).backward()
    learning = {name for name, p in task.student.named_parameters() if p.grad is not None}
    assert learning == set(task.trained)
    assert all(bool(p.grad.any()) for name, p in task.trained.items() if name.endswith("weight") and p.grad is not None)


@pytest.mark.parametrize("edges", ["none", "plain"])
def test_a_batch_can_be_learned(quick: Quick, edges: str) -> None:
    """By the adapter alone, of the error of the noise as of the clean latents."""
    settings = quick(x0_loss=edges, x0_weight=1.0, mask="none", kind="color")
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    optimiser = torch.optim.AdamW(task.trained.values(), lr=1e-2)
    losses = []
    for _ in range(14):
        loss = task.loss(task.student, batch, nullcontext())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]


def test_the_bases_networks_are_the_same_to_the_byte_after_training(quick: Quick, tiny_sd: Path) -> None:
    made: list[ControlTask] = []

    def make(settings: Settings, device: torch.device) -> ControlTask:
        made.append(ControlTask(settings, device))
        return made[0]

    trainer.train(quick(learning_rate=1e-2), make, lambda line: None)
    model: Any = made[0]._model
    networks = {
        "unet/diffusion_pytorch_model": model.net.unet,
        "text_encoder/model": model.text.modules[0],
        "vae/diffusion_pytorch_model": model.vae.module,
    }
    for member, network in networks.items():
        theirs = load_file(tiny_sd / f"{member}.safetensors")
        ours = {name.removeprefix("text_model."): values for name, values in network.state_dict().items()}
        assert len(theirs) > 10
        for name, values in theirs.items():
            assert ours[name.removeprefix("text_model.")].numpy().tobytes() == values.numpy().tobytes(), name


def losses(quick: Quick, **changes: Any) -> float:
    """Of the first batch, before any step."""
    settings = quick(**changes)
    task = ControlTask(settings, CPU)
    return float(task.loss(task.student, first_batch(task, settings), nullcontext()).detach())


def test_the_loss_on_clean_latents_is_added_by_its_weight(quick: Quick) -> None:
    plain = losses(quick, x0_loss="none")
    assert losses(quick, x0_weight=0.0) == plain
    once, twice = (losses(quick, x0_weight=weight) - plain for weight in (0.5, 1.0))
    assert once > 0
    assert twice == pytest.approx(2 * once, rel=1e-3)


def test_kinds_schedules_and_areas_of_that_loss_differ(quick: Quick) -> None:
    values = [
        losses(quick, x0_weight=1.0, **changes)
        for changes in (
            {},
            {"x0_loss": "laplacian"},
            {"x0_loss": "plain"},
            {"x0_schedule": "time"},
            {"normalize_by_area": True},
        )
    ]
    assert len(set(values)) == len(values)


def test_the_step_schedule_leaves_it_out_where_there_is_little_noise(quick: Quick) -> None:
    settings = quick(x0_schedule="step", x0_weight=1.0)
    task, plain = ControlTask(settings, CPU), ControlTask(quick(x0_loss="none"), CPU)
    batch = first_batch(task, settings)
    for level, added in ((499, False), (500, True)):
        batch["t"] = torch.full_like(batch["t"], level)
        ours, theirs = (float(one.loss(one.student, batch, nullcontext()).detach()) for one in (task, plain))
        assert (ours > theirs) == added
        assert ours >= theirs


@pytest.mark.parametrize("base", ["tiny_sd", "tiny_family"])
def test_a_perfect_network_has_no_loss_whatever_the_base_predicts(
    quick: Quick, base: str, request: pytest.FixtureRequest
) -> None:
    """For epsilon and v prediction, the estimate then equals the clean latents."""
    settings = quick(base=str(request.getfixturevalue(base)), x0_weight=1.0)
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    batch["t"] = torch.tensor([200, 600])
    z0 = task._diffusion.latents(batch["pixels"], batch["posterior"], nullcontext())
    right = task._diffusion.target(z0, batch["noise"], batch["t"])
    perfect: Any = lambda *inputs: right  # noqa: E731
    assert float(task.loss(perfect, batch, nullcontext())) == pytest.approx(0, abs=1e-8)
    wrong: Any = lambda *inputs: right + 0.1 * torch.randn_like(right)  # noqa: E731
    assert float(task.loss(wrong, batch, nullcontext())) > 1e-3


@pytest.mark.parametrize("base", ["tiny_sd", "tiny_family"])
@pytest.mark.parametrize("weighting", ["network", "epsilon", "min_snr"])
def test_the_weight_of_the_denoising_loss_measures_the_error_it_names(
    quick: Quick, base: str, weighting: str, request: pytest.FixtureRequest
) -> None:
    """Against the errors of noise and clean latents themselves."""
    settings = quick(base=str(request.getfixturevalue(base)), x0_loss="none", loss_weighting=weighting)
    task = ControlTask(settings, CPU)
    batch = first_batch(task, settings)
    diffusion, noise = task._diffusion, batch["noise"]
    z0 = diffusion.latents(batch["pixels"], batch["posterior"], nullcontext())
    for level in (20, 300, 900):
        batch["t"] = torch.full_like(batch["t"], level)
        alpha, s = diffusion.levels(batch["t"])
        z = diffusion.noised(z0, noise, batch["t"])
        output = diffusion.target(z0, noise, batch["t"]) + 0.3 * torch.randn_like(z0)
        estimate = diffusion.clean(output, z, batch["t"])
        of_noise = ((z - alpha * estimate) / s - noise).square().mean()
        of_clean = ((alpha / s).square().clamp(max=5) * (estimate - z0).square()).mean()
        own = (output - diffusion.target(z0, noise, batch["t"])).square().mean()
        expected = {"network": own, "epsilon": of_noise, "min_snr": of_clean}[weighting]
        answer: Any = lambda *inputs, output=output: output  # noqa: E731
        assert float(task.loss(answer, batch, nullcontext())) == pytest.approx(float(expected), rel=1e-3)
