"""IP-Adapter (Ye et al. 2023, arXiv 2308.06721): an image to tokens for decoupled cross-attention."""

from collections.abc import Mapping
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
from cloisonne.models.unet.denoiser import ImagePromptWeights


@dataclass(frozen=True, eq=False)
class IpAdapter:
    """Encodes exemplars as image prompts for a text-conditioned network.

    vision: CLIP's image tower. projection: from its pooled embedding to 4 tokens; in Plus from its last layer but one
    to 16 tokens, in Full Face to as many as the layer has. layers: its weights for keys and values, by the network's
    cross-attention layer; the network holds the same.
    """

    vision: CLIPVisionModelWithProjection
    projection: nn.Module
    device: torch.device
    layers: Mapping[str, ImagePromptWeights]

    @property
    def parameters(self) -> int:
        """The number of its parameters."""
        own = sum(weight.numel() for part in (self.vision, self.projection) for weight in part.parameters())
        return own + sum(weight.numel() for pair in self.layers.values() for weight in pair)

    def tokens(self, image: Image.Image) -> Tensor:
        """[N, D], float32, of an RGB image."""
        return self._tokens(self.preprocess(image))

    @cached_property
    def null(self) -> Tensor:
        """[N, D], float32: the unconditional tokens, of a zero embedding or, where a layer is read, of zero pixels."""
        return self._tokens(torch.zeros(1, 3, self.side, self.side), nothing=True)

    @property
    def side(self) -> int:
        """The side of the tower's square input, in pixels."""
        vision: Any = self.vision
        return vision.config.image_size

    @property
    def num_tokens(self) -> int:
        """N, the tokens of an image."""
        vision: Any = self.vision
        projection: Any = self.projection
        if isinstance(projection, ImageProjection):
            return projection.num_image_text_embeds
        if isinstance(projection, IPAdapterPlusImageProjection):
            return projection.latents.shape[1]
        return (self.side // vision.config.patch_size) ** 2 + 1

    def preprocess(self, image: Image.Image) -> Tensor:
        """[1, 3, side, side]: an RGB image resized by its shorter side, centre-cropped, and normalised for CLIP."""
        width, height = image.size
        shorter = min(width, height)
        size = (int(self.side * width / shorter), int(self.side * height / shorter))
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        top, left = (size[1] - self.side) // 2, (size[0] - self.side) // 2
        return normalised(pixels[top : top + self.side, left : left + self.side])[None]

    @torch.no_grad()
    def _tokens(self, pixels: Tensor, *, nothing: bool = False) -> Tensor:
        vision: Any = self.vision
        pixels = pixels.to(self.device, vision.dtype)
        if isinstance(self.projection, ImageProjection):
            embeds = vision(pixels).image_embeds
            embeds = torch.zeros_like(embeds) if nothing else embeds
        else:
            embeds = vision(pixels, output_hidden_states=True).hidden_states[-2]
        return self.projection(embeds)[0].float()
