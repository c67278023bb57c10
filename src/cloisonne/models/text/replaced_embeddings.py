"""Vectors in place of a text encoder's token embeddings, in one context.

The hook on the embeddings is permanent and acts only inside :func:`replacing_embeddings` of the same context, so that
several threads can use one text encoder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Replaced(NamedTuple):
    """Vectors [N, D], and where they are; see :func:`replacing_embeddings`."""

    vectors: Tensor
    places: Tensor | None


_REPLACED: ContextVar[_Replaced | None] = ContextVar("replaced_embeddings", default=None)


def install(table: Any) -> None:
    """Put the hook on a layer of token embeddings. Idempotent."""
    if _replace not in table._forward_hooks.values():
        table.register_forward_hook(_replace)


@contextmanager
def replacing_embeddings(vectors: Tensor, places: Tensor | None = None) -> Iterator[None]:
    """In this context, vectors [N, D] are the embeddings of the N tokens after the start token.

    places: [R, L] int, for texts that differ: k + 1 where row k of ``vectors`` is, 0 where the token's embedding stays.
    """
    before = _REPLACED.set(_Replaced(vectors, places))
    try:
        yield
    finally:
        _REPLACED.reset(before)


def active() -> bool:
    """Whether this context replaces embeddings."""
    return _REPLACED.get() is not None


def _replace(module: Any, args: Any, out: Tensor) -> Tensor | None:
    if (replaced := _REPLACED.get()) is None:
        return None
    vectors, places = replaced
    if places is not None:
        table = torch.cat([out.new_zeros(1, out.shape[-1]), vectors.to(out)])
        return torch.where((places > 0)[..., None], table[places], out)
    filled = out.clone()
    filled[:, 1 : len(vectors) + 1] = vectors.to(filled)
    return filled
