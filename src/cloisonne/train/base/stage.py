"""Stage "base": text encoder and UNet, trained jointly on captions, ReCo sequences and place words."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextModel

from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.models.adapters.pseudo_words import PseudoWords, encoded
from cloisonne.models.vae import Vae
from cloisonne.train.base.batches import Batch, Batches
from cloisonne.train.base.exemplars import FROZEN as EXEMPLAR_FROZEN
from cloisonne.train.base.exemplars import OUTER as EXEMPLAR_OUTER
from cloisonne.train.base.grounding import Seen, grounding_loss, record
from cloisonne.train.base.holes import OUTSIDE
from cloisonne.train.base.latents import LatentStore
from cloisonne.train.base.networks import Labels, alphas
from cloisonne.train.base.recipe import RECIPE, BaseRecipe
from cloisonne.train.data import as_tensor
from cloisonne.train.loop import CPU, Stage
from cloisonne.train.microbatches import Loss, divisor
from cloisonne.train.precision import autocast
from cloisonne.train.prefetch import Prefetch, processes


def stage(
    text: CLIPTextModel,
    unet: UNet2DConditionModel,
    tokenizer: Any,
    store: LatentStore,
    minutes: float,
    device: torch.device = CPU,
    *,
    recipe: BaseRecipe = RECIPE,
    half: LatentStore | None = None,
    exemplar: PseudoWords | None = None,
    vae: Vae | None = None,
    parts: int | None = None,
) -> Stage:
    """The training stage: v-prediction, dense labels and grounding loss.

    Args:
        text: Text encoder.
        unet: UNet.
        tokenizer: Tokenizer of the text encoder.
        store: Encoded training images.
        minutes: Budget.
        device: Training device.
        recipe: Hyperparameters.
        half: The same images at half resolution; required if ``recipe.half`` is not 0.
        exemplar: Pseudo-words, trained together with the base; required if ``recipe.exemplars`` or ``recipe.holes`` is
            not 0. The UNet then has 2C + 1 input channels, of which the latter are 0 where there is no hole.
        vae: Autoencoder of the latents, for masked images; required as well.
        parts: Number of microbatches, each in a thread. Default: torch's thread count on a CPU, 1 on a GPU. The batch
            does not depend on it.

    Raises:
        ValueError: ``recipe.half`` needs ``half``, or exemplars and holes need ``exemplar`` and ``vae``.
    """
    _check(recipe, half, exemplar, vae)
    if device.type == "cpu":  # eager attention trains faster than the fused kernel, whose backward pass is slow
        text.set_attn_implementation("eager")
        unet.set_attn_processor(AttnProcessor())
    objective = _BaseLoss(
        text=text.train(),
        unet=unet.train(),
        exemplar=exemplar,
        vae=vae,
        labels=Labels(unet.config["block_out_channels"][1]),
        recipe=recipe,
        device=device,
        attended=record(unet),
        features=Seen(),
        abar=alphas().to(device),
    )
    unet.up_blocks[-2].register_forward_hook(_recording_hook(objective.features))
    modules: dict[str, nn.Module] = {"text": text, "unet": unet, "labels": objective.labels}
    pseudo = (0, 0)
    if exemplar is not None:
        modules["exemplar"], pseudo = exemplar.train(), (exemplar.words, exemplar.details)
    batches = Batches(store=store, half=half, tokenizer=tokenizer, recipe=recipe, pseudo=pseudo)
    count = divisor(recipe.batch, parts or (torch.get_num_threads() if device.type == "cpu" else 1))
    return Stage(
        name="base",
        device=device,
        modules=modules,
        loss=tuple(_part(objective, batches, slice(k, None, count)) for k in range(count)),
        minutes=minutes,
        pictures_per_step=recipe.batch,
        lr=recipe.lr,
        muon=recipe.muon,
        outer=("conv_in", "conv_out", "labels", "time_emb", "time_proj", *EXEMPLAR_OUTER),
        frozen=EXEMPLAR_FROZEN,
        ema=0.999,
        decay_from=recipe.decay_from,
    )


def _check(recipe: BaseRecipe, half: LatentStore | None, exemplar: PseudoWords | None, vae: Vae | None) -> None:
    """Raise ValueError if the recipe needs what is not given."""
    if recipe.half and half is None:
        raise ValueError("recipe.half is not 0, so half must be given: a LatentStore of half-sized latents.")
    if (recipe.exemplars or recipe.holes) and (exemplar is None or vae is None):
        raise ValueError("recipe.exemplars or recipe.holes is not 0, so exemplar (pseudo-words) and vae must be given.")


def _part(objective: "_BaseLoss", batches: Batches, rows: slice) -> Loss:
    """The loss of these rows of the batch."""
    workers, recipe = processes(objective.device), batches.recipe
    ready = Prefetch(partial(batches.rows, rows), workers)

    def loss(step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        return objective.loss(ready(step, progress < recipe.simple, progress < recipe.half).to(objective.device))

    return loss


@dataclass(frozen=True, kw_only=True)
class _BaseLoss:
    """The training loss of the base."""

    text: Any
    unet: Any
    exemplar: PseudoWords | None
    vae: Vae | None
    labels: Labels
    recipe: BaseRecipe
    device: torch.device
    attended: Seen
    features: Seen
    abar: Tensor

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The weighted v error plus the label and grounding losses; metrics to log."""
        t, recipe = batch.t, self.recipe
        a, s = self.abar[t].sqrt()[:, None, None, None], (1 - self.abar[t]).sqrt()[:, None, None, None]
        z, weight = a * batch.z0 + s * batch.noise, batch.weights
        if self.exemplar is not None:
            z, weight = self._with_known(z, batch)
        z = z.contiguous(memory_format=torch.channels_last)
        self.features.all.clear()
        self.attended.all.clear()
        # Threads share the weights but not their autocast copies, which belong to the graph of one thread.
        with autocast(self.device, cache_enabled=False):
            hidden_states = self._hidden_states(batch)
            out = self.unet(z, t, encoder_hidden_states=hidden_states).sample
            class_logits, colour_logits = (head(self.features.all[0]).float() for head in self.labels.heads())
        square = (out.float() - (a * batch.noise - s * batch.z0)).square()
        error = (weight * square).mean((1, 2, 3))
        ce = F.cross_entropy(class_logits, batch.classes)
        ce = ce + recipe.colours * F.cross_entropy(colour_logits, batch.colours)
        ground = grounding_loss(self.attended.all, batch.owners, batch.items, batch.placed)
        noisy, there = t > 700, batch.classes > 0
        figures = {"v": float(square.detach().mean()), "ce": float(ce.detach()), "ground": float(ground.detach())}
        if noisy.any():
            right = (class_logits.argmax(1) == batch.classes) & there
            figures["named"] = float(right[noisy].sum() / there[noisy].sum().clamp(min=1))
        total = (self._weight(t) * error).mean() + recipe.labels * ce + recipe.grounding * ground
        return total, figures

    def _with_known(self, z: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """z [r, C, h, w] with the masked images' latents and the masks, 0 in rows without a hole: [r, 2C + 1, h, w].

        Also the weights of the errors [r, 1, h, w], whose mean in each row is 1; a row with a hole has its own.
        """
        rows, channels, height, width = z.shape
        extra, weight = z.new_zeros(rows, channels + 1, height, width), batch.weights.clone()
        if len(batch.holed):
            assert self.vae is not None, "checked before training"
            keep = (~batch.holes)[:, None].float()
            with torch.no_grad(), autocast(self.device):
                known = self.vae.encode(as_tensor(batch.pixels) * keep).to(z.dtype)
            keep = F.interpolate(keep, (height, width), mode="bilinear", align_corners=False)
            extra[batch.holed] = torch.cat([known, keep], 1)
            own = OUTSIDE + (1 - OUTSIDE) * (1 - keep)
            weight[batch.holed] = own / own.mean((2, 3), keepdim=True)
        return torch.cat([z, extra], 1), weight

    def _hidden_states(self, batch: Batch) -> Tensor:
        """[r, L, D] of the batch's texts, with the pseudo-words of its exemplars."""
        if self.exemplar is None or not len(batch.exemplars):
            return self.text(batch.ids).last_hidden_state
        features = self.exemplar.image_features(normalised(batch.exemplars.cpu().numpy()).to(self.device))
        pseudo = self.exemplar(features).flatten(0, 1)
        return encoded(self.text, batch.ids, pseudo, batch.places)

    def _weight(self, t: Tensor) -> Tensor:
        if self.recipe.weighting == "uniform":
            return torch.ones_like(t, dtype=torch.float32)
        snr = self.abar[t] / (1 - self.abar[t])
        return snr.clamp(max=5) / (snr + 1)


def _recording_hook(features: Seen) -> Any:
    """A forward hook that appends the output of a module to ``features``."""
    return lambda module, args, out: features.all.append(out)
