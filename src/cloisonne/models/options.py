"""The options of ``load`` and the values that they take."""

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

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


CompileMode = Literal["default", "reduce-overhead"]
"""The mode of torch.compile; "reduce-overhead" also captures CUDA graphs."""


class LoadOptions(TypedDict, total=False):
    """The options of ``load``; :class:`~cloisonne.models.model_spec.ModelSpec` documents them."""

    device: "str | torch.device"
    dtype: "Precision | torch.dtype | None"
    offload: Offload
    compile: CompileMode | None
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


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, PathLike) else value


def _scaled(value: Any) -> Any:
    """A LoRA as (file, scale)."""
    return (value, 1.0) if isinstance(value, str | PathLike) else tuple(value) if isinstance(value, list) else value


def _loras(value: Any) -> Any:
    """A list of LoRAs, where one may be given alone: a path, or a pair of path and scale."""
    pair = isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], int | float)
    return (value,) if pair or isinstance(value, str | PathLike) else _listed(value)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str | PathLike) else tuple(value) if isinstance(value, list) else value


_Text = Annotated[str, Field(min_length=1), BeforeValidator(_text)]
_Optional = Annotated[str | None, Field(min_length=1), BeforeValidator(_text)]
_Dtype = Annotated[Precision | None, BeforeValidator(lambda value: value and str(value).removeprefix("torch."))]
_Lora = Annotated[tuple[_Text, float], BeforeValidator(_scaled)]
_PathByName = Annotated[dict[_Text, _Text], BeforeValidator(lambda value: {} if value is None else value)]
_TYPES: Mapping[str, Any] = {
    "source": _Text,
    "device": Annotated[_Text, BeforeValidator(str)],
    "dtype": _Dtype,
    "prediction": Prediction | None,
    "mask_resampling": Resampling,
    "variant": _Optional,
    **dict.fromkeys(PATHS, _Optional),
    **dict.fromkeys(("vae_tiling", "vae_slicing"), bool),
    "offload": Offload,
    "compile": CompileMode | None,
    "lora": Annotated[tuple[_Lora, ...], BeforeValidator(_loras)],
    **dict.fromkeys(("embeddings", "text_encoders"), Annotated[tuple[_Text, ...], BeforeValidator(_listed)]),
    **dict.fromkeys(("regional_lora", "adapters"), _PathByName),
}
_ADAPTERS = {name: TypeAdapter(one, config=ConfigDict(strict=True)) for name, one in _TYPES.items()}
_WISHES = {
    "bool_type": "give true or false",
    "dict_type": "give paths by their names",
    "literal_error": "choose one of",
    "tuple_type": "give a list of paths",
}
"""What to give, by pydantic's type of error; a text where there is none."""


def checked(name: str, value: Any, called: str | None = None) -> Any:
    """The value of an option, or of the source, as a spec stores it: texts, numbers, tuples and dicts.

    called: the option's name in messages; None means as the interface in use spells it. Raises CapabilityError for a
    value that the option does not take.
    """
    try:
        return _ADAPTERS[name].validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
    wish = _WISHES.get(found["type"], "give a text")
    if found["type"] == "literal_error":
        wish += " " + found.get("ctx", {})["expected"].replace("'", "").replace(" or ", ", ")
    if name == "offload":
        wish = 'give true, false or "group"'
    if name == "lora" and found["loc"]:
        wish = "give a path, or a path and a scale"
    raise CapabilityError(f"{called or label(name)} is {brief(found['input'])}; {wish}.")
