"""The options of ``load`` and the values that they take."""

import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, get_args

from cloisonne.errors import CapabilityError
from cloisonne.models.checkpoints.load_options import label
from cloisonne.scene.values import brief

if TYPE_CHECKING:
    import torch

PathText: TypeAlias = str | PathLike[str]

ScaledLora: TypeAlias = PathText | tuple[PathText, float]
"""A LoRA's file, or (file, scale); the scale is 1 if not given."""

Precision = Literal["float32", "float16", "bfloat16", "float64"]
Prediction = Literal["epsilon", "v_prediction", "sample"]
Resampling = Literal["bilinear", "nearest"]
"""How an exemplar's mask is resized to the latents."""


Offload: TypeAlias = bool | Literal["group"]
"""Whether each network is on the device only while it runs; "group": of a transformer each block."""


class LoadOptions(TypedDict, total=False):
    """The options of ``load``; :class:`~cloisonne.models.model_spec.ModelSpec` documents them."""

    device: "str | torch.device"
    dtype: "Precision | torch.dtype | None"
    offload: Offload
    variant: str | None
    transformer: PathText | None
    text_encoders: Sequence[PathText] | PathText
    vae: PathText | None
    tokenizer: PathText | None
    prediction: Prediction | None
    vae_tiling: bool
    vae_slicing: bool
    lora: Sequence[ScaledLora] | ScaledLora
    embeddings: Sequence[PathText] | PathText
    regional_lora: Mapping[str, PathText] | None
    adapters: Mapping[str, PathText] | None
    fuser: PathText | None
    exemplar: PathText | None
    image_encoder: PathText | None
    mask_resampling: Resampling
    segmenter: PathText | None


PATHS = ("transformer", "vae", "tokenizer", "fuser", "exemplar", "image_encoder", "segmenter")
"""Options that are one path or None."""


def checked(name: str, value: Any, called: str | None = None) -> Any:
    """The value of an option, or of the source, as a spec stores it: texts, numbers, tuples and dicts.

    called: the option's name in messages; None means as the interface in use spells it. Raises CapabilityError for a
    value that the option does not take.
    """
    return _CHECKED[name](called or label(name), value)


def _refused(name: str, value: Any, wanted: str) -> CapabilityError:
    return CapabilityError(f"{name} is {brief(value)}; {wanted}.")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str | PathLike) or not os.fspath(value):
        raise _refused(name, value, "give a text")
    return str(os.fspath(value))


def _optional(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused(name, value, "give true or false")
    return value


def _offload(name: str, value: Any) -> bool | str:
    if value != "group" and not isinstance(value, bool):
        raise _refused(name, value, 'give true, false or "group"')
    return value


def _choice(*choices: str, optional: bool = True) -> Callable[[str, Any], str | None]:
    def choice(name: str, value: Any) -> str | None:
        if value is None and optional:
            return None
        text = str(value).removeprefix("torch.")
        if text not in choices:
            raise _refused(name, text, f"choose one of {', '.join(choices)}")
        return text

    return choice


def _loras(name: str, value: Any) -> tuple[tuple[str, float], ...]:
    return tuple(_scaled(name, one) for one in ([value] if _is_one(value) else _several(name, value)))


def _is_one(value: Any) -> bool:
    """Whether a value is one LoRA: a path, or a pair of path and scale."""
    pair = isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], int | float)
    return pair or isinstance(value, str | PathLike)


def _scaled(name: str, value: Any) -> tuple[str, float]:
    if not _is_one(value):
        raise _refused(name, value, "give a path, or a path and a scale")
    if isinstance(value, tuple | list):
        return _text(name, value[0]), float(value[1])
    return _text(name, value), 1.0


def _several(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, bytes):
        raise _refused(name, value, "give a list of paths")
    return value


def _paths(name: str, value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str | PathLike) else _several(name, value)
    return tuple(_text(name, one) for one in listed)


def _by_key(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping | None):
        raise _refused(name, value, "give paths by their names")
    return {_text(name, key): _text(name, path) for key, path in (value or {}).items()}


_CHECKED: Mapping[str, Callable[[str, Any], Any]] = {
    "source": _text,
    "device": lambda name, value: _text(name, str(value)),
    "dtype": _choice(*get_args(Precision)),
    "prediction": _choice(*get_args(Prediction)),
    "mask_resampling": _choice(*get_args(Resampling), optional=False),
    "variant": _optional,
    **dict.fromkeys(PATHS, _optional),
    "offload": _offload,
    **dict.fromkeys(("vae_tiling", "vae_slicing"), _flag),
    "lora": _loras,
    **dict.fromkeys(("embeddings", "text_encoders"), _paths),
    **dict.fromkeys(("regional_lora", "adapters"), _by_key),
}
