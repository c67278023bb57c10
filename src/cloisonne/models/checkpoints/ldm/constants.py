"""What the tensors of a checkpoint in LDM layout do not determine, by model family."""

from dataclasses import dataclass

SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
"""The noise schedule of all these families; the prediction type is added."""


@dataclass(frozen=True, kw_only=True)
class FamilyConstants:
    """What shapes do not determine.

    heads or head_width: of the UNet's attention. scaling: the autoencoder's ``scaling_factor``.
    """

    heads: int | None = None
    head_width: int | None = None
    scaling: float


FAMILY_CONSTANTS: dict[str, FamilyConstants] = {
    "sd1": FamilyConstants(heads=8, scaling=0.18215),
    "sd2": FamilyConstants(head_width=64, scaling=0.18215),
    "sdxl": FamilyConstants(head_width=64, scaling=0.13025),
}

NOISE_SIDE = {"sd2": 512}
"""Side of the usual image, in pixels, of a family's checkpoints that predict noise, where others have another."""
