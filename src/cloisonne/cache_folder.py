"""The folder for what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The cache folder: ``CLOISONNE_CACHE``, else ``cloisonne`` in the user's cache folder."""
    named = os.environ.get("CLOISONNE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(named) if named else Path(base) / "cloisonne"
