"""Stage "decoder": the decoder of a finished autoencoder is enlarged and trained on against a patch critic.

The encoder stays as it is, to the bit, so that all networks on its latents stay valid. The critic is a PatchGAN (arXiv
1611.07004) with hinge loss, a penalty of its gradient (1801.04406, eq. 9) and feature matching (1711.11585, eq. 4). One
backward pass trains both: the decoder's terms see the critic's weights detached, the critic's term sees the decoder's
images detached.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.vae import Vae
from cloisonne.train.base.captions import SHARES, caption_tokens
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.networks import alphas
from cloisonne.train.data import TRAINING_SEEDS, as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.microbatches import Loss, divisor
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes
from cloisonne.world.draw import draw
from cloisonne.world.picture import EVERYTHING, sample

LAYERS = 3
"""``layers_per_block`` of the enlarged autoencoder: its decoder has one more residual block in each level."""
BATCH = 16
STORED, DRAWN = 8, 4
"""Images of a batch whose latents are stored, with any glyphs of the base's recipe; of these, those whose latents the
base draws. The others are rendered with all glyphs and encoded."""
NOISE = 0.2
"""Most noise on latents, relative to their deviation; its amount is quadratically rare."""
LEVELS = (300, 600)
"""Timesteps that the base denoises latents from."""
DENOISING_STEPS = 3
GUIDANCE = 2.5
WARMUP = 0.1
"""Fraction of the training in which the decoder does not see the critic; then its weight rises for as long again."""
ADVERSARIAL, MATCHING = 0.02, 0.2
PENALTY, PENALISED = 1.0, 4
"""Weight of the critic's squared gradient at true images, and of how many images of a batch (R1, arXiv 1801.04406)."""
ROUGH = 0.5
"""Weight of second differences beyond the true image's; without it, the decoder draws dots that fool the critic."""
SHIFT = 8
"""Pixels by which what the critic sees is shifted at most."""


def enlarged(vae: AutoencoderKL, layers: int = LAYERS) -> AutoencoderKL:
    """The same function with more residual blocks in each level, which add nothing before they are trained.

    layers: the new ``layers_per_block``; a larger one stays. The encoder gets the blocks too, because diffusers'
    configuration has one number for both; there they add nothing for good. Encodings and decodings are the same to the
    bit.
    """
    config = {**vae.config, "layers_per_block": max(layers, vae.config["layers_per_block"])}
    larger: Any = AutoencoderKL.from_config(config)
    own = vae.state_dict()
    added = {name.rpartition(".conv2.")[0] for name in larger.state_dict() if name not in own and ".conv2." in name}
    larger.load_state_dict(own, strict=False)
    for name in added:
        last = larger.get_submodule(f"{name}.conv2")
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return larger


