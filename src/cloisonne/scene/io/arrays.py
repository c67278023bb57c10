"""Converts images and masks given as arrays or tensors to the integers of an image file."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloisonne.errors import ImageError

COLOURS = "uint8, or floats from 0 to 1, as an array [H, W], [H, W, 3] or [H, W, 4] or a tensor [3, H, W]"
MASK = "bool, uint8, uint16 or floats from 0 to 1, as an array or a tensor [H, W]"


def is_array(value: object) -> bool:
    """Whether a value is a NumPy array or a tensor."""
    return isinstance(value, np.ndarray) or _is_tensor(value)


def colour_array(value: Any, role: str) -> NDArray[np.uint8]:
    """Convert an array [H, W], [H, W, C] or a tensor [H, W], [C, H, W] to uint8 [H, W] or [H, W, C], C being 3 or 4.

    Floats in [0, 1] are rounded to 256 levels.

    Raises:
        ImageError: the shape, the dtype or the range is another one. The message calls the array ``role``.
    """
    array = _as_numpy(value, channels_last=True)
    floating = np.issubdtype(array.dtype, np.floating)
    channels = array.shape[2:] or (1,)
    if not (floating or array.dtype == np.uint8) or array.ndim not in (2, 3) or channels[0] not in (1, 3, 4):
        raise ImageError(_unsupported(value, role, COLOURS))
    if not array.size:
        raise ImageError(_unsupported(value, role, COLOURS))
    pixels = np.rint(_in_unit_range(array, role) * 255).astype(np.uint8) if floating else array
    return pixels.reshape(pixels.shape[:2]) if channels == (1,) else pixels


def mask_array(value: Any) -> NDArray[Any]:
    """Convert an array or tensor [H, W] (a tensor also [1, H, W]) to bool, uint8 or uint16 [H, W]; floats to uint16."""
    array = _as_numpy(value, channels_last=False)
    if _is_tensor(value) and array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    floating = np.issubdtype(array.dtype, np.floating)
    if not (floating or array.dtype in (np.bool_, np.uint8, np.uint16)) or array.ndim != 2 or not array.size:
        raise ImageError(_unsupported(value, "mask", MASK))
    return np.rint(_in_unit_range(array, "mask") * 65535).astype(np.uint16) if floating else array


def _is_tensor(value: object) -> bool:
    """Duck-typed, because the scene imports no tensor library."""
    return all(hasattr(value, name) for name in ("detach", "cpu", "is_floating_point"))


def _as_numpy(value: Any, *, channels_last: bool) -> NDArray[Any]:
    """Convert to NumPy. channels_last: move the channels of a tensor [C, H, W] to the end."""
    if isinstance(value, np.ndarray):
        return value
    tensor = value.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return np.ascontiguousarray(np.moveaxis(array, 0, -1)) if channels_last and array.ndim == 3 else array


def _in_unit_range(array: NDArray[Any], role: str) -> NDArray[np.float64]:
    if not np.isfinite(array).all():
        raise ImageError(f"The {role} is an array that contains NaN or infinity; give values from 0 to 1.")
    least, most = float(array.min()), float(array.max())
    if least < 0 or most > 1:
        given = f"an array of values from {least:g} to {most:g}"
        raise ImageError(f"The {role} is {given}; scale floats to 0 to 1, or give uint8.")
    return array.astype(np.float64)


def _unsupported(value: Any, role: str, accepted: str) -> str:
    kind = "a tensor" if _is_tensor(value) else "an array"
    given = f"{kind} of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return f"The {role} is {given}, which is not supported; give {accepted}."
