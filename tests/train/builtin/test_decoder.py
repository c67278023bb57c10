"""The decoder's training: the encoder stays to the bit, and each network follows its own terms of the loss."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.vae import Vae
from cloisonne.train.base import networks
from cloisonne.train.base.latents import LatentStore, fill
from cloisonne.train.builtin import decoder
from cloisonne.train.builtin.continued import RECIPE
from cloisonne.train.builtin.resume import base_of
from cloisonne.train.loop import Stage, run
from cloisonne.train.microbatches import Microbatches


@pytest.fixture(scope="module")
def autoencoder() -> AutoencoderKL:
    return networks.load_autoencoder(BUILTIN / "vae")


@pytest.fixture(scope="module")
def base(autoencoder: AutoencoderKL, tmp_path_factory: pytest.TempPathFactory) -> decoder.Base:
    store = LatentStore(tmp_path_factory.mktemp("latents"), RECIPE, (8, 16, 16), 12)
    fill(store, Vae(autoencoder), 12, lambda line: None)
    text, unet = base_of(BUILTIN)
    return decoder.Base(text=text, unet=unet, tokenizer=networks.load_tokenizer(BUILTIN / "tokenizer"), store=store)


def test_a_large_autoencoder_stays_as_large(autoencoder: AutoencoderKL) -> None:
    assert decoder.enlarged(autoencoder, 1).state_dict().keys() == autoencoder.state_dict().keys()


@pytest.mark.parametrize("more", [1, 2])
def test_the_larger_autoencoder_is_the_same_function(autoencoder: AutoencoderKL, more: int) -> None:
    layers = autoencoder.config["layers_per_block"] + more
    larger = decoder.enlarged(autoencoder, layers)
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small, large = Vae(autoencoder), Vae(larger)
    z = small.encode(pixels)
    assert torch.equal(large.encode(pixels), z)
    assert torch.equal(large.decode(z), small.decode(z))
    assert len(larger.decoder.up_blocks[0].resnets) == layers + 1
    assert large.cost((16, 16)).flops > small.cost((16, 16)).flops


def test_dots_are_rougher_than_a_smooth_image() -> None:
    smooth = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    dots = smooth + 0.1 * (torch.arange(32) % 2 * 2 - 1)
    assert decoder.roughness(smooth).shape == (1, 6, 4, 4)
    assert decoder.roughness(smooth).max() < 1e-5
    assert decoder.roughness(dots).max() > 0.3


def test_the_critic_sees_every_shift_of_both_images() -> None:
    images = torch.arange(2 * 3 * 16 * 16).float().view(2, 3, 16, 16)
    assert torch.equal(decoder.shifted(images, (0, 0)), images[..., :8, :8])
    assert torch.equal(decoder.shifted(images, (7, 2)), images[..., 7:15, 2:10])


def test_the_base_draws_what_it_is_given_at_low_noise(base: decoder.Base) -> None:
    z0 = base.store.batch(torch.arange(2).numpy())[0]
    ids = torch.as_tensor(base.tokenizer("on a beach", padding="max_length").input_ids)[None].repeat(2, 1)
    noise = torch.randn(z0.shape, generator=torch.Generator().manual_seed(0))
    near, far = (base.drawn(z0, noise, ids, torch.tensor([t, t])) for t in (9, 900))
    assert float((near - z0).norm() / z0.norm()) < 0.15 < float((far - z0).norm() / z0.norm())


def gradients(stage: Stage, progress: float) -> dict[str, Tensor | None]:
    """By parameter, of the mean loss of step 0."""
    total = torch.stack([loss(0, progress)[0] for loss in stage.losses]).mean()
    named = [(f"{m}.{n}", p) for m, module in stage.modules.items() for n, p in module.named_parameters()]
    named = [(name, p.requires_grad_(not name.startswith(stage.frozen))) for name, p in named]
    own = [(name, p) for name, p in named if p.requires_grad]
    found = torch.autograd.grad(total, [p for _, p in own], allow_unused=True)
    return dict(zip([name for name, _ in own], found, strict=True))


def test_each_network_follows_its_own_terms(autoencoder: AutoencoderKL, base: decoder.Base) -> None:
    torch.manual_seed(1)
    stage = decoder.stage(decoder.enlarged(autoencoder), base, 32)
    before, after = gradients(stage, 0.0), gradients(stage, 1.0)
    assert all(value is not None for value in after.values())
    for name in before:
        first, second = before[name], after[name]
        assert first is not None
        assert second is not None
        if not first.any() and not second.any():  # behind a convolution of zeros, or the same for both halves
            assert ".resnets.2." in name or ".resnets.3." in name or name == "critic.layers.4.bias"
            continue
        # The critic learns from the first step and never from the decoder's terms; the decoder sees it later.
        same = torch.allclose(first, second, rtol=1e-3, atol=1e-7)
        assert same == name.startswith("critic"), name


def test_the_batch_does_not_depend_on_its_parts(autoencoder: AutoencoderKL, base: decoder.Base) -> None:
    torch.manual_seed(1)
    larger = decoder.enlarged(autoencoder)
    stages = [decoder.stage(larger, base, 32, parts=parts) for parts in (1, 2)]
    assert [len(stage.losses) for stage in stages] == [1, 2]
    whole, parts = ([loss(3, 0.0)[1] for loss in stage.losses] for stage in stages)
    assert sum(part["rough"] for part in parts) / 2 == pytest.approx(whole[0]["rough"], rel=1e-4)
    assert parts[0]["rough"] != pytest.approx(parts[1]["rough"], rel=1e-2)


def test_the_critic_learns_in_threads(autoencoder: AutoencoderKL, base: decoder.Base) -> None:
    stage = decoder.stage(decoder.enlarged(autoencoder), base, 32, parts=2)
    parameters = list(stage.modules["critic"].parameters())
    with Microbatches(stage.losses, parameters) as microbatches:
        for step in range(3):
            microbatches.backward(step, 1.0)
            assert all(p.grad is not None and p.grad.any() for p in parameters[:-1])
    assert all(p is own for p, own in zip(stage.modules["critic"].parameters(), parameters, strict=True))


@pytest.mark.slow
def test_training_keeps_the_encoder(autoencoder: AutoencoderKL, base: decoder.Base, tmp_path: Path) -> None:
    larger = decoder.enlarged(autoencoder)
    assert run(decoder.stage(larger, base, 32), tmp_path)
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = Vae(autoencoder).encode(pixels)
    assert torch.equal(Vae(larger).encode(pixels), z)
    assert not torch.equal(Vae(larger).decode(z), Vae(autoencoder).decode(z))


@pytest.mark.slow
def test_the_command_writes_an_autoencoder_with_the_same_encoder(autoencoder: AutoencoderKL, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["train", "decoder", "-o", str(tmp_path), "--pictures", "32", "--stored", "16"])
    assert done.exit_code == 0, done.output
    written = networks.load_autoencoder(tmp_path / "decoder")
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(Vae(written).encode(pixels), Vae(autoencoder).encode(pixels))
