"""SHA-256 of files, computed once while a file does not change."""

import functools
import hashlib
from pathlib import Path


def sha256_of(file: Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    found = file.stat()
    return _sha256(file, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _sha256(file: Path, inode: int, size: int, modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
