"""The change of one layer's weight by a LoRA file: low rank, DoRA (arXiv 2402.09353), LyCORIS (arXiv 2309.14859).

r is the rank, s = alpha / r the file's own scale (1 without an alpha), t the user's. With W [C', C] or [C', C, k, k]:

    LoRA     dW = s up @ down; with a Tucker core: sum_ij up[p, i] mid[i, j] down[j, q]
    LoHa     dW = s (w1_a @ w1_b) * (w2_a @ w2_b); with cores t1 and t2 each factor is one of Tucker's
    LoKr     dW = s kron(w1, w2); a factor may be a product w_a @ w_b; s = 1 where neither is one
    full     dW = diff or w_norm, and the same of the bias
    DoRA     W' = magnitude (W + t dW) / |W + t dW|, the norm over all axes but the magnitude's

All but DoRA give W' = W + t dW.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, ...]

FORMS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "LoRA": (frozenset({"down", "up"}), frozenset({"mid", "up_bias"})),
    "LoHa": (frozenset({f"hada_w{k}_{side}" for k in "12" for side in "ab"}), frozenset({"hada_t1", "hada_t2"})),
    "full difference": (frozenset({"diff"}), frozenset()),
    "norm": (frozenset({"w_norm"}), frozenset()),
}
"""The required and the optional slots of each form."""


@dataclass(frozen=True, eq=False)
class Change:
    """One layer's tensors by their slots (``names.SLOTS``). scale: s, from the alpha or the header."""

    slots: Mapping[str, Tensor]
    scale: float = 1.0

    @property
    def lacks(self) -> str | None:
        """A required slot that is missing, None if there is none."""
        slots = set(self.slots)
        if any(slot.startswith("lokr_") for slot in slots):
            factors = [f"lokr_w{k}" for k in "12"]
            missing = [f for f in factors if f not in slots and not {f"{f}_a", f"{f}_b"} <= slots]
            return missing[0] if missing else None
        for needed, further in FORMS.values():
            if slots & (needed | further) and not needed <= slots:
                return min(needed - slots)
        return None

    @property
    def rank(self) -> int | None:
        """r; None for a form without a rank."""
        for slot, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w1_b", 0), ("lokr_w2_b", 0)):
            if slot in self.slots:
                return int(self.slots[slot].shape[axis])
        return None

    @property
    def low_rank(self) -> bool:
        """Whether it is only up @ down."""
        return set(self.slots) == {"down", "up"}

    @property
    def is_zero(self) -> bool:
        """Whether it is low rank with up = 0, as at the start of training."""
        return self.low_rank and not bool(self.slots["up"].any())

    @property
    def has_magnitude(self) -> bool:
        """Whether it is a DoRA."""
        return "magnitude" in self.slots or "dora_scale" in self.slots

    def check(self, shape: Shape) -> None:
        """Raise ValueError where it does not fit a weight of this shape."""
        if self.has_magnitude:
            self._magnitude(shape)
        if "down" not in self.slots or "mid" in self.slots:
            self.weight(shape)
            return
        # The products of a large file are computed only when they are used.
        down, up = self.slots["down"], self.slots["up"]
        found = (len(up), *down.shape[1:])
        if _bare(found) != _bare(shape) or up.ndim < 2 or up.shape[1] != len(down):
            raise ValueError(f"{list(up.shape)} and {list(down.shape)}, not {list(shape)}")

    def of_outputs(self, outputs: Tensor, shape: Shape) -> "Change":
        """The change of some of the layer's outputs, whose weight has this shape. outputs: [n], their indices.

        Raises ValueError where it has another shape, or cannot be divided.
        """
        self.check(shape)
        by_output = {"up", "up_bias", "diff", "diff_b", "w_norm", "b_norm", "magnitude"}
        if self.has_magnitude:
            if self._magnitude(shape)[0] != 0:
                raise ValueError("magnitudes of the inputs of several layers at once")
            by_output |= {"dora_scale"}
        if set(self.slots) <= by_output | {"down"}:
            own = {slot: tensor[outputs] if slot in by_output else tensor for slot, tensor in self.slots.items()}
            return Change(own, self.scale)
        if self.has_magnitude:
            raise ValueError("magnitudes of a form that cannot be divided into layers")
        weight, bias = self.weight(shape), self.bias((shape[0],))
        found = {"diff": weight, "diff_b": bias}
        return Change({slot: tensor[outputs] for slot, tensor in found.items() if tensor is not None})

    def weight(self, shape: Shape, times: float = 1.0) -> Tensor | None:
        """t dW for a weight of this shape, float32; None where it changes only the bias.

        Raises ValueError where it has another shape.
        """
        t = {name: tensor.float() for name, tensor in self.slots.items()}
        scale = self.scale * times
        if "down" in t:
            found = _low_rank(t, shape) * scale
        elif "hada_w1_a" in t:
            found = _product(t, "hada_w1", "hada_t1") * _product(t, "hada_w2", "hada_t2") * scale
        elif any(name.startswith("lokr_") for name in t):
            first = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
            second = t["lokr_w2"] if "lokr_w2" in t else _product(t, "lokr_w2", "lokr_t2")
            found = torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second.contiguous()) * scale
        elif "diff" in t or "w_norm" in t:
            found = (t["diff"] if "diff" in t else t["w_norm"]) * times
        else:
            return None
        if _bare(found.shape) != _bare(shape) and not _unrolled(found.shape, shape):
            raise ValueError(f"{list(found.shape)}, not {list(shape)}")
        return found.reshape(shape)

    def bias(self, shape: Shape, times: float = 1.0) -> Tensor | None:
        """The change of the bias, float32, or None. Raises ValueError where it has another shape."""
        found = None
        for slot, scale in (("up_bias", self.scale * times), ("diff_b", times), ("b_norm", times)):
            if slot in self.slots:
                one = self.slots[slot].float() * scale
                found = one if found is None else found + one
        if found is not None and found.shape != shape:
            raise ValueError(f"a bias of {list(found.shape)}, not {list(shape)}")
        return found

    def fused(self, weight: Tensor, times: float) -> Tensor:
        """W' for the weight W, in its dtype.

        Forms that peft supports are rounded as in peft, to the same bits.
        """
        as_peft = self.low_rank or "magnitude" in self.slots
        own = {name: tensor.to(weight.dtype) for name, tensor in self.slots.items()} if as_peft else self.slots
        added = Change(own, self.scale).weight(tuple(weight.shape), times)
        if not self.has_magnitude:
            return weight if added is None else weight + added.to(weight.dtype)
        dtype = weight.dtype if as_peft else torch.float32
        whole = weight.to(dtype) + (0 if added is None else added.to(dtype))
        axis, magnitude = self._magnitude(tuple(weight.shape))
        others = tuple(k for k in range(whole.ndim) if k != axis)
        norm = torch.linalg.vector_norm(whole, dim=others, keepdim=True)
        return (magnitude.to(dtype).reshape(norm.shape) / norm * whole).to(weight.dtype)

    def _magnitude(self, shape: Shape) -> tuple[int, Tensor]:
        """The weight's axis of a DoRA's magnitudes, and the magnitudes, float32.

        PEFT has one for each output; LyCORIS [C', 1, ...], for each output, or [1, C, ...], for each input.
        """
        if "magnitude" in self.slots:
            found = self.slots["magnitude"].float()
            if found.numel() == shape[0]:
                return 0, found
        else:
            found = self.slots["dora_scale"].float()
            for axis, wanted in enumerate(((shape[0],), (1, shape[1]))):
                if _bare(found.shape) == _bare(wanted):
                    return axis, found
        raise ValueError(f"magnitudes of {list(found.shape)} of a weight {list(shape)}")


