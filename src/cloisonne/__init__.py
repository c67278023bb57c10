"""Region-controlled image generation with diffusion models: describe what belongs where in an image."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloisonne.errors import (
        Cancelled,
        CapabilityError,
        CheckpointError,
        CloisonneError,
        CloisonneWarning,
        ImageError,
        OutputError,
        SceneError,
    )
    from cloisonne.models.load import load
    from cloisonne.models.model import Model
    from cloisonne.models.model_spec import ModelSpec
    from cloisonne.pipelines.api import (
        compile,
        edit,
        evaluate,
        explain,
        fill,
        generate,
        generate_many,
        paint,
        sweep,
        translate,
    )
    from cloisonne.pipelines.editing.result import Edited
    from cloisonne.pipelines.explain import Explanation
    from cloisonne.pipelines.generate import StepEnd
    from cloisonne.pipelines.result import Result
    from cloisonne.scene.region import Region
    from cloisonne.scene.scene import Scene

__all__ = [
    "Cancelled",
    "CapabilityError",
    "CheckpointError",
    "CloisonneError",
    "CloisonneWarning",
    "Edited",
    "Explanation",
    "ImageError",
    "Model",
    "ModelSpec",
    "OutputError",
    "Region",
    "Result",
    "Scene",
    "SceneError",
    "StepEnd",
    "compile",
    "edit",
    "evaluate",
    "explain",
    "fill",
    "generate",
    "generate_many",
    "load",
    "paint",
    "sweep",
    "translate",
]

_MODULES = {
    "cloisonne.pipelines.api": (
        "compile",
        "edit",
        "evaluate",
        "explain",
        "fill",
        "generate",
        "generate_many",
        "paint",
        "sweep",
        "translate",
    ),
    "cloisonne.pipelines.editing.result": ("Edited",),
    "cloisonne.pipelines.explain": ("Explanation",),
    "cloisonne.pipelines.generate": ("StepEnd",),
    "cloisonne.pipelines.result": ("Result",),
    "cloisonne.models.load": ("load",),
    "cloisonne.models.model": ("Model",),
    "cloisonne.models.model_spec": ("ModelSpec",),
    "cloisonne.scene.region": ("Region",),
    "cloisonne.scene.scene": ("Scene",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
"""The module of each public name, imported on first access: torch takes seconds to import, and many uses need none."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("cloisonne")
    home = _HOME.get(name, "cloisonne.errors" if name in __all__ else None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
