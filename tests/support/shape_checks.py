"""The type checker that the tests put on modules whose signatures name shapes."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, Self

import jaxtyping
import pytest
from beartype import BeartypeConf, FrozenDict, beartype

# The import hook decorates methods one by one, and ``Self`` means nothing outside of its class.
checked = beartype(conf=BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any})))

_with_shapes = jaxtyping.jaxtyped


CHECKED = (
    "cloisonne.core",
    "cloisonne.methods",
    "cloisonne.models.unet",
    "cloisonne.models.mmdit",
    "cloisonne.models.text",
    "cloisonne.scene.shapes",
)


def install() -> None:
    """Check calls of the modules of CHECKED that are imported from here on.

    Shapes are compared only where a signature names some, and functions in functions are left alone: the hook's own
    decorator binds the arguments of each call and checks them twice, whatever the signature. It decorates a function in
    a function again at each call of the outer one.
    """
    jaxtyping.jaxtyped = _decorated
    jaxtyping.install_import_hook(CHECKED, "shape_checks.checked")


def _decorated(*, typechecker: Any) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        if inspect.isclass(function) or names_shapes(function):
            return _with_shapes(typechecker=typechecker)(function)
        return function if "<locals>" in function.__qualname__ else typechecker(function)

    return decorate


def names_shapes(function: Any) -> bool:
    """Whether an argument or the result of a function is annotated with a shape."""
    return any("jaxtyping." in str(hint) or "[Tensor, " in str(hint) for hint in function.__annotations__.values())


def take_off(module: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Call a module's functions and methods without their checks, which a compiler would compile with them."""
    classes = (own for own in vars(module).values() if inspect.isclass(own) and own.__module__ == module.__name__)
    for owner in (module, *classes):
        for name, function in tuple(vars(owner).items()):
            if inspect.isfunction(function) and function.__code__.co_filename.startswith("<@beartype"):
                patch.setattr(owner, name, getattr(function, "__wrapped__"))  # noqa: B009