class Critic(nn.Module):
    """A PatchGAN of five convolutions on pixels, without normalisation; its gradient is penalised instead."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [(3, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2), (4 * width, 4 * width, 3, 1)]
        self.layers = nn.ModuleList(
            [nn.Conv2d(a, b, kernel, stride, 1) for a, b, kernel, stride in sizes] + [nn.Conv2d(4 * width, 1, 3, 1, 1)]
        )

    def forward(self, pixels: Tensor, *, fixed: bool = False) -> list[Tensor]:
        """Features of each layer; the last are the scores of patches [B, 1, h, w]. fixed: no gradient for the weights.

        Threads share the weights, so that they are never swapped for others, as ``functional_call`` does.
        """
        found: list[Tensor] = []
        x = pixels.contiguous(memory_format=torch.channels_last)
        for k, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weight, bias = (layer.weight.detach(), layer.bias.detach()) if fixed else (layer.weight, layer.bias)
            x = F.conv2d(x, weight, bias, layer.stride, layer.padding)
            if k + 1 < len(self.layers):
                x = F.leaky_relu(x, 0.2)
            found.append(x)
        return found


def shifted(images: Tensor, offset: tuple[int, int]) -> Tensor:
    """Images [B, 3, h, w] cropped by an offset below ``SHIFT``, so that the decoder's grid of cells has no fixed place.

    The crop is ``SHIFT`` pixels smaller in both directions.
    """
    (top, left), (height, width) = offset, images.shape[-2:]
    return images[..., top : top + height - SHIFT, left : left + width - SHIFT]


def roughness(images: Tensor) -> Tensor:
    """Mean absolute second differences of images [B, 3, h, w] in windows of 8 x 8 pixels, [B, 6, h / 8, w / 8]."""
    rows, columns = images.diff(n=2, dim=-2), images.diff(n=2, dim=-1)
    both = torch.cat([F.pad(rows, (0, 0, 1, 1)), F.pad(columns, (1, 1, 0, 0))], 1)
    return F.avg_pool2d(both.abs(), 8)


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base that draws latents. store: its training images; their latents are those of the autoencoder."""

    text: CLIPTextModel
    unet: UNet2DConditionModel
    tokenizer: Any
    store: LatentStore

    @cached_property
    def blank(self) -> Tensor:
        """The padded tokens of no text, [1, N]. A fast tokenizer's padding is shared by threads."""
        return torch.as_tensor(self.tokenizer("", padding="max_length").input_ids)[None]

    @torch.no_grad()
    def drawn(self, z0: Tensor, noise: Tensor, ids: Tensor, t: Tensor) -> Tensor:
        """Latents z0 [n, C, h, w] with noise of the timesteps t [n], denoised by ``DENOISING_STEPS`` of DDIM."""
        abar = alphas().to(z0.device)
        text: Any = self.text
        hidden = text(torch.cat([ids, self.blank.to(ids.device).expand_as(ids)])).last_hidden_state
        a, s = _levels(abar, t)
        z, x0 = a * z0 + s * noise, z0
        for step in range(DENOISING_STEPS):
            now = t * (DENOISING_STEPS - step) // DENOISING_STEPS
            a, s = _levels(abar, now)
            v = self.unet(z.repeat(2, 1, 1, 1), now.repeat(2), encoder_hidden_states=hidden).sample.float()
            cond, null = v.chunk(2)
            guided = null + GUIDANCE * (cond - null)
            x0, n = a * z - s * guided, s * z + a * guided
            a, s = _levels(abar, t * (DENOISING_STEPS - step - 1) // DENOISING_STEPS)
            z = a * x0 + s * n
        return x0


def _levels(abar: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and s of timesteps [n], each [n, 1, 1, 1]."""
    return abar[t].sqrt()[:, None, None, None], (1 - abar[t]).sqrt()[:, None, None, None]


def stage(
    vae: AutoencoderKL, base: Base, pictures: int, device: torch.device = CPU, *, parts: int | None = None
) -> Stage:
    """The training stage.

    vae: as made by :func:`enlarged`; its encoder is frozen. pictures: the budget. parts: number of microbatches, each
    in a thread; default: torch's thread count on a CPU, 1 on a GPU. The batch does not depend on it.
    """
    critic = Critic()
    whole: Any = vae
    count = divisor(DRAWN, parts or (torch.get_num_threads() if device.type == "cpu" else 1))
    objective = _DecoderLoss(vae=whole, critic=critic, base=base, device=device)
    for module in (base.text, base.unet):
        nn.Module.to(module, device).eval().requires_grad_(False)
    return Stage(
        name="decoder",
        device=device,
        modules={"vae": whole.train(), "critic": critic},
        loss=tuple(objective.part(slice(k, None, count)) for k in range(count)),
        minutes=0.0,
        pictures=pictures,
        pictures_per_step=BATCH,
        lr=4e-4,
        outer=("conv_in", "conv_out", "post_quant_conv", "critic"),
        frozen=("vae.encoder", "vae.quant_conv"),
        decay_from=0.2,
    )


class _DecoderLoss:
    """The loss of decoder and critic."""

    def __init__(self, *, vae: Any, critic: Critic, base: Base, device: torch.device) -> None:
        self.vae, self.critic, self.base, self.device = Vae(vae, device), critic, base, device
        _ = base.blank  # before threads start

    def part(self, rows: slice) -> Loss:
        """The loss of these rows of each kind of image."""
        rendered = Prefetch(partial(_rendered, rows), processes(self.device))

        def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
            rng = np.random.default_rng([step, 41])
            offset = int(rng.integers(SHIFT)), int(rng.integers(SHIFT))
            true, z = self._batch(rendered(step), rows, rng)
            return self._loss(true, z, offset, progress)

        return loss

    def _loss(
        self, true: Tensor, z: Tensor, offset: tuple[int, int], progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        with autocast(self.device, cache_enabled=False):
            y = self.vae.decoded(z)
            seen = min(max(progress / WARMUP - 1, 0.0), 1.0)
            views = shifted(true, offset), shifted(y, offset)
            critic = self._critic_loss(views[0], views[1].detach())
            adversarial, matching = self._seen(*views) if seen else (y.new_zeros(()), y.new_zeros(()))
        error = y - true
        mse, edges = error.square().mean(), error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        rough = F.relu(roughness(y.float()) - roughness(true)).mean()
        near = 2 * mse + 0.5 * error.abs().mean() + 0.25 * edges + ROUGH * rough
        total = near + seen * (ADVERSARIAL * adversarial + MATCHING * matching) + critic
        encoded = error[: -len(error) * DRAWN // BATCH].detach().square().mean()
        return total, {
            "rough": float(rough.detach()),
            "psnr": float(10 * torch.log10(4 / encoded)),
            "critic": float(critic.detach()),
            "adversarial": float(adversarial.detach()),
            "matching": float(matching.detach()),
        }

    def _batch(self, rendered: np.ndarray, rows: slice, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """True pixels [n, 3, h, w] and latents [n, C, h, w]: rendered images, stored ones, those that the base draws.

        Everything random is drawn for the whole batch, so that it does not depend on the number of parts.
        """
        store, encoded = self.base.store, BATCH - DRAWN
        chosen, redrawn = store.choose(rng, STORED - DRAWN)[rows], store.choose(rng, DRAWN)
        ids, redrawn = torch.tensor(self._ids(redrawn, rng)[rows]), redrawn[rows]
        t = torch.from_numpy(rng.integers(*LEVELS, DRAWN)[rows])
        amount = NOISE * torch.from_numpy(rng.random((encoded, 1, 1, 1), np.float32)[rows]) ** 2
        noise = torch.from_numpy(rng.standard_normal((BATCH, *store.shape), np.float32)).to(self.device)
        stored = [draw(store.picture(int(k)), *rendered.shape[1:3]).rgb for k in (*chosen, *redrawn)]
        images = as_tensor(rendered).to(self.device)
        with torch.no_grad(), autocast(self.device, cache_enabled=False):
            near = torch.cat([self.vae.encode(images), store.batch(chosen)[0].to(self.device)])
            z0 = store.batch(redrawn)[0].to(self.device)
            drawn = self.base.drawn(z0, noise[encoded:][rows], ids.to(self.device), t.to(self.device)).float()
        true = torch.cat([images, as_tensor(np.stack(stored)).to(self.device)])
        return true, torch.cat([near + amount.to(self.device) * noise[:encoded][rows], drawn])

    def _ids(self, chosen: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
        tokenizer, store = self.base.tokenizer, self.base.store
        words = Vocabulary.of(tokenizer)
        modes = rng.choice(list(SHARES), len(chosen), p=list(SHARES.values()))
        return [
            caption_tokens(store, int(index), str(mode), rng, tokenizer, words).ids
            for index, mode in zip(chosen, modes, strict=True)
        ]

    def _critic_loss(self, true: Tensor, y: Tensor) -> Tensor:
        """The hinge loss of the critic, and the penalty of its gradient. y: without a gradient."""
        real, made = self.critic(torch.cat([true, y]))[-1].float().chunk(2)
        some = true[: len(true) * PENALISED // BATCH].detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(some)[-1].float().sum(), some, create_graph=True)
        penalty = slope.float().square().sum((1, 2, 3)).mean()
        return F.relu(1 - real).mean() + F.relu(1 + made).mean() + PENALTY / 2 * penalty / real[0].numel()

    def _seen(self, true: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's terms: the critic's score, and the distance of its features. No gradient for the critic."""
        made = self.critic(y, fixed=True)
        with torch.no_grad():
            real = self.critic(true)
        pairs = zip(made[:-1], real[:-1], strict=True)
        distance = torch.stack([(a.float() - b.float()).abs().mean() for a, b in pairs]).mean()
        return -made[-1].float().mean(), distance


def _rendered(rows: slice, step: int) -> np.ndarray:
    """These rows of the rendered images uint8 [n, h, w, 3], which have any training glyph."""
    count = BATCH - STORED
    seeds = range(TRAINING_SEEDS + step * count, TRAINING_SEEDS + (step + 1) * count)[rows]
    return np.stack([draw(sample(seed, EVERYTHING)).rgb for seed in seeds])
