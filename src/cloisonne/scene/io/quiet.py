"""Pillow without warnings."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.RLock()
"""The warning filters are those of all threads: two that replace them at once may not restore them."""


@contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore all warnings inside, in one thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
