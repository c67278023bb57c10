"""Check a ``scheduler_config.json``: each class and key is honoured, known to have no effect here, or refused."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.files import read_json

LINSPACE = {"timestep_spacing": "linspace"}
NARROW = {"beta_start": 0.00085, "beta_end": 0.012}

CLASSES: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "DDIMParallelScheduler": {},
    "DDPMScheduler": {},
    "DDPMParallelScheduler": {},
    "PNDMScheduler": {"set_alpha_to_one": False},
    "LMSDiscreteScheduler": LINSPACE,
    "EulerDiscreteScheduler": LINSPACE,
    "EulerAncestralDiscreteScheduler": LINSPACE,
    "HeunDiscreteScheduler": LINSPACE | NARROW,
    "KDPM2DiscreteScheduler": LINSPACE | NARROW,
    "KDPM2AncestralDiscreteScheduler": LINSPACE | NARROW,
    "DPMSolverMultistepScheduler": LINSPACE,
    "DPMSolverSinglestepScheduler": LINSPACE,
    "DPMSolverSDEScheduler": LINSPACE | NARROW,
    "DEISMultistepScheduler": LINSPACE,
    "UniPCMultistepScheduler": LINSPACE,
    "SASolverScheduler": LINSPACE,
    "LCMScheduler": {**NARROW, "beta_schedule": "scaled_linear"},
    "TCDScheduler": {**NARROW, "beta_schedule": "scaled_linear"},
}
"""The supported schedulers, with those defaults of missing keys that differ from DDIMScheduler's."""

SAMPLERS = {
    "DDIMScheduler": "ddim",
    "PNDMScheduler": "pndm",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler-ancestral",
    "HeunDiscreteScheduler": "heun",
    "DPMSolverMultistepScheduler": "dpmpp-2m",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "FlowMatchEulerDiscreteScheduler": "euler",
}
"""The sampler of a scene with the same solver, by scheduler."""

HONOURED = frozenset(
    {
        *("beta_start", "beta_end", "beta_schedule", "trained_betas", "num_train_timesteps", "rescale_betas_zero_snr"),
        *("prediction_type", "timestep_spacing", "steps_offset", "set_alpha_to_one", "use_karras_sigmas"),
        *("clip_sample", "clip_sample_range", "original_inference_steps"),
    }
)
SOLVER = frozenset(
    {
        *("skip_prk_steps", "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final"),
        *("predict_x0", "disable_corrector", "solver_p", "lambda_min_clipped", "interpolation_type"),
        *("final_sigmas_type", "predictor_order", "corrector_order", "tau_func"),
        *("dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"),
        *("noise_sampler_seed",),
    }
)
"""Options of the scheduler's own solver, which is not used: a scene names its sampler. Some have an effect only with
``thresholding``, ``use_flow_sigmas`` or ``use_dynamic_shifting``, which are refused."""

FIXED: dict[str, tuple[Any, ...]] = {
    "thresholding": (False, None),
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_flow_sigmas": (False, None),
    "use_dynamic_shifting": (False, None),
    "shift_terminal": (None,),
    "sigma_min": (None,),
    "sigma_max": (None,),
    "timestep_type": ("discrete", None),
    "timestep_scaling": (10.0, None),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
}
"""Keys that are supported only at these values."""


def scheduler_of(folder: Path, named: str | None = None) -> dict[str, Any]:
    """Read the configuration in ``folder/scheduler``, with its class and that class's values of missing keys.

    named: the class in ``model_index.json``, which takes precedence. Raises CheckpointError, with the key and its
    value, for what is neither honoured nor known to have no effect.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    return checked(read_json(file), file, named)


def checked(config: Mapping[str, Any], file: Path, named: str | None = None) -> dict[str, Any]:
    """Check a configuration read from a file; see :func:`scheduler_of`."""
    kind = str(named or config.get("_class_name") or "DDIMScheduler").removeprefix("Flax")
    if kind not in CLASSES:
        raise CheckpointError(
            f'"{file}" is of {kind}, whose noise levels are not known; supported are {", ".join(CLASSES)}.'
        )
    for key, value in config.items():
        if key in FIXED and value not in FIXED[key]:
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(value)}, which is not supported; supported is '
                f"{' or '.join(_quoted(one) for one in FIXED[key] if one is not None) or 'null'}."
            )
        if not key.startswith("_") and key not in HONOURED | SOLVER | FIXED.keys() and value is not None:
            raise CheckpointError(
                f'"{file}" has {key} {_quoted(value)}, which is unknown: its effect on the noise levels would be '
                "ignored; remove the key if it does nothing."
            )
    return {**CLASSES[kind], **config, "_class_name": kind}


def _quoted(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, f'"{value}"') if not _number(value) else str(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float | list) and not isinstance(value, bool)
