"""What diffusion transformers have in common as denoisers; a family adds its network's inputs, positions and sign."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.attention.joint import BlockGroups, JointOptions, QueryGroup, joint_attention
from cloisonne.core.parameterization import to_x0
from cloisonne.core.plan import Call, Site
from cloisonne.errors import CapabilityError
from cloisonne.models.cost import Cost
from cloisonne.models.mmdit.sequence import Order, row_sequence
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.region_lora import Lora

JointAttention = Callable[[Tensor, Tensor, Tensor, Sequence[QueryGroup]], Tensor]
"""(q, k, v [B, heads, S, d], groups) -> [B, heads, S, d]; see :mod:`cloisonne.core.attention.joint`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowInput:
    """What one forward of one batch row gets.

    z: [1, C, H, W]. grid: (height, width) in image tokens. level: s of ``z = (1 - s) x0 + s n``, in [0, 1]. tokens:
    [1, N, D], all texts of the row. lengths: tokens of each text. padding: tokens that the network adds after each of
    them. pooled: [1, P]. micro: [1, ...] by name. channels: [1, K, H, W], further input channels. references: [C, h, w]
    of each reference image. blocks: who attends to whom.
    """

    z: Tensor
    grid: tuple[int, int]
    level: float
    tokens: Tensor
    lengths: tuple[int, ...]
    padding: tuple[int, ...]
    pooled: Tensor | None
    micro: Mapping[str, Tensor]
    channels: Tensor | None
    references: tuple[Tensor, ...]
    blocks: BlockGroups


class JointDenoiser(ABC):
    """A diffusion transformer as a :class:`~cloisonne.models.denoiser.Denoiser`; every batch row is a forward.

    A subclass sets the order of the sequence and ``multiple``, to multiples of which its network pads the image and the
    texts, and installs attention processors of its own, which call ``attend`` with ``input.blocks.of(block)``. The
    network is called only through this object, and a run's state travels in the call. attend: ``joint_attention``,
    which works by groups.
    """

    order: Order = "text first"
    multiple: int = 1

    def __init__(self, module: Any, spec: NetSpec, attend: JointAttention = joint_attention) -> None:
        self.module = module
        self.spec = spec
        self.attend = attend
        self.modules = (module,)
        self.loras: Mapping[str, Lora] = {}

    @abstractmethod
    def flow(self, given: RowInput) -> Tensor:
        """The flow ``n - x0`` [1, C, H, W], whatever the sign and the direction of time of the network."""

    @abstractmethod
    def block_names(self) -> tuple[str, ...]:
        """The network's blocks in the order of a forward pass; each has one attention layer."""

    @abstractmethod
    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        """One batch row on a canvas (H, W), conditioned on ``num_tokens`` tokens; nothing is computed."""

    def __call__(self, call: Call) -> Tensor:
        """Estimate of x0, float32 [R, C, H, W]. Raises CapabilityError where the call does not fit the network."""
        self._check(call)
        flows = [self.flow(self._row(call, row)).float() for row in range(len(call.rows))]
        return to_x0(torch.cat(flows), call.z, call.step, self.spec.prediction)

    def sites(self, canvas: tuple[int, int]) -> tuple[Site, ...]:
        """The attention layers on a canvas (H, W), in the order of a forward pass."""
        names = self.block_names()
        last = max(len(names) - 1, 1)
        return tuple(Site(name, self._grid(canvas), "joint", depth=i / last) for i, name in enumerate(names))

    def _grid(self, canvas: tuple[int, int]) -> tuple[int, int]:
        return canvas[0] // self.spec.patch, canvas[1] // self.spec.patch

    def _row(self, call: Call, row: int) -> RowInput:
        z, dtype = call.z[row : row + 1], self.module.dtype
        grid = self._grid((z.shape[-2], z.shape[-1]))
        references = call.references[row] if call.references else ()
        sequence = row_sequence(call, row, grid, self.order, self.multiple)
        options = (call.joint[row] if call.joint else None) or JointOptions()
        return RowInput(
            z=z.to(dtype),
            grid=grid,
            level=call.step.s,
            tokens=sequence.tokens[None].to(dtype),
            lengths=sequence.lengths,
            padding=sequence.padding,
            pooled=None if call.pooled is None else call.pooled[row : row + 1].to(dtype),
            micro={name: value[row : row + 1] for name, value in call.micro.items()},
            channels=None if call.channels is None else call.channels[row : row + 1].to(dtype),
            references=tuple(own.latents.to(z.device, dtype) for own in references),
            blocks=sequence.blocks(options, call.step.progress),
        )

    def _check(self, call: Call) -> None:
        view = call.rows[0].view
        given = {
            "image prompts": call.image_prompts is not None,
            "extra input channels": call.channels is not None and not self.spec.extra_channels,
            "residuals of controls": bool(call.residuals),
            "LoRAs by region": call.loras is not None,
            "attention edits": bool(call.edits),
            "reference images": bool(call.references) and not self.spec.takes_references,
        }
        for what, is_given in given.items():
            if is_given:
                raise CapabilityError(f'View "{view}": this network takes no {what}.')
        extra = 0 if call.channels is None else call.channels.shape[1]
        if extra != self.spec.extra_channels:
            raise CapabilityError(
                f'View "{view}": {extra} extra input channels were given, but the network takes '
                f"{self.spec.extra_channels}; load another network."
            )
        if (call.pooled is None) == (self.spec.pooled_width > 0) or set(call.micro) != set(self.spec.micro):
            wanted = ", ".join(["pooled text" if self.spec.pooled_width else "no pooled text", *self.spec.micro])
            raise CapabilityError(f'View "{view}": the network takes {wanted}, and got something else.')
