"""Which rows of a call store queries, keys and values of their image tokens for which others, and in which order."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.attention.edits import ReuseBackground, ShareSelf
from cloisonne.core.attention.joint import QueryGroup
from cloisonne.core.attention.joint_blocks import BlockGroups
from cloisonne.core.attention.row_exchange import BackgroundMemory, RowExchange, Stored, reduced
from cloisonne.core.plan import Call, Site
from cloisonne.models.mmdit.sequence import RowSequence


@dataclass(frozen=True, eq=False)
class Sharing:
    """The rows of a call.

    order: sources before the rows that take of them. sources: by row that takes, the row it takes of. stored: by
    source. shared: the layers in which a row takes queries and keys. computed: the image tokens that a row computes,
    by their number, where these are not all.
    """

    order: tuple[int, ...]
    sources: Mapping[int, int]
    stored: Mapping[int, Stored]
    shared: Mapping[int, frozenset[Hashable]]
    computed: Mapping[int, Tensor]

    def blocks(self, call: Call, row: int, sequence: RowSequence, groups: BlockGroups) -> BlockGroups:
        """Who attends to whom in a row, with what it stores for other rows and takes of them."""
        source, computed = self.sources.get(row), self.computed.get(row)
        if source is None and row not in self.stored:
            return groups
        start, stop = sequence.layout.image
        if computed is not None:
            whole, alone = (sequence.layout.length, (start, stop)), (stop - start, (0, stop - start))

            def own(given: tuple[QueryGroup, ...], length: int, image: tuple[int, int]) -> tuple[QueryGroup, ...]:
                key = (reduced, id(given), id(computed))
                return call.run.state(key, lambda: reduced(given, length, image, computed))

            groups = replace(
                groups,
                regional=own(groups.regional, *whole),
                between=own(groups.between, *whole),
                image=own(groups.image, *alone),
            )
            stop = start + len(computed)
        return replace(
            groups,
            exchange=RowExchange(
                (start, stop),
                stored=self.stored.get(row),
                source=None if source is None else self.stored[source],
                shared=self.shared.get(row, frozenset()),
                computed=computed,
            ),
        )

    def completed(self, row: int, flow: Tensor, flows: Mapping[int, Tensor], grid: tuple[int, int]) -> Tensor:
        """A row's flow [1, C, H, W], with its source's where it is not computed."""
        if row not in self.computed:
            return flow
        inside = torch.zeros(grid[0] * grid[1], dtype=torch.bool, device=flow.device)
        inside[self.computed[row]] = True
        cells = F.interpolate(inside.view(1, 1, *grid).float(), flow.shape[-2:], mode="nearest")
        return torch.where(cells > 0, flow, flows[self.sources[row]])

    def record(self, call: Call) -> None:
        """Note in the run how much memory the stored keys and values took."""
        memory = call.run.state(BackgroundMemory, BackgroundMemory)
        memory.num_bytes = max(memory.num_bytes, sum(stored.num_bytes for stored in self.stored.values()))


def sharing_of(call: Call, sites: Sequence[Site], grid: tuple[int, int]) -> Sharing:
    """What the attention edits of a call ask for. grid: (height, width) in image tokens."""
    sources: dict[int, int] = {}
    shared: dict[int, set[Hashable]] = {}
    computed: dict[int, Tensor] = {}
    for edit in call.edits:
        if isinstance(edit, ShareSelf):
            for block in (i for i, site in enumerate(sites) if edit.touches(site, call)):
                for source, row in edit.query_key_donors(sites[block], call):
                    sources[row] = source
                    shared.setdefault(row, set()).update((block, ("image", block)))
        elif isinstance(edit, ReuseBackground) and edit.mask.shape == call.z.shape[-2:]:
            some = call.run.state((ReuseBackground, edit, grid), lambda edit=edit: _tokens(edit.mask, grid))
            if len(some) < grid[0] * grid[1]:
                for source, row in edit.pairs(call):
                    sources[row], computed[row] = source, some
    stored: dict[int, Stored] = {}
    for row, source in sources.items():
        own = stored.get(source, Stored())
        background = _others(computed[row], grid) if row in computed else own.background
        stored[source] = Stored(own.shared | frozenset(shared.get(row, ())), background)
    rows = range(len(call.rows))
    order = (*(row for row in rows if row not in sources), *(row for row in rows if row in sources))
    return Sharing(order, sources, stored, {row: frozenset(layers) for row, layers in shared.items()}, computed)


def _tokens(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """The numbers of the image tokens with any pixel of the mask [H, W]."""
    cells = F.adaptive_max_pool2d((mask > 0).float()[None], grid)[0]
    return cells.flatten().nonzero()[:, 0]


def _others(some: Tensor, grid: tuple[int, int]) -> Tensor:
    left = torch.ones(grid[0] * grid[1], dtype=torch.bool, device=some.device)
    left[some] = False
    return left.nonzero()[:, 0]
