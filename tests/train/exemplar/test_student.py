"""The widened UNet starts equal to the base, and exactly the intended parameters are trained."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from tiny import tiny_unet, write_exemplar
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from cloisonne.errors import CheckpointError, TrainingError
from cloisonne.train.engine.examples import Batch, PositionSampler, batches
from cloisonne.train.exemplar.settings import Settings
from cloisonne.train.exemplar.student import widen
from cloisonne.train.exemplar.task import ExemplarTask, read_tower, train

CPU = torch.device("cpu")
Quick = Callable[..., Settings]


def first_batch(task: ExemplarTask, settings: Settings) -> Batch:
    stream: Iterator[Batch] = batches(
        task.examples, PositionSampler(settings, rank=0, world=1, first=0, last=1), 0, CPU
    )
    return next(stream)


def gradients(settings: Settings, *, conditioned: bool) -> dict[str, Tensor]:
    """Non-zero gradients of the loss of the first batch, by name; all rows are conditioned or none."""
    task = ExemplarTask(settings, CPU)
    batch = first_batch(task, settings)
    batch["conditioned"] = torch.full_like(batch["conditioned"], conditioned)
    task.loss(task.student, batch, nullcontext()).backward()
    return {name: p.grad for name, p in task.student.named_parameters() if p.grad is not None and bool(p.grad.any())}


@pytest.mark.parametrize("level", [0, 500, 999])
def test_the_widened_unet_is_the_base_whatever_mask_and_masked_latents(level: int) -> None:
    unet = tiny_unet().eval()
    z, hidden_states, t = torch.randn(2, 4, 8, 8), torch.randn(2, 1, 16), torch.tensor([level])
    with torch.no_grad():
        before = unet(z, t, encoder_hidden_states=hidden_states).sample
        widen(unet)
        assert unet.config.in_channels == unet.conv_in.in_channels == 9
        for keep in (torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8), torch.rand(2, 1, 8, 8)):
            wide = torch.cat([z, 100 * torch.randn(2, 4, 8, 8), keep], 1)
            after = unet(wide, t, encoder_hidden_states=hidden_states).sample
            torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_the_new_channels_receive_gradients() -> None:
    """So the equality above comes from zero weights, not from a missing connection."""
    unet = tiny_unet()
    widen(unet)
    unet(torch.randn(1, 9, 8, 8), 500, encoder_hidden_states=torch.randn(1, 1, 16)).sample.square().mean().backward()
    assert (unet.conv_in.weight.grad[:, 4:].abs().amax((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("more", [{}, {"lora": True}], ids=["whole", "lora"])
def test_conditioned_images_train_the_mapper_and_not_the_null_token(quick: Quick, more: dict[str, Any]) -> None:
    named = gradients(quick(**more), conditioned=True)
    learning = {name.split(".")[1] for name in named if name.startswith("encoder.")}
    assert learning == {"mapper", "norm", "project"}
    assert {name.split(".")[2] for name in named if name.startswith("encoder.mapper")} == {"0", "1"}
    assert "unet.conv_in.weight" in named


@pytest.mark.parametrize("more", [{}, {"lora": True}], ids=["whole", "lora"])
def test_unconditional_images_train_the_null_token_and_not_the_mapper(quick: Quick, more: dict[str, Any]) -> None:
    named = gradients(quick(**more), conditioned=False)
    assert [name for name in named if name.startswith("encoder.")] == ["encoder.null"]
    assert "unet.conv_in.weight" in named


def test_with_adapters_the_unets_own_weights_but_the_first_layers_stay(quick: Quick) -> None:
    task = ExemplarTask(quick(lora=True, rank=3), CPU)
    own = {name.removeprefix("unet.") for name in task.trained if name.startswith("unet.") and "lora" not in name}
    assert own == {"conv_in.weight", "conv_in.bias"}
    low = {p.shape[0] for name, p in task.trained.items() if "lora_A" in name}
    assert low == {3}


def test_training_starts_from_an_earlier_adapter(quick: Quick, tmp_path: Path) -> None:
    """The network then equals the merged result of the earlier training."""
    settings = quick(lora=True, rank=3, learning_rate=1e-2)
    train(settings, lambda line: None)
    task = ExemplarTask(quick(lora=True, rank=3, adapter=str(tmp_path / "out" / "adapter"), seed=4), CPU)
    given = load_file(tmp_path / "out" / "adapter" / "model.safetensors")
    assert len(given) == len(task.trained) > 10
    assert all(torch.equal(p, given[name]) for name, p in task.student.adapter().items())
    left: Any = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet")
    z, hidden_states, t = torch.randn(2, 9, 8, 8), torch.randn(2, 1, 16), torch.tensor([300])
    with torch.no_grad():
        ours, theirs = (unet(z, t, encoder_hidden_states=hidden_states).sample for unet in (task.student.unet, left))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_an_adapter_of_another_rank_or_none_is_refused(quick: Quick, tmp_path: Path) -> None:
    train(quick(lora=True, rank=3), lambda line: None)
    given = str(tmp_path / "out" / "adapter")
    with pytest.raises(CheckpointError, match=r"is \[3, .* there and \[2, .*--rank"):
        ExemplarTask(quick(lora=True, rank=2, adapter=given), CPU)
    with pytest.raises(CheckpointError, match="training with --lora"):
        ExemplarTask(quick(lora=True, adapter=str(tmp_path / "out" / "unet")), CPU)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        ExemplarTask(quick(lora=True, adapter=str(tmp_path)), CPU)
    with pytest.raises(TrainingError, match=r"--adapter is .*give --lora"):
        train(quick(adapter=given, output=tmp_path / "other"))


def test_the_image_encoder_is_never_trained(quick: Quick) -> None:
    for more in ({}, {"lora": True}):
        task = ExemplarTask(quick(**more), CPU)
        assert not [name for name in task.trained if "vision" in name]
        assert not task.student.encoder.vision.training


def test_conditioning_is_per_batch_row(quick: Quick) -> None:
    """A conditioned row does not depend on the other rows of the batch."""
    settings = quick()
    task = ExemplarTask(settings, CPU)
    batch = first_batch(task, settings)
    z, keep = batch["noise"], torch.ones(2, 1, 8, 8)
    exemplar, t = batch["exemplar"], batch["t"]
    with torch.no_grad():
        mixed = task.student(z, z, keep, exemplar, torch.tensor([True, False]), t)
        all_conditioned = task.student(z, z, keep, exemplar, torch.tensor([True, True]), t)
        none_conditioned = task.student(z, z, keep, exemplar, torch.tensor([False, False]), t)
    torch.testing.assert_close(mixed[0], all_conditioned[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed[1], none_conditioned[1], atol=1e-6, rtol=0)
    assert not torch.allclose(all_conditioned, none_conditioned, atol=1e-4)


@pytest.mark.parametrize(("context", "tokens"), [("pooled", 1), ("all", 5)])
def test_one_token_or_one_per_patch(quick: Quick, context: str, tokens: int) -> None:
    settings = quick(context=context)
    task = ExemplarTask(settings, CPU)
    exemplar = first_batch(task, settings)["exemplar"]
    assert task.student.encoder(exemplar).shape == (2, tokens, 16)


def test_the_tower_of_a_whole_clip_is_its_image_tower(tmp_path: Path) -> None:
    """As hub ids of CLIP give it: texts and projections are left out."""
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = CLIPVisionConfig(**small, image_size=28, patch_size=14)
    config = CLIPConfig(text_config=CLIPTextConfig(**small, vocab_size=50).to_dict(), vision_config=vision.to_dict())
    whole: Any = CLIPModel(config).eval()
    whole.save_pretrained(tmp_path)
    pixels = torch.randn(1, 3, 28, 28)
    tower: Any = read_tower(str(tmp_path))
    with torch.no_grad():
        expected = whole.vision_model(pixels).pooler_output
        torch.testing.assert_close(tower.eval()(pixels).pooler_output, expected, atol=1e-6, rtol=0)


def test_a_source_without_image_encoder_is_refused(tmp_path: Path, tiny_sd: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        read_tower(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="text_encoder"):
        read_tower(str(tiny_sd / "text_encoder"))


def test_the_masked_image_is_grey_in_the_hole(quick: Quick) -> None:
    """Its latents have their own noise, and do not depend on the content of the hole."""
    settings = quick()
    task = ExemplarTask(settings, CPU)
    seen: list[Tensor] = []

    def watched(z: Tensor, known: Tensor, keep: Tensor, *rest: Tensor) -> Tensor:
        seen.extend((z, known, keep))
        return task.student(z, known, keep, *rest)

    batch = first_batch(task, settings)
    batch["keep"] = torch.zeros_like(batch["keep"])
    watcher: Any = watched
    task.loss(watcher, batch, nullcontext())
    batch["pixels"] = -batch["pixels"]
    task.loss(watcher, batch, nullcontext())
    z, known, keep, other_z, other_known, _ = seen
    assert torch.equal(known, other_known)
    assert not torch.equal(z, other_z)
    assert known.shape == z.shape
    assert tuple(keep.shape) == (2, 1, 8, 8)


def test_image_conditioned_bases_are_refused(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="text-to-image base"):
        ExemplarTask(quick(base=str(write_exemplar(tmp_path / "pbe"))), CPU)


def test_the_image_encoder_has_the_weights_of_the_file(quick: Quick, tower: Path) -> None:
    task = ExemplarTask(quick(), CPU)
    given = load_file(tower / "model.safetensors")
    now = task.student.encoder.vision.state_dict()
    assert len(now) == len(given)
    assert all(torch.equal(now[name.removeprefix("vision_model.")], values) for name, values in given.items())
