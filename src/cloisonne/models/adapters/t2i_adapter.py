"""T2I-Adapters (arXiv 2302.08453): a control map to features that join the UNet's on its way down.

Every published layout of the weights is read into diffusers' own class, its configuration from the shapes of tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.adapter import T2IAdapter
from numpy.typing import NDArray
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import check_weights, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.network_config import check_network
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed, reason


@dataclass(frozen=True, eq=False)
class Adapter:
    """A T2I-Adapter. channels: of the maps it is shown, 1 or 3. warnings: what of its file is not used."""

    module: T2IAdapter
    device: torch.device
    warnings: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """1 for maps of lines, 3 for maps of colours."""
        config: Any = self.module.config
        return config["in_channels"]

    @torch.no_grad()
    def features(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """[C_i, H_i, W_i] of every level, float32, of a map uint8 [height, width] or [height, width, 3]."""
        grey = pixels if pixels.ndim == 2 else None
        if self.channels == 1:
            shown = (pixels.astype(np.float32).mean(-1) if grey is None else grey)[None]
        else:
            shown = np.moveaxis(pixels if grey is None else np.repeat(grey[..., None], 3, axis=-1), -1, 0)
        values = torch.from_numpy(np.ascontiguousarray(shown, np.float32) / 255)[None]
        module: Any = self.module
        found = module(values.to(self.device, self.module.dtype))
        return tuple(level[0].float() for level in found)


def read_adapter(source: Path, dtype: torch.dtype, device: torch.device) -> Adapter:
    """The adapter in a diffusers folder or a single ``.safetensors`` file of any published layout.

    Raises CheckpointError, in one sentence, where it is neither, or damaged.
    """
    warnings: tuple[str, ...] = ()
    if source.is_dir():
        check_network(source / "config.json", read_json(source / "config.json"), T2IAdapter)
        taken = check_weights(source)
        theirs = {"torch_dtype": dtype, "low_cpu_mem_usage": False, "variant": taken}
        warn = list(variant_notes(source.name, {"the adapter": taken})[1])
        module = read(source, lambda path: pretrained(T2IAdapter, path, warn=warn, **theirs))
        warnings = tuple(warn)
    elif source.suffix == ".safetensors" and source.is_file():
        opened = TensorFile.open(source)
        # Of these, the network takes each or refuses the file.
        module = adapter_of(opened.take_prefix(""), source)
        warnings = opened.settle("T2I-Adapter")
    elif source.is_file():
        raise CheckpointError(f'"{source}" is a pickle; run "cloisonne convert {source} OUT.safetensors" once.')
    else:
        raise CheckpointError(f'There is no adapter "{source}"; give a diffusers folder or a .safetensors file.')
    # Not by diffusers' own "to", which warns of what it would do for other networks.
    placed: Any = torch.nn.Module.to(module, device, dtype)
    return Adapter(placed.eval().requires_grad_(False), device, warnings)


def adapter_of(tensors: Mapping[str, Tensor], source: Path) -> T2IAdapter:
    """diffusers' adapter from tensors in TencentARC's layout (full, XL, light) or diffusers' own."""
    own = {_diffusers_name(name.removeprefix("module."), tensors): tensor for name, tensor in tensors.items()}
    if not any(name.startswith("adapter.body.0.") for name in own):
        raise CheckpointError(
            f'"{source}" is no T2I-Adapter of a known layout: its tensors are {listed(tensors)}; load another file.'
        )
    try:
        module = T2IAdapter(**_config(own))
        module.load_state_dict(own)
    except (KeyError, ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f'"{source}" is no T2I-Adapter of a known layout ({reason(error)}); download it again.'
        ) from error
    return module


def _diffusers_name(name: str, tensors: Mapping[str, Tensor]) -> str:
    """TencentARC counts blocks through ("body.5.block1"); diffusers counts them by level ("body.2.resnets.1")."""
    if name.startswith("adapter.") or not name.startswith(("body.", "conv_in.")):
        return name
    parts = name.split(".")
    if parts[0] == "conv_in":
        return f"adapter.{name}"
    if parts[2] == "body":
        return f"adapter.body.{parts[1]}.resnets.{'.'.join(parts[3:])}"
    if any(key.removeprefix("module.").startswith("body.0.body.") for key in tensors):
        return f"adapter.{name}"
    level, place = divmod(int(parts[1]), _blocks_a_level(tensors))
    layer = ".".join(parts[2:])
    return f"adapter.body.{level}.{layer}" if parts[2] == "in_conv" else f"adapter.body.{level}.resnets.{place}.{layer}"


def _blocks_a_level(tensors: Mapping[str, Tensor]) -> int:
    """Blocks before the first level that widens; published adapters have four levels."""
    count = len({name.removeprefix("module.").split(".")[1] for name in tensors if "body." in name})
    return max(count // 4, 1)


def _config(own: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration that these tensors have, by their shapes."""
    levels = 1 + max(int(name.split(".")[2]) for name in own if name.startswith("adapter.body."))
    blocks = 1 + max(int(name.split(".")[4]) for name in own if name.startswith("adapter.body.0.resnets."))
    if "adapter.conv_in.weight" not in own:
        widths = [len(own[f"adapter.body.{level}.out_conv.weight"]) for level in range(levels - 1)]
        seen = own["adapter.body.0.in_conv.weight"].shape[1]
        kind = "light_adapter"
    else:
        widths = [len(own[f"adapter.body.{level}.resnets.0.block1.weight"]) for level in range(levels)]
        seen = own["adapter.conv_in.weight"].shape[1]
        kind = "full_adapter_xl" if seen in (256, 768) else "full_adapter"
    channels, factor = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}[seen]
    return {
        "in_channels": channels,
        "channels": widths,
        "num_res_blocks": blocks,
        "downscale_factor": factor,
        "adapter_type": kind,
    }


def check_adapter(adapter: Adapter, kind: str, unet: Mapping[str, Any], model: str) -> None:
    """CheckpointError where an adapter's features do not fit a UNet of this configuration.

    A UNet whose first level has no attention (Stable Diffusion XL, the built-in family) takes its features behind that
    level's downsampling, as an adapter of the type "full_adapter_xl" makes them.
    """
    config: Any = adapter.module.config
    widths, channels = list(unet["block_out_channels"]), list(config["channels"])
    wanted = unet["down_block_types"][0] == "DownBlock2D"
    common = min(len(widths), len(channels))
    if channels[:common] != widths[:common] or wanted != (config["adapter_type"] == "full_adapter_xl"):
        raise CheckpointError(
            f'The adapter for {kind}, a {config["adapter_type"]} of {channels} channels, does not fit "{model}" with '
            f"{widths}; load one that was trained for its line."
        )
