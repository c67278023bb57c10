"""What the network of a single file predicts, and whether it was trained with zero terminal SNR, from the file."""

from typing import NamedTuple

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.checkpoints.ldm.names import UNET
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.families import FAMILIES

V_DEVIATION = 0.09
"""A threshold for Stable Diffusion 2.x: v-prediction models have a larger standard deviation of ``V_BIAS``."""
V_BIAS = f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"

SPELLINGS: dict[str, Parameterization] = {
    "epsilon": "epsilon",
    "eps": "epsilon",
    "noise": "epsilon",
    "v": "v_prediction",
    "v-prediction": "v_prediction",
    "v_prediction": "v_prediction",
    "vpred": "v_prediction",
    "v-pred": "v_prediction",
}
"""Spellings of the prediction type in headers."""

ARCHITECTURES = {"stable-diffusion-v1": "sd1", "stable-diffusion-v2": "sd2", "stable-diffusion-xl-v1": "sdxl"}
"""The model family by a prefix of ``modelspec.architecture``."""


def _advice() -> str:
    given = spelled('load(..., prediction="v_prediction")', "--prediction v_prediction")
    return f"give the prediction type: {given}, or the same with epsilon"


class Declared(NamedTuple):
    """What a file declares. prediction: None where it is not declared. zero_snr: whether it declares zero terminal SNR.

    warnings: one sentence each.
    """

    prediction: Parameterization | None
    zero_snr: bool
    warnings: tuple[str, ...] = ()


def declared_by(file: TensorFile, family: str, requested: Parameterization | None) -> Declared:
    """What the header and marker tensors declare. requested: the user's choice, which overrides them.

    Raises CheckpointError where they contradict one another, or have an unknown value.
    """
    found: dict[str, Parameterization] = {}
    if (text := file.entry("modelspec.prediction_type")) is not None:
        spelling = SPELLINGS.get(text.strip().lower())
        if spelling is None and requested is None:
            raise CheckpointError(
                f'The header of "{file.source}" has modelspec.prediction_type "{text}", which is unknown; {_advice()}.'
            )
        found |= {} if spelling is None else {"modelspec.prediction_type": spelling}
    architecture = file.entry("modelspec.architecture") or ""
    if "768-v" in architecture:
        found["modelspec.architecture"] = "v_prediction"
    if (file.entry("ss_v_parameterization") or "").lower() == "true":
        found["ss_v_parameterization"] = "v_prediction"
    if "v_pred" in file.tensors:
        found["the tensor v_pred"] = "v_prediction"
    if requested is None and len(set(found.values())) > 1:
        both = " and ".join(f"{where} {what}" for where, what in found.items())
        raise CheckpointError(f'"{file.source}" contradicts itself on what its network predicts: {both}; {_advice()}.')
    zero = "ztsnr" in file.tensors or (file.entry("ss_zero_terminal_snr") or "").lower() == "true"
    first = next(iter(found.values()), None)
    return Declared(requested or first, zero, tuple(_warnings(file, family, architecture)))


def prediction_of(file: TensorFile, family: str, declared: Declared) -> Parameterization:
    """The network's prediction type: as declared, else estimated from a bias for Stable Diffusion 2.x, else epsilon."""
    if declared.prediction is not None:
        return declared.prediction
    if family != "sd2":
        return "epsilon"
    bias = file.tensors.get(V_BIAS)
    return "epsilon" if bias is not None and float(bias.float().std()) <= V_DEVIATION else "v_prediction"


def _warnings(file: TensorFile, family: str, architecture: str) -> list[str]:
    if not architecture:
        return []
    declared = next((own for start, own in ARCHITECTURES.items() if architecture.startswith(start)), None)
    if declared == family and "/" not in architecture:
        return []
    return [
        f'The header of "{file.source}" has modelspec.architecture "{architecture}", but its tensors are of '
        f"{FAMILIES[family].title}; it is read as that."
    ]
