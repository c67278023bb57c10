"""``load``: a model by name or by folder."""

from pathlib import Path

import torch

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.folder import load_folder
from cloisonne.models.model import Model


def load(
    source: str | Path = "builtin", *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> Model:
    """The built-in family ("builtin"), or a diffusers folder of Stable Diffusion 1.x or 2.x; nothing is downloaded.

    dtype: of the networks; None means float32 on the CPU and float16 elsewhere. Raises CheckpointError where the folder
    is not what it should be, CapabilityError where the device is not there.
    """
    place = _device(device)
    dtype = dtype or (torch.float32 if place.type == "cpu" else torch.float16)
    if source == "builtin":
        if not (BUILTIN / "model_index.json").is_file():
            raise CheckpointError(f'The built-in family is missing from "{BUILTIN}"; install cloisonne again.')
        return load_folder(BUILTIN, name="builtin", device=place, dtype=dtype)
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise CheckpointError(
            f'There is no folder "{source}"; give "builtin", or a diffusers folder of Stable Diffusion 1.x or 2.x.'
        )
    return load_folder(folder, name=folder.resolve().name, device=place, dtype=dtype)


def _device(device: str | torch.device) -> torch.device:
    """The device, once a tensor has been put there."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    # What torch raises for a device it was built without depends on the device: AssertionError for "cuda".
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CapabilityError(f'The device "{device}" cannot be used on this machine; choose "cpu".') from error
    return place
