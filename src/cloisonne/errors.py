"""The exceptions of cloisonne.

CloisonneError
├── SceneError        (ValueError)  what the user asked for cannot be meant: shape, field, number; carries ``region``
├── ImageError        (ValueError)  a given picture or mask cannot be read or does not fit; carries ``region``
├── CapabilityError   (ValueError)  the loaded model cannot do what the scene asks; carries ``region``
├── CheckpointError   (ValueError)  a model folder or file is not what it should be
│   └── NotFiniteError              its networks give NaN or infinity
├── TrainingError     (ValueError)  training data or settings that nothing can be learned from
├── OutputError       (OSError)     a result cannot be written where it was asked for
└── Cancelled         (RuntimeError) a run was stopped through its callback; the model stays usable

CloisonneWarning (UserWarning) is given by :func:`warnings.warn` where a picture is made, but something of what was
asked for is not in it.

Every message says what was given, what is wrong and what to do, and begins with ``Region "name": `` when it is about
one. Where the advice is to give an argument, it is spelt as on the surface in use; see :func:`spelled`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COMMAND_LINE: ContextVar[bool] = ContextVar("command_line", default=False)


@contextmanager
def on_command_line() -> Iterator[None]:
    """Within it, messages are read by a user of the command line."""
    token = _COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _COMMAND_LINE.reset(token)


def spelled(python: str, option: str) -> str:
    """The Python spelling of an argument, such as ``overwrite=True``; on the command line its ``option``."""
    return option if _COMMAND_LINE.get() else python


class CloisonneError(Exception):
    """Base of everything cloisonne raises on purpose."""

    def __init__(self, message: str, *, region: str | None = None) -> None:
        super().__init__(f'Region "{region}": {message}' if region is not None else message)
        self.region = region


class SceneError(CloisonneError, ValueError):
    """A scene that cannot be meant: a bad shape, an unknown field, a number outside its range."""


class ImageError(CloisonneError, ValueError):
    """A picture or mask that is missing, unreadable, too large or of the wrong kind."""


class CapabilityError(CloisonneError, ValueError):
    """A request that the loaded model or chosen method cannot honour."""


class CheckpointError(CloisonneError, ValueError):
    """A model folder or file that is missing, damaged or of another family."""


class NotFiniteError(CheckpointError):
    """Networks that give NaN or infinity. explained: whether the message says where that comes from."""

    def __init__(self, message: str, *, explained: bool = False) -> None:
        super().__init__(message)
        self.explained = explained


class TrainingError(CloisonneError, ValueError):
    """Training data that is missing or damaged, or settings that nothing can be trained with."""


class OutputError(CloisonneError, OSError):
    """A result that cannot be written: the place exists, is not writable, or has an unknown ending."""


class Cancelled(CloisonneError, RuntimeError):
    """A run that was stopped between two steps; nothing was written and the model stays usable."""


class CloisonneWarning(UserWarning):
    """Something of what was asked for is not in the picture; ``Result.warnings`` holds the same sentences."""
