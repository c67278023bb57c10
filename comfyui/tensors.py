"""IMAGE and MASK of ComfyUI, and the arrays of cloisonne.

An IMAGE is float32 [B, H, W, 3 or 4] in [0, 1], a MASK float32 [B, H, W] or [H, W]; 1 is what is selected or inpainted.
That is cloisonne's polarity as well: white is the region. A fourth channel of an IMAGE is ignored.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image


def to_picture(image: torch.Tensor, what: str) -> Image.Image:
    """The one image of an IMAGE, for a slot that takes one. Raises ValueError for a batch."""
    pictures = to_pictures(image)
    if len(pictures) != 1:
        raise ValueError(f"{what} is a batch of {len(pictures)} images; give one.")
    return pictures[0]


def to_pictures(image: torch.Tensor) -> list[Image.Image]:
    """Each image of an IMAGE, 8 bits a channel."""
    pixels = (image[..., :3].detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(np.ascontiguousarray(one)) for one in pixels]


def to_image(pictures: Iterable[Image.Image]) -> torch.Tensor:
    """An IMAGE of pictures of one size."""
    arrays = [np.asarray(picture.convert("RGB"), np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(arrays))


def to_masks(mask: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    """Each mask of a MASK as an array [H, W] in [0, 1]."""
    values = mask.detach().float().clamp(0, 1).cpu().numpy()
    return list(values.reshape(-1, *values.shape[-2:]))


def to_mask(mask: torch.Tensor, what: str) -> np.ndarray[Any, Any]:
    """The one mask of a MASK. Raises ValueError for a batch, and for an empty one."""
    masks = to_masks(mask)
    if len(masks) != 1:
        raise ValueError(f"{what} is a batch of {len(masks)} masks; give one.")
    if not masks[0].any():
        raise ValueError(f"{what} selects nothing; paint it, or load an image with transparency.")
    return masks[0]


def matched(masks: Sequence[Any], count: int) -> list[Any]:
    """One mask for each of ``count`` images. Raises ValueError where they are neither one nor as many."""
    if len(masks) not in (1, count):
        raise ValueError(f"There are {count} images and {len(masks)} masks; give one mask, or one for each image.")
    return list(masks) * (count if len(masks) == 1 else 1)
