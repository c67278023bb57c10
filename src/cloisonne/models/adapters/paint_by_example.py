"""Paint by Example: an encoder of an exemplar to one token, and an inpainting UNet conditioned on it.

Yang et al., CVPR 2023, arXiv 2211.13227. Published as a diffusers folder: Fantasy-Studio/Paint-by-Example.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from cloisonne.errors import CheckpointError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.options import Resampling

MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""CLIP's normalisation of red, green and blue."""


class MapperBlock(nn.Module):
    """Two residual steps of one token: ``x += out(value(norm1(x)))``, ``x += down(gelu(up(norm2(x))))``.

    The published block is a transformer's; with one token its softmax is 1, so that queries and keys have no effect.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.value(self.norm1(x)))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TokenEncoder(nn.Module):
    """What encodes an image to the tokens that the UNet is conditioned on, from the features of a CLIP image tower."""

    vision: CLIPVisionModel
    project: nn.Linear

    @property
    def side(self) -> int:
        """The side of the tower's square input, in pixels."""
        vision: Any = self.vision
        return vision.config.image_size

    def image_features(self, pixels: Tensor) -> Tensor:
        """[B, F, width]: the features of the image tower, which is frozen in training."""
        raise NotImplementedError

    def tokens_of(self, image_features: Tensor, *, bottleneck: bool = False) -> Tensor:
        """[B, L, D]: the tokens of the tower's features [B, F, width].

        bottleneck: of its pooled output alone; encoders that read nothing else, or no pooled output, ignore it.
        """
        raise NotImplementedError

    def null_tokens(self) -> Tensor:
        """[L, D]: the unconditional tokens."""
        raise NotImplementedError

    @property
    def has_bottleneck(self) -> bool:
        """Whether it can encode the tower's pooled output alone, or does so always."""
        raise NotImplementedError

    def forward(self, pixels: Tensor, *, bottleneck: bool = False) -> Tensor:
        """[B, L, D] of images [B, 3, side, side] from :func:`preprocessed`."""
        return self.tokens_of(self.image_features(pixels), bottleneck=bottleneck)


class ExemplarEncoder(TokenEncoder):
    """An image as one token of the UNet's context: ``c = P(LN(M(CLIP(x))))`` (arXiv 2211.13227, section 3.2).

    vision: CLIP's image tower, whose pooled output is taken. null: the learned unconditional token, [1, D].
    pooled: False takes all of the tower's tokens instead, the paper's naive variant that tends to copy and paste.
    """

    def __init__(self, vision: CLIPVisionModel, token_width: int, num_blocks: int, *, pooled: bool = True) -> None:
        super().__init__()
        self.vision = vision
        self.pooled = pooled
        width = vision.config.hidden_size
        self.mapper = nn.Sequential(*(MapperBlock(width) for _ in range(num_blocks)))
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, token_width)
        self.null = nn.Parameter(torch.randn(1, token_width))

    def image_features(self, pixels: Tensor) -> Tensor:
        """[B, L, width], L = 1 if pooled."""
        vision: Any = self.vision
        out = vision(pixels)
        return out.pooler_output[:, None] if self.pooled else out.last_hidden_state

    def tokens_of(self, image_features: Tensor, *, bottleneck: bool = False) -> Tensor:
        """[B, L, D] of [B, L, width]."""
        return self.project(self.norm(self.mapper(image_features)))

    @property
    def has_bottleneck(self) -> bool:
        """Whether it is not the naive variant."""
        return self.pooled

    def null_tokens(self) -> Tensor:
        """[1, D]: the learned unconditional token."""
        return self.null


def preprocessed(image: Image.Image, side: int) -> Tensor:
    """[1, 3, side, side]: an RGB image resized to CLIP's square without cropping, and normalised for CLIP."""
    return normalised(np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)))[None]


