"""IP-Adapter's networks (Ye et al. 2023, arXiv 2308.06721): a picture to tokens that a text model looks at."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from cloisonne.models.adapters.paint_by_example import normalised


@dataclass(frozen=True, eq=False)
class IpAdapter:
    """What makes tokens of exemplars for the network that hears the words.

    vision: CLIP's image tower. projection: its pooled embedding to 4 tokens or, in Plus and Full Face, its last layer
    but one to 16 or as many tokens as it has.
    """

    vision: CLIPVisionModelWithProjection
    projection: nn.Module
    device: torch.device

    def tokens(self, picture: Image.Image) -> Tensor:
        """[N, D], float32, of an RGB picture."""
        return self._tokens(self.prepared(picture))

    @cached_property
    def null(self) -> Tensor:
        """[N, D], float32: of no picture: zeros in place of the embedding or, where a layer is read, of pixels."""
        return self._tokens(torch.zeros(1, 3, self.side, self.side), nothing=True)

    @property
    def side(self) -> int:
        """Of the square pictures that the tower takes."""
        vision: Any = self.vision
        return vision.config.image_size

    @property
    def num_tokens(self) -> int:
        """N of a picture."""
        vision: Any = self.vision
        projection: Any = self.projection
        if isinstance(projection, ImageProjection):
            return projection.num_image_text_embeds
        if isinstance(projection, IPAdapterPlusImageProjection):
            return projection.latents.shape[1]
        return (self.side // vision.config.patch_size) ** 2 + 1

    def prepared(self, picture: Image.Image) -> Tensor:
        """[1, 3, side, side]: the middle of an RGB picture whose shorter side is the square's, by CLIP's statistics."""
        width, height = picture.size
        shorter = min(width, height)
        size = (int(self.side * width / shorter), int(self.side * height / shorter))
        pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC))
        top, left = (size[1] - self.side) // 2, (size[0] - self.side) // 2
        return normalised(pixels[top : top + self.side, left : left + self.side])[None]

    @torch.no_grad()
    def _tokens(self, pixels: Tensor, *, nothing: bool = False) -> Tensor:
        vision: Any = self.vision
        pixels = pixels.to(self.device, vision.dtype)
        if isinstance(self.projection, ImageProjection):
            seen = vision(pixels).image_embeds
            seen = torch.zeros_like(seen) if nothing else seen
        else:
            seen = vision(pixels, output_hidden_states=True).hidden_states[-2]
        return self.projection(seen)[0].float()
