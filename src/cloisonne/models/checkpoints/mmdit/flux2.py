"""Read a diffusers pipeline folder of FLUX.2 klein, distilled or base, into its parts."""

from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from cloisonne.models.checkpoints.mmdit.members import PipelineFolder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.model import Native
from cloisonne.models.text.qwen import FLUX2

DISTILLED = Native(width=1024, height=1024, steps=4, guidance=1.0, sampler="euler", method="isolated")


def read_flux2_klein(folder: PipelineFolder) -> Parts:
    """Flux2Transformer2DModel, Qwen3, AutoencoderKLFlux2; ``is_distilled`` of the index sets the usual values."""
    members = folder.members("flux2")
    return members.parts(
        network=members.transformer(Flux2Transformer2DModel),
        vae=members.network(AutoencoderKLFlux2, "vae"),
        texts=(members.qwen(FLUX2.layers),),
        scheduler=members.scheduler(),
        native=DISTILLED if folder.index.get("is_distilled") else None,
    )
