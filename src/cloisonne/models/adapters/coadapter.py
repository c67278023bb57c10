"""CoAdapter's fuser (TencentARC, with arXiv 2302.08453): rescales the features of several T2I-Adapters jointly.

A small transformer takes one token for each level of each adapter, the level's mean over the image, and returns a gain
for each of the level's channels. Tensors have the published file's names, such as "transformer_layes".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.tensor_file import TensorFile

TASKS = {"sketch": 0, "keypose": 1, "seg": 2, "depth": 3, "canny": 4, "color": 6, "openpose": 7}
"""Rows of the task embedding; 5 is TencentARC's style adapter, which is not read."""
HEADS = 8
"""Attention heads, which shapes do not determine."""

Features = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class CoAdapterFuser:
    """The tensors of a published fuser, float32, of width D. warnings: what of its file is not used."""

    tensors: Mapping[str, Tensor]
    warnings: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels of each level of the adapters that it fuses."""
        levels = len(self.tensors["positional_embedding"])
        return tuple(self.tensors[f"spatial_feat_mapping.{level}.1.weight"].shape[1] for level in range(levels))

    @torch.no_grad()
    def __call__(self, adapters: Sequence[tuple[str, Features]]) -> list[Features]:
        """The fused features of each adapter, to be added to the UNet's.

        adapters: kinds and features [C_i, H_i, W_i], multiplied by the control's strength.
        """
        t = self.tensors
        x = torch.cat([self._tokens(kind, features) for kind, features in adapters])
        x = _norm(x, t, "ln_pre")
        for layer in range(_layers(t)):
            x = self._block(x, f"transformer_layes.{layer}")
        x = _norm(x, t, "ln_post")
        fused, start = [], 0
        for _, features in adapters:
            gains = [1 + _linear(x[start + i], t, f"spatial_ch_projs.{i}") for i in range(len(features))]
            fused.append(tuple(level * gain[:, None, None] for level, gain in zip(features, gains, strict=True)))
            start += len(features)
        return fused

    def _tokens(self, kind: str, features: Features) -> Tensor:
        """[levels, D]: one adapter's tokens for the transformer."""
        t = self.tensors
        means = [F.silu(level.float().mean((1, 2))) for level in features]
        tokens = torch.stack([_linear(mean, t, f"spatial_feat_mapping.{i}.1") for i, mean in enumerate(means)])
        return tokens + t["task_embedding"][TASKS[kind]] + t["positional_embedding"][: len(features)]

    def _block(self, x: Tensor, name: str) -> Tensor:
        """One of CLIP's residual blocks, on tokens [N, D]."""
        t = self.tensors
        normed = _norm(x, t, f"{name}.ln_1")
        joined = F.linear(normed, t[f"{name}.attn.in_proj_weight"], t[f"{name}.attn.in_proj_bias"])
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(0, 1)[None] for part in joined.chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)
        x = x + _linear(attended, t, f"{name}.attn.out_proj")
        hidden = _linear(_norm(x, t, f"{name}.ln_2"), t, f"{name}.mlp.c_fc")
        return x + _linear(hidden * torch.sigmoid(1.702 * hidden), t, f"{name}.mlp.c_proj")


def read_fuser(source: Path, device: torch.device) -> CoAdapterFuser:
    """Read a fuser from a ``.safetensors`` file in the published layout; raises CheckpointError where it is none."""
    if not source.is_file():
        raise CheckpointError(f'There is no file "{source}"; give a CoAdapter\'s fuser as a .safetensors file.')
    if source.suffix != ".safetensors":
        raise CheckpointError(f'"{source}" is a pickle; run "cloisonne convert {source} OUT.safetensors" once.')
    opened = TensorFile.open(source)
    tensors = {name.removeprefix("module."): tensor.float().to(device) for name, tensor in opened.tensors.items()}
    wrong, known = _wrong(tensors)
    if wrong:
        raise CheckpointError(f'"{source}" is no fuser of CoAdapters ({wrong}); download it again.')
    for name in opened.keys:
        if name.removeprefix("module.") in known:
            opened.take(name)
    opened.skip(lambda name: name.endswith("seq_proj"), "only the style adapter uses it")
    return CoAdapterFuser(tensors, opened.settle("fuser"))


def check_fuser(fuser: CoAdapterFuser, kinds: Sequence[str], widths: Sequence[int], model: str) -> None:
    """Raise CheckpointError where a fuser does not fit a UNet of these widths, CapabilityError for unknown kinds."""
    if fuser.channels != tuple(widths):
        raise CheckpointError(
            f'The fuser, for adapters of {list(fuser.channels)} channels, does not fit "{model}" with {list(widths)}; '
            "load Stable Diffusion 1.x with it."
        )
    if unknown := sorted(set(kinds) - TASKS.keys()):
        raise CapabilityError(
            f"The fuser supports no adapter for {' or '.join(unknown)}; load it with adapters for {', '.join(TASKS)}."
        )


def _wrong(t: Mapping[str, Tensor]) -> tuple[str, set[str]]:
    """The first missing or misshapen tensor, "" where the tensors are a fuser's; and the names of a fuser's tensors."""
    known = {"task_embedding", "positional_embedding"}
    if not known <= t.keys() or t["positional_embedding"].ndim != 2:
        return "it has no task_embedding or positional_embedding", known
    levels, width = t["positional_embedding"].shape
    shapes: dict[str, tuple[int | None, ...]] = {"task_embedding": (16, width)}
    for level in range(levels):
        shapes[f"spatial_feat_mapping.{level}.1.weight"] = (width, None)
        shapes[f"spatial_ch_projs.{level}.weight"] = (None, width)
    for layer in (f"transformer_layes.{i}" for i in range(_layers(t))):
        shapes |= {f"{layer}.attn.in_proj_weight": (3 * width, width), f"{layer}.attn.out_proj.weight": (width, width)}
        shapes |= {f"{layer}.mlp.c_fc.weight": (None, width), f"{layer}.mlp.c_proj.weight": (width, None)}
        shapes |= {f"{layer}.ln_1.weight": (width,), f"{layer}.ln_2.weight": (width,)}
    shapes |= {"ln_pre.weight": (width,), "ln_post.weight": (width,)}
    for name, shape in shapes.items():
        bias = name.replace("weight", "bias")
        known |= {name, bias}
        if name not in t or bias not in t:
            return f"it lacks {name if name not in t else bias}", known
        if len(t[name].shape) != len(shape) or any(
            w not in (None, h) for h, w in zip(t[name].shape, shape, strict=True)
        ):
            return f"its {name} is of {list(t[name].shape)}", known
    return "" if width % HEADS == 0 and _layers(t) else "it has no transformer of 8 heads", known


def _layers(t: Mapping[str, Tensor]) -> int:
    return len({name.split(".")[1] for name in t if name.startswith("transformer_layes.")})


def _linear(x: Tensor, t: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, t[f"{name}.weight"], t[f"{name}.bias"])


def _norm(x: Tensor, t: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"])
