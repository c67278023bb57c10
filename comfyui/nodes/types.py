"""The nodes' own types, and inputs that several of them have."""

from typing import Any, get_args

from comfy_api.latest import io

from cloisonne.scene.scene import MethodName, SamplerName

CATEGORY = "cloisonne"
MODELS = "the model's"
"""The choice that leaves a value to the model."""

Model = io.Custom("CLOISONNE_MODEL")
Scene = io.Custom("CLOISONNE_SCENE")


def samplers() -> list[str]:
    """The choices of a sampler."""
    return [MODELS, *get_args(SamplerName)]


def methods() -> list[str]:
    """The choices of a method for phrases."""
    return [MODELS, *get_args(MethodName)]


def run_inputs() -> list[Any]:
    """Seed, steps, guidance and sampler."""
    return [
        io.Int.Input("seed", default=0, min=0, max=2**32 - 1, control_after_generate=True),
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip="0: as many as the model usually takes."),
        io.Float.Input(
            "guidance", default=-1.0, min=-1.0, max=100.0, step=0.1, tooltip="Guidance scale. -1: the model's."
        ),
        io.Combo.Input("sampler", options=samplers(), default=MODELS),
    ]


def run_options(seed: int, steps: int, guidance: float, sampler: str) -> dict[str, Any]:
    """The options of a run from :func:`run_inputs`."""
    return {
        "seed": seed,
        "steps": steps or None,
        "guidance": None if guidance < 0 else guidance,
        "sampler": None if sampler == MODELS else sampler,
        "progress": False,
    }
