"""The node that computes control maps."""

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from cloisonne.scene.control_maps import DRAWN

from ..tensors import to_image, to_pictures
from .types import CATEGORY


class ControlMap(io.ComfyNode):
    """Computes a control map of each image, without a network."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneControlMap",
            display_name="Control Map (cloisonne)",
            category=CATEGORY,
            description="Edges or colours of an image, for the control of a region.",
            inputs=[io.Image.Input("image"), io.Combo.Input("kind", options=list(DRAWN))],
            outputs=[io.Image.Output("map")],
        )

    @classmethod
    def execute(cls, image: torch.Tensor, kind: str) -> io.NodeOutput:
        """Compute it."""
        maps = [Image.fromarray(DRAWN[kind](np.asarray(picture))) for picture in to_pictures(image)]
        return io.NodeOutput(to_image(maps))
