"""Repeated blocks of a network compiled by torch.compile, as diffusers' ``compile_repeated_blocks`` does.

Of a UNet the residual blocks and the feed-forward layers are compiled, which contain no attention; of a transformer its
blocks, whose joint attention by region stays outside. So no compiled code depends on how many regions or texts a scene
has. Where something acts inside of the blocks that compiled code does not have, they run as before
(:func:`running_uncompiled`).
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cloisonne.cache_folder import cache_folder
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.errors import CapabilityError
from cloisonne.models.deferred_imports import end_deferral
from cloisonne.models.options import CompileMode
from cloisonne.models.quantized.layers import QuantizedLinear

BACKEND: Any = "inductor"
"""What compiles; tests put one here that needs no compiler of C++."""

OF_UNETS = ("ResnetBlock2D", "FeedForward")
OF_TRANSFORMERS = (
    *("FluxTransformerBlock", "FluxSingleTransformerBlock", "Flux2TransformerBlock", "Flux2SingleTransformerBlock"),
    *("JointTransformerBlock", "ZImageTransformerBlock"),
)
"""Classes of what is compiled."""

_UNCOMPILED: ContextVar[bool] = ContextVar("running_uncompiled", default=False)


@contextmanager
def running_uncompiled(uncompiled: bool) -> Iterator[None]:
    """In this context, compiled blocks run as before if ``uncompiled``, as they do where gradients are computed."""
    before = _UNCOMPILED.set(uncompiled)
    try:
        yield
    finally:
        _UNCOMPILED.reset(before)


def compile_blocks(network: nn.Module, mode: CompileMode, device: torch.device) -> None:
    """Compile the repeated blocks of a network, each at its first use on a device of this kind.

    What was compiled is stored in the cache folder, so that another process reads it. Blocks of the same layers share
    their code. mode: "reduce-overhead" also captures CUDA graphs.

    Raises CapabilityError where the network has no such blocks or quantised weights, or the device has no compiler.
    """
    units = list(_outermost(network))
    if not units or any(isinstance(module, QuantizedLinear) for module in network.modules()):
        what = "has quantised weights" if units else "has no blocks that can be compiled"
        raise CapabilityError(f"The network {what}, so it cannot be compiled; load it without compiling.")
    _check_device(device)
    end_deferral()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torchinductor"))
    _keep_outside(BlockGroups, "attend")
    _keep_outside(BlockGroups, "attend_image")
    made: dict[Any, Callable[..., Any]] = {}
    for unit in units:
        is_unet = type(unit).__name__ in OF_UNETS
        key = (type(unit), tuple((name, value.shape) for name, value in unit.named_parameters()) if is_unet else ())
        if key not in made:
            # A transformer's tokens change with every scene, a UNet's canvas seldom: it is compiled for the first one,
            # and for any other as soon as there is another.
            dynamic = None if is_unet else True
            compile: Any = torch.compile  # no overload of it has isolate_recompiles
            made[key] = compile(
                type(unit).forward, backend=BACKEND, mode=mode, dynamic=dynamic, isolate_recompiles=True
            )
        unit.forward = _switching(unit, made[key])
    if mode == "reduce-overhead":
        # All blocks of a forward are one step of the CUDA graphs: none overwrites what an earlier one returned.
        network.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())


def missing_compiler(kind: str) -> tuple[str, ...]:
    """What torch.compile needs on a kind of device ("cpu", "cuda") and this machine lacks; () where nothing is."""
    on_gpu, missing = kind == "cuda", list[str]()
    cxx = "clang++" if sys.platform == "darwin" else "g++"
    variable, usual = ("CC", ("gcc", "clang")) if on_gpu else ("CXX", (cxx,))
    named = os.environ.get(variable)
    if not any(shutil.which(name) for name in ((named,) if named else usual)):
        missing.append(f"a compiler of {'C' if on_gpu else 'C++'} ({named or ' or '.join(usual)})")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("the headers of Python (Python.h)")
    if on_gpu:
        from torch.utils._triton import has_triton_package

        missing += [] if has_triton_package() else ["the package triton"]
    return tuple(missing)


def _check_device(device: torch.device) -> None:
    if device.type not in ("cpu", "cuda"):
        raise CapabilityError(f'Networks are compiled on "cpu" and "cuda", not on "{device}"; do not compile it.')
    if BACKEND == "inductor" and (missing := missing_compiler(device.type)):
        raise CapabilityError(
            f"Compiling needs {' and '.join(missing)}, not found on this machine; install it, or load the model "
            "without compiling."
        )


def _outermost(module: nn.Module) -> Iterator[Any]:
    """The modules to compile; none is within another one."""
    for child in module.children():
        if type(child).__name__ in (*OF_UNETS, *OF_TRANSFORMERS):
            yield child
        else:
            yield from _outermost(child)


def _switching(unit: Any, compiled: Callable[..., Any]) -> Callable[..., Any]:
    plain = unit.forward

    def forward(*args: Any, **given: Any) -> Any:
        if _UNCOMPILED.get() or torch.is_grad_enabled():
            return plain(*args, **given)
        return compiled(unit, *args, **given)

    return forward


def _keep_outside(owner: type, name: str) -> None:
    """Let a method run outside of compiled code, which is left before it and entered again behind it."""
    function = vars(owner)[name]
    if not hasattr(function, "_torchdynamo_disable"):
        setattr(owner, name, torch.compiler.disable(function))
