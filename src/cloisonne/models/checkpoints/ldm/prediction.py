"""What the network of a single file predicts, and whether it was trained to zero terminal SNR: what the file says."""

from typing import NamedTuple

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.capabilities import TITLES
from cloisonne.models.checkpoints.ldm.names import UNET
from cloisonne.models.checkpoints.parts import Family
from cloisonne.models.checkpoints.tensor_file import TensorFile

V_DEVIATION = 0.09
"""Of Stable Diffusion 2.x, v-prediction moved this layer's bias farther than noise prediction did."""
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
"""How headers write it."""

ARCHITECTURES = {"stable-diffusion-v1": "sd1", "stable-diffusion-v2": "sd2", "stable-diffusion-xl-v1": "sdxl"}
"""Beginnings of ``modelspec.architecture``, and the line they are of."""


def _advice() -> str:
    given = spelled('load(..., prediction="v_prediction")', "--prediction v_prediction")
    return f"say which it is: {given}, or the same with epsilon"


class Said(NamedTuple):
    """prediction: None where the file leaves it open. zero_snr: whether it says zero terminal SNR."""

    prediction: Parameterization | None
    zero_snr: bool
    warnings: tuple[str, ...] = ()


def said_by(file: TensorFile, family: Family, asked: Parameterization | None) -> Said:
    """What the header, or tensors that are there for it, say. asked: by the user, who has the last word.

    CheckpointError where they contradict one another, or say what is not known.
    """
    found: dict[str, Parameterization] = {}
    if (text := file.entry("modelspec.prediction_type")) is not None:
        spelling = SPELLINGS.get(text.strip().lower())
        if spelling is None and asked is None:
            raise CheckpointError(
                f'The header of "{file.source}" has modelspec.prediction_type "{text}", which is not known; '
                f"{_advice()}."
            )
        found |= {} if spelling is None else {"modelspec.prediction_type": spelling}
    architecture = file.entry("modelspec.architecture") or ""
    if "768-v" in architecture:
        found["modelspec.architecture"] = "v_prediction"
    if (file.entry("ss_v_parameterization") or "").lower() == "true":
        found["ss_v_parameterization"] = "v_prediction"
    if "v_pred" in file.tensors:
        found["the tensor v_pred"] = "v_prediction"
    if asked is None and len(set(found.values())) > 1:
        said = " and ".join(f"{where} {what}" for where, what in found.items())
        raise CheckpointError(f'"{file.source}" contradicts itself on what its network predicts: {said}; {_advice()}.')
    zero = "ztsnr" in file.tensors or (file.entry("ss_zero_terminal_snr") or "").lower() == "true"
    first = next(iter(found.values()), None)
    return Said(asked or first, zero, tuple(_warnings(file, family, architecture)))


def prediction_of(file: TensorFile, family: Family, said: Said) -> Parameterization:
    """What a network predicts: what was said, or else what a layer of Stable Diffusion 2.x lets one tell, or noise."""
    if said.prediction is not None:
        return said.prediction
    if family != "sd2":
        return "epsilon"
    bias = file.tensors.get(V_BIAS)
    return "epsilon" if bias is not None and float(bias.float().std()) <= V_DEVIATION else "v_prediction"


def _warnings(file: TensorFile, family: Family, architecture: str) -> list[str]:
    if not architecture:
        return []
    line = next((line for start, line in ARCHITECTURES.items() if architecture.startswith(start)), None)
    if line == family and "/" not in architecture:
        return []
    return [
        f'The header of "{file.source}" has modelspec.architecture "{architecture}", but its tensors are of '
        f"{TITLES[family]}, as which it is read."
    ]
