"""What a network is told: text, further input channels, residuals of adapters. ``Conditioning()`` says nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from torch import Tensor

from cloisonne.core.control_residuals import ControlNetRequest
from cloisonne.core.inpaint_context import InpaintContext
from cloisonne.core.region_lora import RegionLora
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError

T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False)
class Tokens:
    """A piece of text: encoded tokens and where they are heard.

    value: [N, D], the encoder's output, exactly the tokens that are meant (no padding is added or needed).
    where: [H, W] >= 0 (mask times weight), or None. All tokens of a branch with ``where=None`` form ONE sequence heard
    by the whole window with weight 1. Each piece with a mask is a sequence of its own with its own softmax, and pixel p
    hears the mean of the sequences by their masks: ``sum_r w_r(p) Attn(q_p; K_r, V_r) / sum_r w_r(p)``.
    within: [H, W] >= 0, or None. Adds ``log(within)`` to the logits of these tokens *inside* their sequence: they
    stay part of a shared sequence and are not looked at from elsewhere (ReCo's ``strict``).
    """

    value: Tensor
    where: Tensor | None = None
    within: Tensor | None = None

    def __repr__(self) -> str:
        place = "everywhere" if self.where is None else f"on {float(self.where.mean()):.0%}"
        if self.within is None:
            return f"{self.value.shape[0]} tokens {place}"
        often = float(self.within.max())
        strict = f"strict on {float(self.within.mean() / often if often > 0 else 0):.0%}"
        counted = "" if often == 1 else f", counted {often:.2g} times"
        return f"{self.value.shape[0]} tokens {place}, {strict}{counted}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conditioning:
    """Everything one branch of a view tells its network; every map has the size of the view's window.

    tokens: pieces of text; ``+`` concatenates.
    pictures: tokens of pictures, heard beside the text: attention to each is added where its mask times strength is
    (``None`` = 1 everywhere; ``core/attention/image_prompts.py``); ``+`` concatenates. Only networks with an IP-Adapter
    take them.
    channels: [K, H, W] further input channels, in the network's order; at most one summand may have them.
    around: the same, made at every step of what the other views estimate (``core/inpaint_context.py``).
    pooled, size: [P] pooled text and the six SDXL micro-conditioning numbers; at most one summand may have them.
    intrablock: T2I-Adapter features [C_i, H_i, W_i] by level; ``+`` adds them.
    down_mid: ControlNet residuals, those of the down blocks and then the one of the middle; ``+`` adds them.
    beside: ControlNets that are asked at every step for such residuals; ``+`` concatenates.
    loras: changes of the network's weights and where they count (``core/region_lora.py``); ``+`` concatenates.
    """

    tokens: tuple[Tokens, ...] = ()
    pictures: tuple[Tokens, ...] = ()
    channels: Tensor | None = None
    around: InpaintContext | None = None
    pooled: Tensor | None = None
    size: tuple[float, ...] | None = None
    intrablock: tuple[Tensor, ...] = ()
    down_mid: tuple[Tensor, ...] = ()
    beside: tuple[ControlNetRequest, ...] = ()
    loras: tuple[RegionLora, ...] = ()

    def __add__(self, other: "Conditioning") -> "Conditioning":
        return Conditioning(
            tokens=self.tokens + other.tokens,
            pictures=self.pictures + other.pictures,
            channels=_at_most_one("input channels", self.channels, other.channels),
            around=_at_most_one("a picture around a hole", self.around, other.around),
            pooled=_at_most_one("pooled text", self.pooled, other.pooled),
            size=_at_most_one("size conditioning", self.size, other.size),
            intrablock=_sum_levels("T2I-Adapter features", self.intrablock, other.intrablock),
            down_mid=_sum_levels("ControlNet residuals", self.down_mid, other.down_mid),
            beside=self.beside + other.beside,
            loras=self.loras + other.loras,
        )

    def __repr__(self) -> str:
        parts = [repr(piece) for piece in self.tokens]
        parts += [f"a picture of {piece!r}" for piece in self.pictures]
        parts += [f"{self.channels.shape[0]} channels"] if self.channels is not None else []
        parts += ["what the others estimate"] if self.around is not None else []
        parts += ["pooled text"] if self.pooled is not None else []
        parts += [f"{len(self.intrablock)} adapter levels"] if self.intrablock else []
        parts += [f"{len(self.down_mid)} control residuals"] if self.down_mid else []
        parts += [f"a ControlNet on {float((b.amount > 0).float().mean()):.0%}" for b in self.beside]
        parts += map(repr, self.loras)
        return "; ".join(parts) or "nothing"


def _at_most_one(what: str, first: T | None, second: T | None) -> T | None:
    if first is not None and second is not None:
        raise CapabilityError(f"Two conditions of one view both bring {what}, which has one place; give one a view.")
    return second if first is None else first


def _sum_levels(what: str, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not first or not second:
        return first or second
    if [level.shape for level in first] != [level.shape for level in second]:
        raise CapabilityError(f"Two conditions of one view bring {what} of different shapes; give one its own view.")
    return tuple(a + b for a, b in zip(first, second, strict=True))


Branch: TypeAlias = Conditioning | Callable[[Tensor, Step], Conditioning]
"""What a branch says: fixed, or a function of the window's z [C, H, W] and the step (ControlNet, null text by step).

Keys and values are kept from step to step while a branch says the same :class:`Tokens` objects.
"""
