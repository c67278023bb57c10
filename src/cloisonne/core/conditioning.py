"""What conditions a network: text, image prompts, further input channels, residuals. ``Conditioning()`` is empty."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from jaxtyping import Float
from torch import Tensor

from cloisonne.core.attention.joint_blocks import JointOptions
from cloisonne.core.attention.references import Reference
from cloisonne.core.control_residuals import ControlNetRequest, InjectionPoint
from cloisonne.core.inpaint_context import InpaintContext
from cloisonne.core.region_lora import RegionLora
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError

T = TypeVar("T")


@dataclass(frozen=True, eq=False, repr=False)
class Tokens:
    """A piece of encoded text or of an image prompt, and where it is attended to.

    value: [N, D], the encoder's output, exactly the tokens that are meant (no padding is added or needed).
    mask: [H, W] >= 0 (mask times weight), or None. All tokens of a branch with ``mask=None`` form one sequence that the
    whole window attends to with weight 1. Each piece with a mask is a sequence of its own with its own softmax, and the
    output at pixel p is ``sum_r w_r(p) Attn(q_p; K_r, V_r) / sum_r w_r(p)``.
    bias_mask: [H, W] >= 0, or None. ``log(bias_mask)`` is added to the logits of these tokens *inside* their sequence
    (ReCo's ``strict``).
    counts: (start, stop, times): these tokens of the piece count ``times`` > 0 times in their softmax, at every pixel.
    peak: whether the mask counts fully in one cell of each attention grid, the one that holds most of it.
    ids: the token ids that were encoded, where known. region: the name of the region they are about, if any.
    """

    value: Float[Tensor, "N D"]
    mask: Float[Tensor, "H W"] | None = None
    bias_mask: Float[Tensor, "H W"] | None = None
    counts: tuple[tuple[int, int, float], ...] = ()
    peak: bool = False
    ids: tuple[int, ...] | None = None
    region: str | None = None

    def __repr__(self) -> str:
        place = "everywhere" if self.mask is None else f"on {float(self.mask.mean()):.0%}"
        place += "".join(f", {stop - start} of them counted {times:.3g} times" for start, stop, times in self.counts)
        if self.bias_mask is None:
            return f"{self.value.shape[0]} tokens {place}"
        often = float(self.bias_mask.max())
        strict = f"strict on {float(self.bias_mask.mean() / often if often > 0 else 0):.0%}"
        counted = "" if often == 1 else f", counted {often:.2g} times"
        return f"{self.value.shape[0]} tokens {place}, {strict}{counted}"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Conditioning:
    """Everything that conditions a network in one branch of a view; every map has the size of the view's window.

    tokens: pieces of text; ``+`` concatenates.
    summary: [N, D], one text for the whole window, for networks that take no masks (ControlNet); at most one summand
    may have it.
    image_prompts: tokens of images (IP-Adapter), ``mask=None`` = 1 everywhere; ``+`` concatenates.
    channels: [K, H, W] further input channels, in the network's order; at most one summand may have them.
    inpaint_context: the same, made at every step of the estimates of the other views (``inpaint_context.py``).
    pooled: [P] pooled text; at most one summand may have it.
    micro: micro-conditioning by name, such as SDXL's "size" (six numbers) or FLUX.1 dev's "guidance"; a name may be
    in one summand only.
    residuals: [C_i, H_i, W_i] by injection point and level; ``+`` adds them.
    controlnets: ControlNets that give such residuals at every step; ``+`` concatenates.
    region_loras: changes of the network's weights and where they count (``region_lora.py``); ``+`` concatenates.
    joint: how the masks of texts hold in joint attention, None for the defaults; at most one summand may have it.
    references: reference images as further image tokens (``references.py``); ``+`` concatenates.
    """

    tokens: tuple[Tokens, ...] = ()
    summary: Float[Tensor, "N D"] | None = None
    image_prompts: tuple[Tokens, ...] = ()
    channels: Float[Tensor, "K H W"] | None = None
    inpaint_context: InpaintContext | None = None
    pooled: Float[Tensor, " P"] | None = None
    micro: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])
    residuals: Mapping[InjectionPoint, tuple[Tensor, ...]] = field(
        default_factory=dict[InjectionPoint, tuple[Tensor, ...]]
    )
    controlnets: tuple[ControlNetRequest, ...] = ()
    region_loras: tuple[RegionLora, ...] = ()
    joint: JointOptions | None = None
    references: tuple[Reference, ...] = ()

    def __add__(self, other: "Conditioning") -> "Conditioning":
        return Conditioning(
            tokens=self.tokens + other.tokens,
            summary=_at_most_one("a summary text", self.summary, other.summary),
            image_prompts=self.image_prompts + other.image_prompts,
            channels=_at_most_one("input channels", self.channels, other.channels),
            inpaint_context=_at_most_one("an inpainting context", self.inpaint_context, other.inpaint_context),
            pooled=_at_most_one("pooled text", self.pooled, other.pooled),
            micro=_merged(self.micro, other.micro),
            residuals=_summed(self.residuals, other.residuals),
            controlnets=self.controlnets + other.controlnets,
            region_loras=self.region_loras + other.region_loras,
            joint=_at_most_one("options of joint attention", self.joint, other.joint),
            references=self.references + other.references,
        )

    def __repr__(self) -> str:
        parts = [repr(piece) for piece in self.tokens]
        parts += [f"an image prompt of {piece!r}" for piece in self.image_prompts]
        parts += [f"{self.channels.shape[0]} channels"] if self.channels is not None else []
        parts += ["an inpainting context"] if self.inpaint_context is not None else []
        parts += ["pooled text"] if self.pooled is not None else []
        parts += [f"{len(levels)} residuals at {point}" for point, levels in self.residuals.items()]
        parts += [f"a ControlNet on {float((one.weight > 0).float().mean()):.0%}" for one in self.controlnets]
        parts += map(repr, self.region_loras)
        parts += [repr(self.joint)] if self.joint is not None else []
        parts += map(repr, self.references)
        return "; ".join(parts) or "nothing"


def _at_most_one(what: str, first: T | None, second: T | None) -> T | None:
    if first is not None and second is not None:
        raise CapabilityError(f"Two conditions of one view both bring {what}, which has one place; give one a view.")
    return second if first is None else first


def _merged(
    first: Mapping[str, tuple[float, ...]], second: Mapping[str, tuple[float, ...]]
) -> Mapping[str, tuple[float, ...]]:
    for name in first.keys() & second.keys():
        _at_most_one(f"{name} conditioning", first[name], second[name])
    return {**first, **second}


def _summed(
    first: Mapping[InjectionPoint, tuple[Tensor, ...]], second: Mapping[InjectionPoint, tuple[Tensor, ...]]
) -> Mapping[InjectionPoint, tuple[Tensor, ...]]:
    return {point: _sum_levels(point, first.get(point, ()), second.get(point, ())) for point in {**first, **second}}


def _sum_levels(point: InjectionPoint, first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    if not first or not second:
        return first or second
    shapes = [tuple(level.shape for level in levels) for levels in (first, second)]
    if shapes[0] != shapes[1]:
        raise CapabilityError(f"Two conditions of one view bring residuals of different shapes at {point}.")
    return tuple(a + b for a, b in zip(first, second, strict=True))


Branch: TypeAlias = Conditioning | Callable[[Tensor, Step], Conditioning]
"""What conditions one branch; a function where it depends on the step, given the view's window z [C, H, W]."""
