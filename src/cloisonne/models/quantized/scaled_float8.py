"""Weights in float8, plain or with scales as ComfyUI stores them: the numbers are those of float8 times the scale."""

import json
from collections.abc import Mapping

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.quantized.layers import Float8, Stored

SCALES = ("scale_weight", "weight_scale")
"""Names of a layer's scale, one number or one for each row."""
UNUSED = ("scale_input", "input_scale", "scaled_fp8")
"""Scales of inputs, which are not rounded here, and the mark of such a file."""
FORMAT = "comfy_quant"
"""Name of a layer's format, as JSON in bytes."""
FORMATS = ("float8_e4m3fn", "float8_e5m2")


def with_scales(tensors: Mapping[str, Tensor], source: object) -> dict[str, Tensor | Stored]:
    """The tensors, by name, with weights in float8 as they are stored; without scales and marks.

    source: the file, for messages. Raises CheckpointError for other formats, and scales that do not fit.
    """
    found: dict[str, Tensor | Stored] = {}
    for name, tensor in tensors.items():
        layer, _, end = name.rpartition(".")
        if end == FORMAT:
            _check_format(tensor, layer, source)
        elif end not in (*SCALES, *UNUSED):
            scale = next((tensors[own] for end in SCALES if (own := f"{layer}.{end}") in tensors), None)
            in_float8 = _form(tensor) in FORMATS and tensor.ndim == 2
            stored = end == "weight" and (scale is not None or in_float8)
            found[name] = _stored(tensor, scale, name, source) if stored else tensor
    return found


def _form(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _stored(tensor: Tensor, scale: Tensor | None, name: str, source: object) -> Stored:
    form, count = _form(tensor), 1 if scale is None else scale.numel()
    if form not in FORMATS or tensor.ndim != 2 or count not in (1, len(tensor)):
        raise CheckpointError(
            f'"{source}" stores "{name}" as {form} of shape {list(tensor.shape)} with {count} scales, which is '
            f"not supported; load one of {' or '.join(FORMATS)} with one scale a layer or row."
        )
    scales = None if scale is None else scale.float().flatten().expand(len(tensor)).clone()
    return Stored(tensor.contiguous().view(torch.uint8), Float8(form), scales)


def _check_format(tensor: Tensor, layer: str, source: object) -> None:
    try:
        form = json.loads(bytes(tensor.tolist()))["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f'"{source}" has a {FORMAT} of "{layer}" that is no JSON; download it again.') from error
    if form not in FORMATS:
        raise CheckpointError(
            f'"{source}" stores "{layer}" in the format {form}, which is not supported; load it in float8 '
            f"({', '.join(FORMATS)}), GGUF or bfloat16."
        )
