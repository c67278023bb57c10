"""Networks whose weights are mapped from their files: no random initialisation, and no copy in the same dtype."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DIFFUSERS = ("UNet2DConditionModel", "AutoencoderKL", "ControlNetModel", "T2IAdapter")
_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
MAPPED = (*_DIFFUSERS, *_CLIP)
"""Classes of networks that have no state besides what their files hold or their configuration determines."""

_RANDOM = ("normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_")


class Loaded(NamedTuple):
    """A network, and the names of tensors that its files lack, or that it has no use for."""

    module: Any
    missing: list[str]
    unexpected: list[str]


def mapped(kind: Any, member: Path, files: Sequence[Path], dtype: torch.dtype | None) -> Loaded:
    """Read a network of ``MAPPED`` from a folder with ``config.json`` and these files of its weights.

    dtype: None keeps that of the files. Missing tensors are left without data.
    """
    tensors = {name: tensor for file in files for name, tensor in _tensors(file, dtype)}
    if kind.__name__ in _CLIP:
        # Memory that is never written to takes none, and CLIP computes a buffer that a meta device would lose.
        with without_random_values():
            module = kind(kind.config_class.from_pretrained(member, local_files_only=True))
        module.config.dtype = next(iter(tensors.values())).dtype
        tensors = {_clip_name(kind, name): tensor for name, tensor in tensors.items()}
    else:
        with torch.device("meta"), without_random_values():
            module = kind.from_config(kind.load_config(member, local_files_only=True))
        module.register_to_config(_name_or_path=str(member))
        module._fix_state_dict_keys_on_load(tensors)  # the names of autoencoders' attention before diffusers 0.18
    result = module.load_state_dict(tensors, strict=False, assign=True)
    return Loaded(module.eval(), list(result.missing_keys), list(result.unexpected_keys))


def _clip_name(kind: Any, name: str) -> str:
    """A tensor's name in this class of transformers; files have a prefix or none, by the version that wrote them."""
    own = name.removeprefix("text_model.")
    projected = kind.__name__ == "CLIPTextModelWithProjection" and not own.startswith("text_projection.")
    return f"text_model.{own}" if projected else own


@contextmanager
def without_random_values() -> Iterator[None]:
    """In this context and thread, ``torch.nn.init`` draws no random values, which weights from a file would replace."""
    with _NoRandomValues():
        yield


class _NoRandomValues(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if getattr(func, "__name__", "") in _RANDOM:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _tensors(file: Path, dtype: torch.dtype | None) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118 not a mapping
            tensor = opened.get_tensor(name)
            yield name, tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)
