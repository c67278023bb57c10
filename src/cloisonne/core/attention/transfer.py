"""Copies of tensors from the CPU to another device."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device. To a CUDA device the copy is from pinned memory, and the CPU goes on meanwhile."""
    place = torch.device(device)
    if place.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(place)
    # torch keeps the pinned memory until the copy is done.
    return tensor.pin_memory().to(place, non_blocking=True)
