"""Which reader takes a diffusers pipeline folder of a diffusion transformer; a new family is a row of ``READERS``."""

from collections.abc import Callable, Mapping
from functools import partial

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.mmdit.flux import read_flux
from cloisonne.models.checkpoints.mmdit.flux2 import read_flux2_klein
from cloisonne.models.checkpoints.mmdit.members import PipelineFolder
from cloisonne.models.checkpoints.mmdit.sd3 import read_sd3
from cloisonne.models.checkpoints.mmdit.zimage import read_zimage
from cloisonne.models.checkpoints.parts import Parts

Reader = Callable[[PipelineFolder], Parts]

READERS: Mapping[str, Reader] = {
    "FluxPipeline": read_flux,
    "FluxFillPipeline": read_flux,
    "FluxKontextPipeline": partial(read_flux, family="kontext"),
    "StableDiffusion3Pipeline": read_sd3,
    "Flux2KleinPipeline": read_flux2_klein,
    "ZImagePipeline": read_zimage,
}
"""By the class of the pipeline in ``model_index.json``."""


def read_transformer_folder(folder: PipelineFolder) -> Parts:
    """Read the parts of a folder whose ``model_index.json`` lists a transformer; as ``read_folder``."""
    pipeline = str(folder.index.get("_class_name"))
    if pipeline not in READERS:
        raise CheckpointError(
            f'"{folder.path}" holds a {pipeline}, which is not supported; supported pipelines of transformers are '
            f"{', '.join(READERS)}."
        )
    return READERS[pipeline](folder)
