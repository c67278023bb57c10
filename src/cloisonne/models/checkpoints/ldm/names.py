"""Names of tensors in single files: variants of the layout, tensors without effect, and unsupported layouts."""

import re
from collections.abc import Iterable

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.tensor_file import TensorFile

UNET, VAE = "model.diffusion_model.", "first_stage_model."
CLIP_L = "cond_stage_model.transformer.text_model."
OPEN_CLIP = "cond_stage_model.model."
XL_FIRST, XL_SECOND = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model."
FIRST_OPEN_CLIP = "conditioner.embedders.0.model."
"""The text encoder of Stable Diffusion XL's refiner, and of Stable Diffusion 2.x as newer tools write it."""
LABELS = f"{UNET}label_emb.0.0.weight"
"""A tensor of networks that take pooled text."""

WRAPPERS = ("state_dict.", "module.")
"""Prefixes of every name in the files of some trainers."""

RENAMES = (
    (
        re.compile(
            r"^(cond_stage_model|conditioner\.embedders\.0)\.transformer\.(?=embeddings\.|encoder\.|final_layer_norm\.)"
        ),
        r"\1.transformer.text_model.",
    ),
    (re.compile(r"^(model|first_stage_model|cond_stage_model)\.module\."), r"\1."),
)
"""Patterns of variant names and their replacements: text encoders without their prefix, and wrapped networks."""

HARMLESS = (
    *(
        "betas",
        "alphas_",
        "sqrt_",
        "log_one_minus",
        "posterior_",
        "lvlb_weights",
        "logvar",
        "denoiser.",
        "scale_factor",
    ),
    *("model_ema.", f"{VAE}model_ema.", f"{VAE}loss.", "embedding_manager."),
    *("optimizer", "lr_schedulers", "callbacks", "loops", "epoch", "global_step", "loss", "pytorch-lightning_version"),
)
"""Prefixes of tensors without effect: schedule buffers, averages of the weights, training state."""

MARKS = ("v_pred", "ztsnr")
"""Empty tensors in files of Stable Diffusion XL that declare the prediction type and zero terminal SNR."""

REFUSED = {
    "edm_vpred.": "is of CosXL, whose network works at the noise levels of EDM",
    "edm_mean": "is of Playground 2.5, whose latents have statistics and noise levels of EDM",
    "edm_std": "is of Playground 2.5, whose latents have statistics and noise levels of EDM",
    "control_model.": "holds a ControlNet within the checkpoint",
    "model.diffusion_model.joint_blocks.": "is of a network like Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "is of a network like FLUX.1",
    "text_encoders.": "holds text encoders of another model family",
}
"""Prefixes of unsupported tensors, and what a file with them is."""


def read_names(file: TensorFile) -> TensorFile:
    """The same tensors by their standard names. Raises CheckpointError where a file is known to be unsupported."""
    wrapper = next((w for w in WRAPPERS if file.keys and all(name.startswith(w) for name in _weights(file.keys))), "")
    names = {name: name.removeprefix(wrapper) for name in file.keys}
    for pattern, spelling in RENAMES:
        names = {name: pattern.sub(spelling, known) for name, known in names.items()}
    if LABELS not in names.values():
        names = {name: known.replace(FIRST_OPEN_CLIP, OPEN_CLIP, 1) for name, known in names.items()}
    given = set(file.keys)
    # Where a file holds both names, the variant is not renamed, so that a warning names it as not used.
    names = {name: known if known == name or known not in given else name for name, known in names.items()}
    found = TensorFile(file.source, {known: file.tensors[name] for name, known in names.items()}, file.header)
    _refuse_others(found)
    return found


def _weights(names: Iterable[str]) -> list[str]:
    """The names with a dot, which are those of networks' tensors."""
    return [name for name in names if "." in name]


def _refuse_others(file: TensorFile) -> None:
    for name in file.keys:
        kind = next((what for start, what in REFUSED.items() if name.startswith(start)), None)
        if kind is not None:
            raise CheckpointError(f'"{file.source}" {kind} (its tensor "{name}"), which is not supported.')
    if LABELS in file.tensors and any(name.startswith(FIRST_OPEN_CLIP) for name in file.keys):
        raise CheckpointError(
            f'"{file.source}" is a refiner of Stable Diffusion XL, which has one text encoder and only runs the last '
            "steps; it is not supported: give the base checkpoint."
        )
