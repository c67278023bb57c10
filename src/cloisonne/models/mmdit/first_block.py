"""First-block caching of diffusion transformers (ParaAttention; ``FirstBlockCache`` in diffusers).

Where features may be reused, a pass runs the first block. If that adds to the image tokens about what it added when all
blocks ran last, the other blocks add what they added then. The wrappers of the blocks are permanent and act only inside
:func:`caching` of the same context, so that several threads can use one network. Unlike diffusers' hooks, what is kept
belongs to a run and to one row of a batch, and whether it may be reused at all is decided before
(:class:`~cloisonne.core.run.FeatureCaches`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from cloisonne.core.run import RowFeatures

_NOW: ContextVar["_Pass | None"] = ContextVar("first_block", default=None)

Forward = Callable[..., Any]


class _Pass:
    """One forward of one row. earlier: what may be reused. change: from which relative change on all blocks run."""

    def __init__(self, earlier: RowFeatures | None, change: float) -> None:
        self.earlier = earlier
        self.change = change
        self.first: Tensor | None = None
        self.found: RowFeatures | None = None
        self.reuses = False

    def began(self, before: Tensor, after: Tensor) -> None:
        """before, after: image tokens [1, Q, D] at the ends of the first block."""
        self.first, added = after, after - before
        self.found = RowFeatures(first=added, others=added)
        if self.earlier is not None:
            differs = (added - self.earlier.first).abs().mean() / self.earlier.first.abs().mean()
            self.reuses = bool(differs < self.change)

    def ended(self, after: Tensor) -> None:
        """after: what the last block returns, of which the image tokens come last."""
        assert self.first is not None, "the first block ran before the last"
        assert self.found is not None, "the first block ran before the last"
        self.found = RowFeatures(first=self.found.first, others=after[:, -self.first.shape[1] :] - self.first)

    def end(self) -> Tensor:
        """The image tokens behind the last block, of the first block and what the others added earlier."""
        assert self.first is not None, "the first block ran"
        assert self.earlier is not None, "features are reused"
        return self.first + self.earlier.others


def install(blocks: Sequence[nn.Module]) -> None:
    """Wrap the blocks of a network, of which there are two at least. Idempotent."""
    for place, block in enumerate(blocks):
        wrapper = _first if place == 0 else _last if place == len(blocks) - 1 else _between
        plain: Any = block.forward
        if not hasattr(plain, "without_cache"):
            block.forward = _wrapped(plain, wrapper)


@contextmanager
def caching(earlier: RowFeatures | None, change: float) -> Iterator[_Pass]:
    """In this context, the network's next pass reuses the features or keeps its own: ``found``, ``reuses`` of it."""
    own = _Pass(earlier, change)
    before = _NOW.set(own)
    try:
        yield own
    finally:
        _NOW.reset(before)


def _wrapped(plain: Forward, wrapper: Callable[..., Any]) -> Forward:
    def forward(*args: Any, **given: Any) -> Any:
        now = _NOW.get()
        return plain(*args, **given) if now is None else wrapper(now, plain, args, given)

    forward.without_cache = plain  # pyright: ignore[reportFunctionMemberAccess]
    return forward


def _tokens(args: tuple[Any, ...], given: dict[str, Any]) -> Tensor:
    return args[0] if args else given["hidden_states"]


def _image(output: Any) -> Tensor:
    """The image tokens of a block's output, which is of one sequence, or of the text and the image."""
    return output[1] if isinstance(output, tuple) else output


def _first(now: _Pass, plain: Forward, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    output = plain(*args, **given)
    now.began(_tokens(args, given), _image(output))
    return output


def _between(now: _Pass, plain: Forward, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    if not now.reuses:
        return plain(*args, **given)
    text, tokens = given.get("encoder_hidden_states"), _tokens(args, given)
    return tokens if text is None else (text, tokens)


def _last(now: _Pass, plain: Forward, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
    if not now.reuses:
        output = plain(*args, **given)
        now.ended(_image(output))
        return output
    text, tokens, end = given.get("encoder_hidden_states"), _tokens(args, given), now.end()
    if text is not None:
        return text, end
    # The tokens before those of the image are of text, which no later layer reads.
    return torch.cat([tokens[:, : -end.shape[1]], end], 1)
