"""Region-controlled image generation with diffusion models: describe what belongs where in an image.

    import cloisonne as cl

    model = cl.load("builtin")                  # or a folder, a .safetensors file, a hub id
    region = cl.Region(name="cat", box=(0.5, 0.5, 0.95, 0.95), phrase="a cat")
    scene = cl.Scene(caption="on a beach", regions=[region])
    result = cl.generate(scene, model, seed=0)
    result.save("out.png")                      # the PNG contains the scene

Functions: ``load`` gives a model, ``from_pipe`` that of a loaded diffusers pipeline; ``generate``,
``generate_many`` and ``sweep`` make images of a scene, ``batch`` those of a list of scenes; ``inpaint``, ``edit``
and ``translate`` change a given image; ``explain`` and ``compile`` show what would run; ``evaluate`` checks an
image. They return a ``Result``, and take a scene and a model as values or as what makes them (a dict or a path;
what ``load`` takes). Errors are ``CloisonneError``; what is not honoured is a ``CloisonneWarning``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloisonne.core.plan import AttentionEdit, Refine
    from cloisonne.core.run import Run
    from cloisonne.core.samplers import Sampler
    from cloisonne.errors import (
        Cancelled,
        CapabilityError,
        CheckpointError,
        CloisonneError,
        CloisonneWarning,
        ImageError,
        NotFiniteError,
        OutputError,
        SceneError,
        TrainingError,
    )
    from cloisonne.eval.evaluate import Evaluation, RegionEvaluation
    from cloisonne.models.load import from_pipe, load
    from cloisonne.models.model import Model
    from cloisonne.models.model_spec import ModelSpec
    from cloisonne.models.text.learned_concept import Concept
    from cloisonne.pipelines.api import (
        compile,
        edit,
        evaluate,
        explain,
        generate,
        generate_many,
        inpaint,
        sweep,
        translate,
    )
    from cloisonne.pipelines.attention_maps.maps import AttentionMaps
    from cloisonne.pipelines.batches.api import batch
    from cloisonne.pipelines.batches.progress import BatchProgress
    from cloisonne.pipelines.batches.run import BatchReport
    from cloisonne.pipelines.explain import Explanation
    from cloisonne.pipelines.prepare import Prepared
    from cloisonne.pipelines.progress import Progress
    from cloisonne.pipelines.result import Result
    from cloisonne.scene.region import Region
    from cloisonne.scene.scene import Scene

__all__ = [
    "AttentionEdit",
    "AttentionMaps",
    "BatchProgress",
    "BatchReport",
    "Cancelled",
    "CapabilityError",
    "CheckpointError",
    "CloisonneError",
    "CloisonneWarning",
    "Concept",
    "Evaluation",
    "Explanation",
    "ImageError",
    "Model",
    "ModelSpec",
    "NotFiniteError",
    "OutputError",
    "Prepared",
    "Progress",
    "Refine",
    "Region",
    "RegionEvaluation",
    "Result",
    "Run",
    "Sampler",
    "Scene",
    "SceneError",
    "TrainingError",
    "batch",
    "compile",
    "edit",
    "evaluate",
    "explain",
    "from_pipe",
    "generate",
    "generate_many",
    "inpaint",
    "load",
    "sweep",
    "translate",
]

_MODULES = {
    "cloisonne.core.plan": ("AttentionEdit", "Refine"),
    "cloisonne.core.run": ("Run",),
    "cloisonne.core.samplers": ("Sampler",),
    "cloisonne.eval.evaluate": ("Evaluation", "RegionEvaluation"),
    "cloisonne.models.load": ("from_pipe", "load"),
    "cloisonne.models.model": ("Model",),
    "cloisonne.models.model_spec": ("ModelSpec",),
    "cloisonne.models.text.learned_concept": ("Concept",),
    "cloisonne.pipelines.api": (
        "compile",
        "edit",
        "evaluate",
        "explain",
        "generate",
        "generate_many",
        "inpaint",
        "sweep",
        "translate",
    ),
    "cloisonne.pipelines.attention_maps.maps": ("AttentionMaps",),
    "cloisonne.pipelines.batches.api": ("batch",),
    "cloisonne.pipelines.batches.progress": ("BatchProgress",),
    "cloisonne.pipelines.batches.run": ("BatchReport",),
    "cloisonne.pipelines.explain": ("Explanation",),
    "cloisonne.pipelines.prepare": ("Prepared",),
    "cloisonne.pipelines.progress": ("Progress",),
    "cloisonne.pipelines.result": ("Result",),
    "cloisonne.scene.region": ("Region",),
    "cloisonne.scene.scene": ("Scene",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}
"""The module of each public name, imported on first access: torch takes seconds to import, and many uses need none."""


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("cloisonne")
    home = _HOME.get(name, "cloisonne.errors" if name in __all__ else None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *(name for name in globals() if name.startswith("__"))})
