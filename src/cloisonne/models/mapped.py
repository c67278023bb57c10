"""Networks whose weights are mapped from their files: no random initialisation, and no copy in the same dtype."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DIFFUSERS = (
    *("UNet2DConditionModel", "AutoencoderKL", "AutoencoderKLFlux2", "ControlNetModel", "T2IAdapter"),
    *("FluxTransformer2DModel", "Flux2Transformer2DModel", "SD3Transformer2DModel", "JointZImage"),
)
_CLIP = ("CLIPTextModel", "CLIPTextModelWithProjection")
_TEXT = (*_CLIP, "T5EncoderModel", "Qwen3Model", "Qwen3ForCausalLM")
MAPPED = (*_DIFFUSERS, *_TEXT)
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
    if kind.__name__ in _TEXT:
        # Memory that is never written to takes none, and there are computed buffers that a meta device would lose.
        with without_random_values():
            module = kind(kind.config_class.from_pretrained(member, local_files_only=True))
        module.config.dtype = next(iter(tensors.values())).dtype
        return _with_tied(module, {_text_name(kind, name): tensor for name, tensor in tensors.items()})
    with torch.device("meta"), without_random_values():
        module = kind.from_config(kind.load_config(member, local_files_only=True))
    module.register_to_config(_name_or_path=str(member))
    module._fix_state_dict_keys_on_load(tensors)  # the names of autoencoders' attention before diffusers 0.18
    result = module.load_state_dict(tensors, strict=False, assign=True)
    return Loaded(module.eval(), list(result.missing_keys), list(result.unexpected_keys))


def _with_tied(module: Any, tensors: Mapping[str, Tensor]) -> Loaded:
    """Load a text encoder; of two tied tensors, which are one parameter, files may hold only one."""
    result = module.load_state_dict(tensors, strict=False, assign=True)
    missing, ignored = list(result.missing_keys), module._keys_to_ignore_on_load_unexpected or ()
    for pair in (module._tied_weights_keys or {}).items():
        for absent, present in (pair, pair[::-1]):
            if absent in missing and present not in missing:
                owner, _, name = absent.rpartition(".")
                setattr(module.get_submodule(owner), name, module.get_parameter(present))
                missing.remove(absent)
    unused = [name for name in result.unexpected_keys if not any(re.search(one, name) for one in ignored)]
    return Loaded(module.eval(), missing, unused)


def _text_name(kind: Any, name: str) -> str:
    """A tensor's name in this class of transformers; files have a prefix or none, by the class that wrote them."""
    if kind.__name__ not in _CLIP:
        return name.removeprefix("model.") if kind.__name__ == "Qwen3Model" else name
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
