"""While the tests run, calls are checked against the shapes and types of signatures."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import Float, TypeCheckError
from shape_checks import CHECKED, names_shapes
from torch import Tensor

from cloisonne.core.conditioning import Tokens
from cloisonne.core.control_residuals import masked
from cloisonne.core.samplers import sampler


def modules() -> Iterator[str]:
    for name in CHECKED:
        package = importlib.import_module(name)
        yield from (module.name for module in pkgutil.walk_packages(package.__path__, f"{name}."))


def functions(module: str) -> Iterator[Any]:
    """The functions and methods that a module defines, as they are called."""
    own = vars(importlib.import_module(module)).values()
    for value in [*own, *(method for kind in own if inspect.isclass(kind) for method in vars(kind).values())]:
        if isinstance(value, FunctionType) and value.__module__ == module:
            yield value


@pytest.mark.parametrize("module", [*modules()])
def test_every_signature_with_shapes_is_checked(module: str) -> None:
    assert [found.__qualname__ for found in functions(module) if names_shapes(found) and not is_checked(found)] == []


def is_checked(function: Any) -> bool:
    return hasattr(function, "__wrapped__")


def test_there_are_signatures_with_shapes() -> None:
    assert sum(names_shapes(found) for module in modules() for found in functions(module)) > 40


def test_a_wrong_shape_is_found() -> None:
    with pytest.raises(TypeCheckError):
        masked(torch.zeros(2, 4, 4), torch.zeros(4))
    with pytest.raises(TypeCheckError):
        Tokens(torch.zeros(3))


def test_a_wrong_type_is_found() -> None:
    with pytest.raises(BeartypeCallHintParamViolation):
        sampler(3, 0.0)  # type: ignore[arg-type]


def test_shapes_are_recognised_in_signatures() -> None:
    def one(x: Float[Tensor, "H W"] | None) -> None: ...
    def two(x: "Float[Tensor, 'H W']") -> None: ...
    def three() -> tuple[Float[Tensor, "N D"], int]: ...
    def none(x: Tensor) -> dict[str, Tensor]: ...

    assert [names_shapes(found) for found in (one, two, three, none)] == [True, True, True, False]
