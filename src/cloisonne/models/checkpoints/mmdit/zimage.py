"""Read a diffusers pipeline folder of Z-Image or Z-Image Turbo into its parts."""

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

from cloisonne.models.checkpoints.mmdit.members import PipelineFolder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.mmdit.zimage_network import JointZImage
from cloisonne.models.model import Native
from cloisonne.models.text.qwen import ZIMAGE

TURBO_SHIFT = 3.0
"""Of Turbo's scheduler; that of Z-Image is 6. The configurations of their networks are equal."""
TURBO = Native(width=1024, height=1024, steps=8, guidance=1.0, sampler="euler", method="isolated")


def read_zimage(folder: PipelineFolder) -> Parts:
    """ZImageTransformer2DModel, Qwen3, FLUX.1's AutoencoderKL; the scheduler's shift sets the usual values."""
    members = folder.members("zimage")
    scheduler = members.scheduler()
    return members.parts(
        network=members.transformer(ZImageTransformer2DModel, JointZImage),
        vae=members.network(AutoencoderKL, "vae"),
        texts=(members.qwen(ZIMAGE.layers),),
        scheduler=scheduler,
        native=TURBO if scheduler.get("shift") == TURBO_SHIFT else None,
    )
