"""The exceptions of cloisonne.

CloisonneError
├── SceneError        (ValueError)   an invalid scene: wrong type, unknown field, value out of range; has ``region``
├── ImageError        (ValueError)   an image or mask that cannot be read, or does not fit; has ``region``
├── CapabilityError   (ValueError)   the loaded model does not support what the scene asks for; has ``region``
├── CheckpointError   (ValueError)   a model folder or file that is missing, damaged or of another model family
│   └── NotFiniteError               its networks return NaN or infinity
├── TrainingError     (ValueError)   training data or settings that nothing can be learned from
├── OutputError       (OSError)      a result cannot be written to the given path
└── Cancelled         (RuntimeError) the callback stopped the run; the model stays usable

CloisonneWarning (UserWarning) is issued through :func:`warnings.warn` when an image was generated, but lacks part of
what was asked for.

Every message names what was given, what is wrong and what to do. It begins with ``Region "name": `` when it is about
one region. Arguments are named as Python or the command line spells them, whichever is in use; see :func:`spelled`.
"""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_COMMAND_LINE: ContextVar[bool] = ContextVar("command_line", default=False)


@contextmanager
def on_command_line() -> Generator[None]:
    """Within this context, :func:`spelled` returns command-line options."""
    token = _COMMAND_LINE.set(True)
    try:
        yield
    finally:
        _COMMAND_LINE.reset(token)


def spelled(python: str, option: str) -> str:
    """Return how the surface in use spells an argument.

    Args:
        python: in Python, such as ``overwrite=True``.
        option: on the command line, such as ``--overwrite``.
    """
    return option if _COMMAND_LINE.get() else python


class CloisonneError(Exception):
    """Base class of all errors that cloisonne raises.

    Attributes:
        region: name of the region that the error is about, or None.
    """

    def __init__(self, message: str, *, region: str | None = None) -> None:
        super().__init__(f'Region "{region}": {message}' if region is not None else message)
        self.region = region


class SceneError(CloisonneError, ValueError):
    """An invalid scene: a bad shape, an unknown field, a number out of range."""


class ImageError(CloisonneError, ValueError):
    """An image or mask that is missing, unreadable, too large or of the wrong kind."""


class CapabilityError(CloisonneError, ValueError):
    """A request that the loaded model or the chosen method does not support."""


class CheckpointError(CloisonneError, ValueError):
    """A model folder or file that is missing, damaged or of another model family."""


class NotFiniteError(CheckpointError):
    """Networks that return NaN or infinity.

    Attributes:
        explained: whether the message names the cause.
    """

    def __init__(self, message: str, *, explained: bool = False) -> None:
        super().__init__(message)
        self.explained = explained


class TrainingError(CloisonneError, ValueError):
    """Training data that is missing or damaged, or settings that cannot be trained with."""


class OutputError(CloisonneError, OSError):
    """A result that cannot be written: the path exists, is not writable, or has an unsupported extension."""


class Cancelled(CloisonneError, RuntimeError):
    """A run that was stopped between two steps. Nothing was written, and the model stays usable."""


class CloisonneWarning(UserWarning):
    """The image lacks part of what was asked for. ``Result.warnings`` holds the same sentences."""
