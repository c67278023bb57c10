"""The named tensors and header of one file, with a record of which of them are used.

A reader takes the tensors that it uses, skips those known to have no effect, and settles the rest: a file of which
nothing was used is refused, and unused tensors of any other are named in a warning.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cloisonne.errors import CheckpointError

UNUSED_SUFFIXES = ("position_ids", "num_batches_tracked")
"""Suffixes of tensors that a network recomputes: they have no effect in any file."""

NOTES = (
    *("format", "ss_", "sshs_", "modelspec.", "title", "author", "description", "license", "name", "step", "epoch"),
    *(
        "software",
        "version",
        "training_info",
        "date",
        "tags",
        "thumbnail",
        "prompt",
        "workflow",
        "hash",
        "converted_by",
    ),
)
"""Header entries that only describe a file; a name that ends in "_" or "." is a prefix.

A reader that uses one of them, such as ``modelspec.prediction_type``, reads it by :meth:`TensorFile.entry`.
"""

NAMED = 3
"""How many names a message lists; the rest is counted."""


class TensorFile:
    """The tensors and the header of one file.

    source: its path, for messages. tensors: by name. header: the entries of a safetensors file's ``__metadata__``.
    """

    def __init__(
        self, source: Path | str, tensors: Mapping[str, Tensor], header: Mapping[str, str] | None = None
    ) -> None:
        self.source = source
        self.tensors = dict(tensors)
        self.header = dict(header or {})
        self._used: set[str] = set()
        self._skipped: set[str] = {name for name in tensors if name.endswith(UNUSED_SUFFIXES)}
        self._read: set[str] = set()

    @classmethod
    def open(cls, file: Path) -> "TensorFile":
        """Open a safetensors file. Raises CheckpointError where it is missing, damaged or of another format."""
        try:
            with file.open("rb") as stream:
                head = stream.read(64)
            if head.startswith(b"version https://git-lfs"):
                raise CheckpointError(f'"{file}" is a git-lfs pointer and not the file; fetch it with "git lfs pull".')
            # A safetensors file begins with the length of its header, eight arbitrary bytes, and then the header.
            if head[8:9] != b"{" and head[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04"):
                raise CheckpointError(
                    f'"{file}" is a pickle under another name; convert it once with "cloisonne convert {file} FOLDER".'
                )
            with safe_open(file, "pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a mapping
                return cls(file, tensors, opened.metadata())
        except CheckpointError:
            raise
        except FileNotFoundError as error:
            raise CheckpointError(f'There is no file "{file}"; check its path.') from error
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(
                f'"{file}" is no safetensors file that can be read ({reason(error)}); download it again.'
            ) from error

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of all its tensors, in the file's order."""
        return tuple(self.tensors)

    @property
    def left(self) -> tuple[str, ...]:
        """The names of the tensors that were neither taken nor skipped, in the file's order."""
        return tuple(name for name in self.tensors if name not in self._used and name not in self._skipped)

    def take(self, name: str) -> Tensor:
        """The tensor, which is marked as used. Raises CheckpointError where the file lacks it."""
        if name not in self.tensors:
            raise CheckpointError(f'"{self.source}" lacks the tensor "{name}"; download it again.')
        self._used.add(name)
        return self.tensors[name]

    def within(self, prefix: str) -> dict[str, Tensor]:
        """The tensors with this prefix, by the rest of their names, without marking them as used."""
        return {name.removeprefix(prefix): tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}

    def take_prefix(self, prefix: str) -> dict[str, Tensor]:
        """The tensors with this prefix, by the rest of their names, marked as used."""
        found = self.within(prefix)
        self._used |= {prefix + name for name in found}
        return found

    def skip(self, names: Iterable[str] | Callable[[str], bool], why: str) -> None:
        """Mark known tensors that are rightly not used; no warning names them. names: or a test of a name.

        why: for the reader of the code; it is not displayed.
        """
        assert why, "a tensor is skipped for a reason"
        wanted = names if callable(names) else set(names).__contains__
        self._skipped |= {name for name in self.tensors if wanted(name)}

    def entry(self, name: str) -> str | None:
        """A header entry, which is marked as read; None where the file has none of that name."""
        self._read.add(name)
        return self.header.get(name)

    def settle(self, what: str) -> tuple[str, ...]:
        """Warnings, one sentence each, about tensors and header entries that were not used.

        what: the kind of file, such as "LoRA". Raises CheckpointError where no tensor was used.
        """
        if not self._used:
            held = f"its tensors are {listed(self.keys)}" if self.tensors else "it holds no tensors"
            raise CheckpointError(f'"{self.source}" is no {what} of a known layout: {held}; load another file.')
        warnings = []
        if left := self.left:
            count, all_of_them = len(left), len(self.tensors)
            warnings.append(
                f'Of the {what} "{self.source}", {count} of {all_of_them} tensors {"is" if count == 1 else "are"} not '
                f"used: {listed(left)}."
            )
        if sentence := unknown_entries(f'{what} "{self.source}"', self.header, self._read):
            warnings.append(sentence)
        return tuple(warnings)


def unknown_entries(what: str, header: Mapping[str, str], read: Collection[str] = ()) -> str | None:
    """A sentence about header entries that are neither read nor notes, or None. what: names the file."""
    entries = [name for name in header if name not in read and not is_note(name)]
    if not entries:
        return None
    one = len(entries) == 1
    return (
        f"The header of the {what} has {'an entry' if one else 'entries'} that {'is' if one else 'are'} unknown and "
        f"not used: {listed(entries)}."
    )


def is_note(entry: str) -> bool:
    """Whether a header entry of this name only describes a file (``NOTES``)."""
    return any(entry.startswith(note) if note.endswith(("_", ".")) else entry == note for note in NOTES)


def reason(error: Exception) -> str:
    """The first informative line of a library's error, at most 200 characters, without punctuation at its end."""
    lines = [line.strip(" .\t") for line in str(error).splitlines()]
    return next((line[:200] for line in lines if line and not line.endswith(":")), type(error).__name__)


def listed(names: Iterable[str]) -> str:
    """The first ``NAMED`` names, quoted, and the number of the others."""
    found = list(names)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(f'"{name}"' for name in found[:NAMED]) + more


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, with no record of use. Raises CheckpointError as :meth:`TensorFile.open`."""
    return TensorFile.open(file).tensors
