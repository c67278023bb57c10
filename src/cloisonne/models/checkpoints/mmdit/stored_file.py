"""The tensors of one safetensors or GGUF file, quantised ones as they are stored, with a record of their use."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from cloisonne.models.checkpoints.few_steps import TITLES
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.quantized.gguf_file import SUFFIX, read_gguf
from cloisonne.models.quantized.layers import Stored
from cloisonne.models.quantized.scaled_float8 import with_scales


class StoredFile:
    """One file of weights.

    source: its path. tensors: by name, without scales and marks of quantised ones. titles: names of the network, the
    file's own first. Raises CheckpointError as the readers of both formats.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        if source.suffix == SUFFIX:
            self.tensors: dict[str, Tensor | Stored] = read_gguf(source)
            names: Any = self.tensors  # a record of names
            self._record = TensorFile(source, names)
        else:
            self._record = TensorFile.open(source)
            self.tensors = with_scales(self._record.tensors, source)
        header = self._record.header
        self.titles = (source.stem, *(header[entry] for entry in TITLES if entry in header))

    def under(self, *prefixes: str) -> bool:
        """Whether it holds a tensor under one of these prefixes."""
        return any(name.startswith(prefixes) for name in self.tensors)

    def take(self, prefix: str) -> dict[str, Tensor | Stored]:
        """The tensors under a prefix by the rest of their names; they are marked as used."""
        for name in self._record.keys:
            if name.startswith(prefix):
                self._record.take(name)
        return {name.removeprefix(prefix): own for name, own in self.tensors.items() if name.startswith(prefix)}

    def skip(self, names: Iterable[str] | Callable[[str], bool], why: str) -> None:
        """As :meth:`TensorFile.skip`."""
        self._record.skip(names, why)

    def settle(self, what: str) -> tuple[str, ...]:
        """As :meth:`TensorFile.settle`."""
        return self._record.settle(what)


def names_in(file: Path) -> tuple[str, ...]:
    """The names of a safetensors file's tensors, from its header; none where it cannot be read."""
    try:
        with safe_open(file, "pt") as opened:
            return tuple(opened.keys())
    except Exception:  # its reader says what is wrong
        return ()