def normalised(rgb: NDArray[np.uint8]) -> Tensor:
    """Images uint8 [..., h, w, 3] as CLIP's image towers take them: float32 [..., 3, h, w], normalised."""
    pixels = (rgb.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return torch.from_numpy(np.moveaxis(pixels, -1, -3).copy())


@dataclass(frozen=True, kw_only=True, eq=False)
class ExemplarEngine:
    """Paint by Example's network: an encoder, and a UNet of 2C + 1 input channels conditioned on its tokens.

    mask_resampling: how the mask is resized to the latents; published weights were trained with "bilinear", diffusers'
    pipeline uses "nearest".
    """

    net: Denoiser
    encoder: TokenEncoder
    device: torch.device
    mask_resampling: Resampling = "bilinear"

    @torch.no_grad()
    def token(self, image: Image.Image, *, bottleneck: bool = False) -> Tensor:
        """[L, D], float32, of an RGB image; L = 1 for published weights, except for the naive variant.

        bottleneck: of the pooled features alone, where the encoder reads details as well.
        """
        encoder = self.encoder
        pixels = preprocessed(image, encoder.side).to(self.device, encoder.project.weight.dtype)
        return encoder(pixels, bottleneck=bottleneck)[0].float()

    @property
    def null(self) -> Tensor:
        """[L, D], float32: the unconditional tokens."""
        return self.encoder.null_tokens().detach().float().to(self.device)

    def channels(self, known: Tensor, keep: Tensor) -> Tensor:
        """[C + 1, H, W], in the network's order: the masked image's latents and the mask of known pixels.

        known: [C, H, W], latents of the image with grey in the hole. keep: [height, width], 1 where it is preserved.
        """
        size, mode = known.shape[-2:], self.mask_resampling
        mask = F.interpolate(
            keep[None, None].to(known), size, mode=mode, align_corners=False if mode == "bilinear" else None
        )
        return torch.cat([known, mask[0]])


def encoder_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ExemplarEncoder:
    """The encoder of a published ``image_encoder``, from its config.json and its tensors by diffusers' names.

    Raises CheckpointError where a tensor is missing or has another shape.
    """
    known = {"model_type", "architectures", "_name_or_path", "transformers_version", "torch_dtype", "dtype", "pooled"}
    vision = CLIPVisionModel(CLIPVisionConfig(**{k: v for k, v in config.items() if k not in known}))
    blocks = len({name.split(".")[2] for name in tensors if name.startswith("mapper.blocks.")})
    token_width = tensors["proj_out.weight"].shape[0] if "proj_out.weight" in tensors else 0
    with torch.device("meta"):
        encoder = ExemplarEncoder(vision, token_width, blocks, pooled=config.get("pooled", True))
    encoder.vision = vision
    prefixed = any(name.startswith("vision_model.") for name in vision.state_dict())
    renamed = {_renamed(name, prefixed): tensor for name, tensor in tensors.items()}
    wanted = {name: value.shape for name, value in encoder.state_dict().items()}
    for name, shape in wanted.items():
        if name not in renamed:
            raise CheckpointError(f'Its image encoder lacks the tensor "{name}"; download it again.')
        tensor = (
            renamed[name].reshape(shape) if name == "null" and renamed[name].numel() == shape.numel() else renamed[name]
        )
        if tensor.shape != shape:
            raise CheckpointError(
                f'"{name}" of its image encoder is {list(tensor.shape)}, not {list(shape)}; download it again.'
            )
        renamed[name] = tensor
    encoder.load_state_dict({name: renamed[name] for name in wanted}, assign=True)
    return encoder.eval().requires_grad_(False)


def used_names(encoder: ExemplarEncoder, names: Iterable[str]) -> list[str]:
    """The names of a published file whose tensors the encoder has."""
    own = encoder.state_dict()
    prefixed = any(name.startswith("vision.vision_model.") for name in own)
    return [name for name in names if _renamed(name, prefixed) in own]


_NAMES = {
    "attn1.to_v": "value",
    "attn1.to_out.0": "out",
    "norm3": "norm2",
    "ff.net.0.proj": "up",
    "ff.net.2": "down",
}


def published(encoder: ExemplarEncoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """config.json and tensors of an ``image_encoder`` as published, which :func:`encoder_of` and diffusers read.

    The mapper's queries and keys, which have no effect, are zeros.
    """
    theirs = {ours: name for name, ours in _NAMES.items() if name != "norm3"} | {"norm2": "norm3"}
    out: dict[str, Tensor] = {}
    for name, tensor in encoder.state_dict().items():
        place, _, rest = name.partition(".")
        if place == "vision":
            out[f"model.vision_model.{rest.removeprefix('vision_model.')}"] = tensor
        elif place == "mapper":
            block, layer, kind = rest.split(".")
            out[f"mapper.blocks.{block}.{theirs.get(layer, layer)}.{kind}"] = tensor
            if layer == "value":
                for unused in ("to_q", "to_k"):
                    out[f"mapper.blocks.{block}.attn1.{unused}.{kind}"] = torch.zeros_like(tensor)
        elif place == "null":
            out["uncond_vector"] = tensor[None]
        else:
            out[f"{'final_layer_norm' if place == 'norm' else 'proj_out'}.{rest}"] = tensor
    vision: Any = encoder.vision.config
    config = vision.to_dict() | {
        "projection_dim": encoder.project.out_features,
        "architectures": ["PaintByExampleImageEncoder"],
    }
    return config if encoder.pooled else config | {"pooled": False}, out


def _renamed(name: str, prefixed: bool) -> str:
    """A tensor's name in :class:`ExemplarEncoder`, from diffusers' name; unused queries and keys are not renamed."""
    if name.startswith("model."):
        rest = name.removeprefix("model.").removeprefix("vision_model.")
        return f"vision.{'vision_model.' if prefixed else ''}{rest}"
    if name.startswith("mapper.blocks."):
        _, _, block, *rest = name.split(".")
        layer, part = ".".join(rest[:-1]), rest[-1]
        return f"mapper.{block}.{_NAMES.get(layer, layer)}.{part}"
    for theirs, ours in {"final_layer_norm.": "norm.", "proj_out.": "project."}.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return "null" if name == "uncond_vector" else name
