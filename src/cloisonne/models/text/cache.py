"""A bounded cache of what a text encoder returned, so that a text is encoded once across calls."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from torch import Tensor, nn

from cloisonne.models.text.encoder import EncodedText

BOUND = 128 * 2**20
"""Bytes that one text encoder keeps: about 500 texts of Stable Diffusion 1.x, 200 of XL."""


class TextCache:
    """Encoded texts of one encoder, the least recently used leave first; threads may share it.

    A text is encoded again after its encoder's weights changed in place, as in training.

    Args:
        modules: The encoder's networks.
        bound: Bytes to keep at most.
    """

    def __init__(self, modules: Sequence[nn.Module], bound: int = BOUND) -> None:
        self._modules = tuple(modules)
        self._bound = bound
        self._kept: OrderedDict[Hashable, EncodedText] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, encode: Callable[[], EncodedText]) -> EncodedText:
        """The text of a key, from ``encode`` where it is not kept. Nobody may change its tensors."""
        whole = (key, self._version())
        with self._lock:
            if whole in self._kept:
                self._kept.move_to_end(whole)
                return self._kept[whole]
        made = encode()
        with self._lock:
            if whole not in self._kept:
                self._kept[whole] = made
                self._size += _bytes(made)
            while self._size > self._bound:
                self._size -= _bytes(self._kept.popitem(last=False)[1])
        return made

    def keeps(self, key: Hashable) -> bool:
        """Whether the text of a key is kept."""
        return (key, self._version()) in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def _version(self) -> int:
        """Rises with each change in place of a weight."""
        return sum(weight._version for module in self._modules for weight in module.parameters())


def _bytes(text: EncodedText) -> int:
    tensors: list[Tensor] = [text.tokens] if text.pooled is None else [text.tokens, text.pooled]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
