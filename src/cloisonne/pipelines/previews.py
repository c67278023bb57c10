"""Pictures of what a walk has come to, beside the pictures: ``name.preview-005.png`` after the fifth step."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cloisonne.errors import OutputError, spelled
from cloisonne.pipelines.result import make_folder, output_paths
from cloisonne.scene import write_picture
from cloisonne.scene.values import quoted

if TYPE_CHECKING:
    from cloisonne.pipelines.generate import StepEnd


@dataclass(kw_only=True, eq=False)
class Previews:
    """A ``callback_on_step_end`` that writes the current estimate after every so many steps.

    out, num_images: as of ``Result.save``. every: steps from one preview to the next; the last step has one where it is
    such a step. A preview is as large as the canvas, which of a given picture is the window that is worked on. Previews
    are written at once and whole, and stay whether the run ends well or not; with ``overwrite`` the first one takes
    away those of an earlier run of the same name.
    """

    out: Path
    every: int
    num_images: int = 1
    overwrite: bool = False
    _begun: set[Path] = field(default_factory=set)

    def check(self) -> None:
        """OutputError where previews of an earlier run are in the way; to be asked before any work."""
        for path in output_paths(self.out, self.num_images):
            if (earlier := _earlier(path)) and not self.overwrite:
                allowed = spelled("overwrite=True", "--overwrite")
                raise OutputError(
                    f"The preview {quoted(earlier[0])} exists; choose another name, or allow it with {allowed}."
                )

    def after(self, callback: "Callable[[StepEnd], None]") -> "Callable[[StepEnd], None]":
        """A callback that asks another one first."""

        def both(end: "StepEnd") -> None:
            callback(end)
            self(end)

        return both

    def __call__(self, end: "StepEnd") -> None:
        """Write the preview of a step, if it is one of those that have one."""
        done = end.step.index + 1
        if done % self.every:
            return
        path = output_paths(self.out, self.num_images)[end.image]
        if path not in self._begun:
            self._begun.add(path)
            make_folder(path.parent)
            for earlier in _earlier(path):
                earlier.unlink()
        write_picture(end.preview(), preview_path(path, done), overwrite=self.overwrite)


def preview_path(path: Path, done: int) -> Path:
    """Where the preview of a picture after ``done`` steps goes."""
    return path.with_name(f"{path.stem}.preview-{done:03d}.png")


def _earlier(path: Path) -> list[Path]:
    """The previews that lie beside a picture's name."""
    if not path.parent.is_dir():
        return []
    name = re.compile(re.escape(path.stem) + r"\.preview-\d{3,}\.png")
    return sorted(file for file in path.parent.iterdir() if name.fullmatch(file.name))
