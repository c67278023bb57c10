"""What diffusion transformers have in common as denoisers; a family adds its network's inputs, positions and sign."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from cloisonne.core.attention.edits import ReuseBackground, ShareSelf
from cloisonne.core.attention.joint import QueryGroup, joint_attention
from cloisonne.core.attention.joint_blocks import BlockGroups, JointOptions
from cloisonne.core.parameterization import to_x0
from cloisonne.core.plan import Call, Site
from cloisonne.errors import CapabilityError
from cloisonne.models.compiled import running_uncompiled
from cloisonne.models.cost import Cost
from cloisonne.models.mmdit import first_block, region_lora
from cloisonne.models.mmdit.region_lora import TokenSet
from cloisonne.models.mmdit.residuals import block_residuals, fits_blocks
from cloisonne.models.mmdit.sequence import Order, RowSequence, row_loras, row_sequence
from cloisonne.models.mmdit.sharing import Sharing, sharing_of
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
    of each reference image. residuals: what ControlNets add behind each block, [1, Q, D] of the image tokens, or of
    these and the tokens behind them; () without any. blocks: who attends to whom. computed: the image tokens that are
    computed, by their number; None for all. refining: who attends to whom where all image tokens are computed.
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
    residuals: tuple[Tensor | None, ...]
    blocks: BlockGroups
    computed: Tensor | None = None
    refining: tuple[QueryGroup, ...] = ()

    def some(self, tokens: Tensor) -> Tensor:
        """Of image tokens [1, Q, ...], and any that follow them, those that are computed and those that follow."""
        if self.computed is None:
            return tokens
        behind = torch.arange(math.prod(self.grid), tokens.shape[1], device=tokens.device)
        return tokens.index_select(1, torch.cat([self.computed, behind]))

    def whole(self, tokens: Tensor) -> Tensor:
        """[1, Q, D] of the computed image tokens and any that follow them; 0 where none is computed."""
        count = math.prod(self.grid)
        if self.computed is None:
            return tokens[:, :count]
        found = tokens.new_zeros(1, count, tokens.shape[2])
        return found.index_copy(1, self.computed, tokens[:, : len(self.computed)])


class JointDenoiser(ABC):
    """A diffusion transformer as a :class:`~cloisonne.models.denoiser.Denoiser`; every batch row is a forward.

    A subclass sets the order of the sequence and ``multiple``, to multiples of which its network pads the image and the
    texts, and installs attention processors of its own, which call ``attend`` by ``input.blocks.attend``. The network
    is called only through this object, and a run's state travels in the call. attend: ``joint_attention``, which works
    by groups.
    """

    order: Order = "text first"
    multiple: int = 1

    def __init__(
        self,
        module: Any,
        spec: NetSpec,
        attend: JointAttention = joint_attention,
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        self.module = module
        self.spec = spec
        self.attend = attend
        self.modules = (module,)
        self.loras: Mapping[str, Lora] = loras or {}
        region_lora.install(module, self.loras, self.tokens_of)
        if self.reuses_features:
            first_block.install([module.get_submodule(name) for name in self.block_names()])

    def with_loras(self, loras: Mapping[str, Lora]) -> Self:
        """A denoiser of the same network with LoRAs by region, which it takes once: their hooks are permanent."""
        return type(self)(self.module, self.spec, self.attend, loras)

    def tokens_of(self, layer: str) -> TokenSet:
        """Which tokens of the sequence a layer of the network reads."""
        return region_lora.tokens_of(layer)

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
        canvas = (call.z.shape[-2], call.z.shape[-1])
        grid = self._grid(canvas)
        sharing = sharing_of(call, self.sites(canvas), grid) if call.edits else None
        if sharing is None:
            flows = self._reusing(call) if call.deep is not None and self.reuses_features else self._flows(call)
            return to_x0(torch.cat(flows), call.z, call.step, self.spec.prediction)
        found: dict[int, Tensor] = {}
        for row in sharing.order:
            found[row] = sharing.completed(row, self._flow(call, row, sharing), found, grid)
        sharing.record(call)
        return to_x0(torch.cat([found[row] for row in range(len(found))]), call.z, call.step, self.spec.prediction)

    @property
    def reuses_features(self) -> bool:
        """Whether it takes ``Call.deep``: a first block can stand for the others."""
        return len(self.block_names()) > 1

    def _flows(self, call: Call) -> list[Tensor]:
        return [self._flow(call, row) for row in range(len(call.rows))]

    def _reusing(self, call: Call) -> list[Tensor]:
        """The flow of each row, with what its first block allows to reuse of the row's own features."""
        deep, flows, reused = call.deep, list[Tensor](), list[bool]()
        assert deep is not None, "features are reused or kept"
        for row in range(len(call.rows)):
            with first_block.caching(deep.rows.get(row), deep.change) as now:
                flows.append(self._flow(call, row))
            reused.append(now.reuses)
            if not now.reuses and now.found is not None:
                deep.rows[row] = now.found
        deep.reused = all(reused)
        deep.uses = deep.uses if any(reused) else 0
        return flows

    def _flow(self, call: Call, row: int, sharing: Sharing | None = None) -> Tensor:
        z = call.z[row : row + 1]
        grid = self._grid((z.shape[-2], z.shape[-1]))
        sequence = row_sequence(call, row, grid, self.order, self.multiple)
        loras = row_loras(call, row, grid, sequence)
        with running_uncompiled(loras is not None or sharing is not None), region_lora.applying_loras(loras):
            return self.flow(self._row(call, row, grid, sequence, sharing)).float()

    def sites(self, canvas: tuple[int, int]) -> tuple[Site, ...]:
        """The attention layers on a canvas (H, W), in the order of a forward pass."""
        names = self.block_names()
        last = max(len(names) - 1, 1)
        return tuple(Site(name, self._grid(canvas), "joint", depth=i / last) for i, name in enumerate(names))

    def _grid(self, canvas: tuple[int, int]) -> tuple[int, int]:
        return canvas[0] // self.spec.patch, canvas[1] // self.spec.patch

    def _row(
        self, call: Call, row: int, grid: tuple[int, int], sequence: RowSequence, sharing: Sharing | None
    ) -> RowInput:
        z, dtype = call.z[row : row + 1], self.module.dtype
        references = call.references[row] if call.references else ()
        options = (call.joint[row] if call.joint else None) or JointOptions()
        blocks = sequence.blocks(options, call.step.progress)
        given = RowInput(
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
            residuals=block_residuals(call, row, dtype),
            blocks=blocks if sharing is None else sharing.blocks(call, row, sequence, blocks),
            computed=None if sharing is None else sharing.computed.get(row),
            refining=blocks.regional,
        )
        return replace(given, residuals=tuple(None if own is None else given.some(own) for own in given.residuals))

    def _check(self, call: Call) -> None:
        view = call.rows[0].view
        given = {
            "image prompts": call.image_prompts is not None,
            "extra input channels": call.channels is not None and not self.spec.extra_channels,
            "residuals of controls": not fits_blocks(call, len(self.block_names())),
            "LoRAs by region next to attention edits": call.loras is not None and bool(call.edits),
            "such attention edits": not all(isinstance(edit, ShareSelf | ReuseBackground) for edit in call.edits),
            "reuse of a background": not self.spec.computes_parts
            and any(isinstance(edit, ReuseBackground) for edit in call.edits),
            "reference images": bool(call.references) and not self.spec.takes_references,
        }
        for what, is_given in given.items():
            if is_given:
                raise CapabilityError(f'View "{view}": this network takes no {what}.')
        if call.loras is not None and (missing := call.loras.names - self.loras.keys()):
            raise CapabilityError(f'View "{view}": the network has no LoRA "{min(missing)}"; load it for regions.')
        extra = 0 if call.channels is None else call.channels.shape[1]
        if extra != self.spec.extra_channels:
            raise CapabilityError(
                f'View "{view}": {extra} extra input channels were given, but the network takes '
                f"{self.spec.extra_channels}; load another network."
            )
        if (call.pooled is None) == (self.spec.pooled_width > 0) or set(call.micro) != set(self.spec.micro):
            wanted = ", ".join(["pooled text" if self.spec.pooled_width else "no pooled text", *self.spec.micro])
            raise CapabilityError(f'View "{view}": the network takes {wanted}, and got something else.')
