"""The result of an edit: two images, their difference, and how they are written."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from cloisonne.errors import OutputError, spelled
from cloisonne.pipelines.result import record_of, warnings_of
from cloisonne.scene.io.output import check_output, write_picture
from cloisonne.scene.scene import Scene

if TYPE_CHECKING:
    from cloisonne.models.model import Model

NAMES = ("before.png", "after.png", "difference.png")
REPORT = "report.json"


@dataclass(kw_only=True, eq=False, repr=False)
class Edited:
    """Images before and after an edit.

    raw: the image after as decoded, without the unchanged pixels of the image before. scene: resolved, with its edits.
    report: what ``--json`` prints; see ``Result``.
    """

    before: Image.Image
    after: Image.Image
    raw: Image.Image
    scene: Scene
    model: "Model"
    report: dict[str, Any]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Requests that the images do not honour, one sentence each; includes dropped regions."""
        return warnings_of(self.report)

    def __repr__(self) -> str:
        size = "{} x {}".format(*self.after.size)
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Edited pair of {size}, seed {self.scene.seed}, {self.report['seconds']:.1f} s{warned}"

    @property
    def difference(self) -> Image.Image:
        """Absolute difference of both images, RGB."""
        a, b = (np.asarray(image.convert("RGB"), int) for image in (self.before, self.after))
        return Image.fromarray(np.abs(a - b).astype(np.uint8))

    def save(self, folder: str | Path, *, overwrite: bool = False, embed: bool = True) -> list[Path]:
        """Write ``before.png``, ``after.png``, ``difference.png`` and ``report.json`` into a folder.

        ``after.png`` carries the scene, from which ``cloisonne edit`` reproduces the pair. Raises OutputError, before
        anything is written, where a file exists (unless ``overwrite``) or cannot be written.
        """
        paths = check_outputs(folder, overwrite=overwrite)
        for path, image in zip(paths, (self.before, self.after, self.difference), strict=True):
            record = record_of(self.scene, self.model, path.parent, embed) if path.name == NAMES[1] else None
            write_picture(image, path, record=record, overwrite=overwrite)
            place = NAMES.index(path.name)
            self.report["outputs"][place] = {"path": str(path), "sha256": _sha256(path)}
        report = json.dumps(self.report, indent=1) + "\n"
        (paths[0].parent / REPORT).write_text(report, encoding="utf-8")
        return paths


def check_outputs(folder: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Make the folder and return its files. Raises OutputError where one could not be written."""
    place = Path(folder)
    if place.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp") or place.is_file():
        raise OutputError(f'The output is the file "{folder}", but an edit writes three images; name a folder.')
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f'The folder "{folder}" cannot be made ({error.strerror}); choose another place.') from None
    paths = [place / name for name in NAMES]
    for path in paths:
        check_output(path, overwrite=overwrite)
    if (place / REPORT).exists() and not overwrite:
        allowed = spelled("overwrite=True", "--overwrite")
        raise OutputError(f'The output "{place / REPORT}" exists; choose another folder, or allow it with {allowed}.')
    return paths


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
