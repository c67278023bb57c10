"""Vectors in place of a text encoder's token embeddings, in one context.

The hook on the embeddings is permanent and acts only inside :func:`replacing_embeddings` of the same context, so that
several threads can use one text encoder.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import Tensor

_VECTORS: ContextVar[Tensor | None] = ContextVar("replaced_embeddings", default=None)
"""Vectors [N, D] that follow the start token."""


def install(table: Any) -> None:
    """Put the hook on a layer of token embeddings. Idempotent."""
    if _replace not in table._forward_hooks.values():
        table.register_forward_hook(_replace)


@contextmanager
def replacing_embeddings(vectors: Tensor) -> Iterator[None]:
    """In this context, vectors [N, D] are the embeddings of the N tokens after the start token."""
    before = _VECTORS.set(vectors)
    try:
        yield
    finally:
        _VECTORS.reset(before)


def active() -> bool:
    """Whether this context replaces embeddings."""
    return _VECTORS.get() is not None


def _replace(module: Any, args: Any, out: Tensor) -> Tensor | None:
    if (vectors := _VECTORS.get()) is None:
        return None
    filled = out.clone()
    filled[:, 1 : len(vectors) + 1] = vectors.to(filled)
    return filled
