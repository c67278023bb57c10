"""Preview files of a run, next to its images: ``name.preview-005.png`` after the fifth step."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cloisonne.errors import OutputError, spelled
from cloisonne.pipelines.output.files import make_folder, output_paths
from cloisonne.scene import write_picture
from cloisonne.scene.values import quoted

if TYPE_CHECKING:
    from cloisonne.pipelines.progress import OnStep, Progress


@dataclass(kw_only=True, eq=False)
class Previews:
    """An ``on_step`` that writes the current estimate after every ``every`` steps.

    out, num_images: as for ``Result.save``. every: steps between previews; the last step has one only if it is a
    multiple. overwrite: the first preview deletes those of an earlier run of the same name. A preview has the canvas's
    size; for a given image that is its window. Each file is written atomically and stays even if the run fails.
    """

    out: Path
    every: int
    num_images: int = 1
    overwrite: bool = False
    _begun: set[Path] = field(default_factory=set)

    def check(self) -> None:
        """Raise OutputError where previews of an earlier run exist; call it before any work."""
        for path in output_paths(self.out, self.num_images):
            if (earlier := _earlier(path)) and not self.overwrite:
                allowed = spelled("overwrite=True", "--overwrite")
                raise OutputError(
                    f"The preview {quoted(earlier[0])} exists; choose another name, or replace it with {allowed}."
                )

    def after(self, on_step: "OnStep") -> "OnStep":
        """A callback that calls another one first."""

        def both(event: "Progress") -> None:
            on_step(event)
            self(event)

        return both

    def __call__(self, event: "Progress") -> None:
        """Write the preview of a denoising step, if it is a multiple of ``every``."""
        preview = None if event.stage != "sampling" or event.step % self.every else event.preview()
        if preview is None:
            return
        path = output_paths(self.out, self.num_images)[event.image]
        if path not in self._begun:
            self._begun.add(path)
            make_folder(path.parent)
            for earlier in _earlier(path):
                earlier.unlink()
        write_picture(preview, preview_path(path, event.step), overwrite=self.overwrite)


def preview_path(path: Path, done: int) -> Path:
    """The path of an image's preview after ``done`` steps."""
    return path.with_name(f"{path.stem}.preview-{done:03d}.png")


def _earlier(path: Path) -> list[Path]:
    """Existing previews of an image's path."""
    if not path.parent.is_dir():
        return []
    name = re.compile(re.escape(path.stem) + r"\.preview-\d{3,}\.png")
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name))
