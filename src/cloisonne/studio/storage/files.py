"""Picture files of a data folder. Their names are ids that the server made; they appear once they are complete."""

import hashlib
import math
import os
import time
from collections.abc import Set
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from cloisonne.studio.refusals import StorageFull
from cloisonne.studio.storage.ids import is_id, new_id


class PictureFiles:
    """PNG files by id, in folders by the first two digits. Raises OSError where the folder cannot be made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder.resolve()

    def path(self, picture: str) -> Path:
        """The path of a picture's file, which lies below the folder. Raises KeyError for anything but an id."""
        if not is_id(picture):
            raise KeyError(picture)
        return self._folder / picture[:2] / f"{picture}.png"

    def write(self, png: bytes) -> str:
        """Write a new file and return its id. Raises StorageFull."""
        picture = new_id()
        path = self.path(picture)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(exist_ok=True, mode=0o700)
            temporary.write_bytes(png)
            temporary.replace(path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            reason = error.strerror or error
            raise StorageFull(f"The server cannot store a picture ({reason}); free space on its disk.") from None
        return picture

    def read(self, picture: str) -> bytes:
        """The bytes of a picture's file. Raises KeyError where there is none."""
        try:
            return self.path(picture).read_bytes()
        except FileNotFoundError:
            raise KeyError(picture) from None

    def delete(self, picture: str) -> None:
        """Delete a picture's file, if there is one."""
        self.path(picture).unlink(missing_ok=True)

    def delete_except(self, pictures: Set[str], before: float = math.inf) -> None:
        """Delete the files of interrupted writes: all but those of these ids, and those changed since ``before``."""
        for folder in os.scandir(self._folder):
            if not folder.is_dir(follow_symlinks=False):
                continue
            for file in os.scandir(folder.path):
                if Path(file.name).stem in pictures and file.name.endswith(".png"):
                    continue
                with suppress(FileNotFoundError):  # renamed or deleted meanwhile
                    if file.stat().st_mtime <= before:
                        os.unlink(file.path)


def described(png: bytes) -> dict[str, int | str | float]:
    """The columns of a PNG file: width, height, bytes, sha256, created."""
    with Image.open(BytesIO(png), formats=["PNG"]) as image:
        width, height = image.size
    digest = hashlib.sha256(png).hexdigest()
    return {"width": width, "height": height, "bytes": len(png), "sha256": digest, "created": time.time()}
