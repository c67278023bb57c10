"""Segmentation of an image by a text, with a gradient to its pixels: CLIPSeg (Lüddecke and Ecker, arXiv 2112.10003).

``transformers`` runs the image tower without gradients, so this module calls the parts one by one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPSegConfig, CLIPSegForImageSegmentation

from cloisonne.errors import CheckpointError
from cloisonne.models.adapters.paint_by_example import DEVIATION, MEAN
from cloisonne.models.builtin import CLIPSEG as CLIPSEG
from cloisonne.models.checkpoints.files import check_weights, pretrained, read, read_json
from cloisonne.models.checkpoints.network_config import check_segmenter
from cloisonne.models.checkpoints.tensor_file import UNUSED_SUFFIXES, listed

DECODER = "decoder.safetensors"
"""A member of a family holds only the decoder; its towers are those of ``clip/``."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """CLIPSeg.

    module: a CLIPSegForImageSegmentation in float32, its parameters without gradients. tokenizer: of its text tower.
    length: tokens of every text.
    """

    module: Any
    tokenizer: Any
    length: int

    def __post_init__(self) -> None:
        # A tokenizer stores its last padding; all later calls use the same, so that threads can share it.
        self._ids([""])

    def _ids(self, texts: Sequence[str]) -> Any:
        return self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The embeddings [n, D] of n texts."""
        encoded = self._ids(texts)
        device = self.module.device
        found = self.module.clip.get_text_features(encoded.input_ids.to(device), encoded.attention_mask.to(device))
        return found.pooler_output

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """The embeddings [n, D] of images [n, 3, H, W] in [-1, 1], in the space of those of texts."""
        side = self.module.config.vision_config.image_size
        images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False, antialias=True)
        mean, deviation = (images.new_tensor(of)[:, None, None] for of in (MEAN, DEVIATION))
        return self.module.clip.get_image_features(((images + 1) / 2 - mean) / deviation).pooler_output

    def image_features(self, images: Tensor, *, normalise: bool = True) -> tuple[Tensor, ...]:
        """The image tower's hidden states, each [n, 1 + patches, width], for images [n, 3, H, W] in [-1, 1].

        Images that are not square, or no multiple of its patch, are resized. normalise: by CLIP's mean and deviation;
        MRGD's code does not normalise.
        """
        vision = self.module.config.vision_config
        side = max(round(max(images.shape[-2:]) / vision.patch_size), 1) * vision.patch_size
        if images.shape[-2:] != (side, side):
            images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
        if normalise:
            mean, deviation = (images.new_tensor(of)[:, None, None] for of in (MEAN, DEVIATION))
            images = ((images + 1) / 2 - mean) / deviation
        out = self.module.clip.vision_model(pixel_values=images, output_hidden_states=True)
        return tuple(out.hidden_states[layer + 1] for layer in self.module.extract_layers)

    def logits(self, image_features: tuple[Tensor, ...], text_embeddings: Tensor) -> Tensor:
        """Logits [m, h, w] of m text embeddings [m, D], in m images or in one.

        image_features: of :meth:`image_features`. text_embeddings: of :meth:`encode_texts`.
        """
        count = len(text_embeddings)
        wide = tuple(layer.expand(count, -1, -1) if len(layer) == 1 else layer for layer in image_features)
        logits = self.module.decoder(wide, text_embeddings).logits
        return logits.reshape(count, *logits.shape[-2:])


def load_segmenter(folder: Path, tokenizer: Path | None = None, *, device: torch.device | str = "cpu") -> Segmenter:
    """Read CLIPSeg from a folder of ``transformers``, or from a family's member, which holds only the decoder.

    tokenizer: its folder, None means the same one. Raises CheckpointError where anything is missing.
    """

    def load(place: Path) -> Segmenter:
        check_segmenter(place / "config.json", read_json(place / "config.json"), CLIPSegConfig)
        if not (place / DECODER).is_file():
            unused: list[str] = []
            # Another dtype would be torch's default in other threads, too, while this one reads.
            options = {"variant": check_weights(place, "model"), "dtype": torch.float32}
            module: Any = pretrained(CLIPSegForImageSegmentation, place, warn=unused, **options)
            if unused:
                raise CheckpointError(f"{unused[0].removesuffix('.')}; remove these, or give a folder of CLIPSeg.")
        else:
            module = CLIPSegForImageSegmentation(config_of(place))
            put_towers(module, place.parent / "clip")
            _put(module, load_file(place / DECODER), "decoder.", place)
        own_tokenizer = AutoTokenizer.from_pretrained(tokenizer or place, local_files_only=True)
        module = module.float().to(device).eval().requires_grad_(False)
        return Segmenter(module, own_tokenizer, module.config.text_config.max_position_embeddings)

    return read(folder, load)


def put_towers(module: Any, clip: Path) -> None:
    """Load the towers in a folder of CLIP into a CLIPSeg. Raises CheckpointError where a tensor is missing."""
    tensors = {f"clip.{name}": tensor for name, tensor in load_file(clip / "model.safetensors").items()}
    _put(module, tensors, "clip.", clip)


def _put(module: Any, tensors: Mapping[str, Tensor], prefix: str, folder: Path) -> None:
    found = module.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    lacking = [name for name in found.missing_keys if name.startswith(prefix) and not name.endswith("position_ids")]
    if lacking:
        raise CheckpointError(f'"{folder}" lacks the tensor "{lacking[0]}"; restore the folder.')
    if unknown := [name for name in found.unexpected_keys if not name.endswith(UNUSED_SUFFIXES)]:
        raise CheckpointError(f'"{folder}" holds tensors that are not used: {listed(unknown)}; restore the folder.')


def config_of(folder: Path) -> CLIPSegConfig:
    """CLIPSeg's configuration in a folder."""
    return CLIPSegConfig(**{k: v for k, v in read_json(folder / "config.json").items() if k != "model_type"})


def write_decoder(module: Any, folder: Path) -> None:
    """Write the member of a family: configuration, and the decoder in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    module.config.save_pretrained(folder)
    half = {name: t.half().contiguous() for name, t in module.state_dict().items() if name.startswith("decoder.")}
    save_file(half, folder / DECODER, metadata={"format": "pt"})