def _low_rank(t: Mapping[str, Tensor], shape: Shape) -> Tensor:
    """up @ down; for a convolution by the same operations as in peft, to the same bits."""
    down, up = t["down"], t["up"]
    if "mid" in t:
        return torch.einsum("ij...,pi,jq->pq...", t["mid"], up.flatten(1), down.flatten(1))
    if down.ndim == 4 and down.shape[2:] != (1, 1):
        return F.conv2d(down.transpose(0, 1), up.reshape(*up.shape[:2], 1, 1)).transpose(0, 1)
    found = up.flatten(1) @ down.flatten(1)
    return found.reshape(shape) if _bare(found.shape) == _bare(shape) else found


def _product(t: Mapping[str, Tensor], factor: str, core: str) -> Tensor:
    if core in t:
        return torch.einsum("ij...,ip,jq->pq...", t[core], t[f"{factor}_a"], t[f"{factor}_b"])
    return t[f"{factor}_a"] @ t[f"{factor}_b"]


def _bare(shape: Shape) -> list[int]:
    """A shape without trailing axes of length 1."""
    sides = list(shape)
    while sides and sides[-1] == 1:
        sides.pop()
    return sides


def _unrolled(found: Shape, shape: Shape) -> bool:
    """Whether a shape is [C', C k k], a convolution's weight as a matrix."""
    return len(found) == 2 and found[0] == shape[0] and found[1] == torch.Size(shape[1:]).numel()
