"""T2I-Adapters (arXiv 2302.08453): a control map to features that are added to the UNet's encoder.

Every published layout is read into diffusers' class; the configuration comes from the shapes of the tensors.
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
from cloisonne.models.unet.injection_points import DOWN


@dataclass(frozen=True, eq=False)
class Adapter:
    """A T2I-Adapter. channels: of its control maps, 1 or 3. warnings: what of its file is not used. point: where its
    features enter the base network."""

    module: T2IAdapter
    device: torch.device
    warnings: tuple[str, ...] = ()
    point: str = DOWN

    @property
    def channels(self) -> int:
        """1 for line maps, 3 for colour maps."""
        config: Any = self.module.config
        return config["in_channels"]

    @torch.no_grad()
    def features(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, ...]:
        """Features [C_i, H_i, W_i] of each level, float32, of a map uint8 [height, width] or [height, width, 3]."""
        grey = pixels if pixels.ndim == 2 else None
        if self.channels == 1:
            control = (pixels.astype(np.float32).mean(-1) if grey is None else grey)[None]
        else:
            control = np.moveaxis(pixels if grey is None else np.repeat(grey[..., None], 3, axis=-1), -1, 0)
        values = torch.from_numpy(np.ascontiguousarray(control, np.float32) / 255)[None]
        module: Any = self.module
        found = module(values.to(self.device, self.module.dtype))
        return tuple(level[0].float() for level in found)


def read_adapter(source: Path, dtype: torch.dtype, device: torch.device) -> Adapter:
    """Read an adapter from a diffusers folder or a single ``.safetensors`` file of any published layout.

    Raises CheckpointError where it is neither, or damaged.
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
        # The network takes each of these tensors, or the file is refused.
        module = adapter_of(opened.take_prefix(""), source)
        warnings = opened.settle("T2I-Adapter")
    elif source.is_file():
        raise CheckpointError(f'"{source}" is a pickle; run "cloisonne convert {source} OUT.safetensors" once.')
    else:
        raise CheckpointError(f'There is no adapter "{source}"; give a diffusers folder or a .safetensors file.')
    # Not diffusers' own "to", whose warnings are about other networks.
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
    """TencentARC numbers all blocks ("body.5.block1"); diffusers numbers them by level ("body.2.resnets.1")."""
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
    """Blocks of each level; published adapters have four levels."""
    count = len({name.removeprefix("module.").split(".")[1] for name in tensors if "body." in name})
    return max(count // 4, 1)


def _config(own: Mapping[str, Tensor]) -> dict[str, Any]:
    """The adapter's configuration, from the shapes of its tensors."""
    levels = 1 + max(int(name.split(".")[2]) for name in own if name.startswith("adapter.body."))
    blocks = 1 + max(int(name.split(".")[4]) for name in own if name.startswith("adapter.body.0.resnets."))
    if "adapter.conv_in.weight" not in own:
        widths = [len(own[f"adapter.body.{level}.out_conv.weight"]) for level in range(levels - 1)]
        unshuffled = own["adapter.body.0.in_conv.weight"].shape[1]
        kind = "light_adapter"
    else:
        widths = [len(own[f"adapter.body.{level}.resnets.0.block1.weight"]) for level in range(levels)]
        unshuffled = own["adapter.conv_in.weight"].shape[1]
        kind = "full_adapter_xl" if unshuffled in (256, 768) else "full_adapter"
    channels, factor = {64: (1, 8), 192: (3, 8), 256: (1, 16), 768: (3, 16)}[unshuffled]
    return {
        "in_channels": channels,
        "channels": widths,
        "num_res_blocks": blocks,
        "downscale_factor": factor,
        "adapter_type": kind,
    }


def check_adapter(adapter: Adapter, kind: str, unet: Mapping[str, Any], model: str) -> None:
    """Raise CheckpointError where an adapter's features do not fit a UNet of this configuration.

    A UNet whose first level has no attention (Stable Diffusion XL, the built-in family) takes the features after that
    level's downsampling, which needs an adapter of the type "full_adapter_xl".
    """
    config: Any = adapter.module.config
    widths, channels = list(unet["block_out_channels"]), list(config["channels"])
    wanted = unet["down_block_types"][0] == "DownBlock2D"
    common = min(len(widths), len(channels))
    if channels[:common] != widths[:common] or wanted != (config["adapter_type"] == "full_adapter_xl"):
        raise CheckpointError(
            f'The adapter for {kind}, a {config["adapter_type"]} of {channels} channels, does not fit "{model}" with '
            f"{widths}; load one trained for this model family."
        )
