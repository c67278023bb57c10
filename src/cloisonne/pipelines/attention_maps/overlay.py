"""What each phrase looked at while a scene was drawn: its words' attention, laid over the picture."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.files import PICTURE, check_folder, strip_paths
from cloisonne.pipelines.attention_maps.token_spans import mean_map, read_words
from cloisonne.pipelines.contact_sheet import contact_sheet
from cloisonne.pipelines.generate import StepEnd, generate
from cloisonne.pipelines.prompt_syntax import with_choices
from cloisonne.pipelines.result import Result, make_folder
from cloisonne.pipelines.translation.settings import Progress, told_nothing
from cloisonne.scene import Scene, Window, draw_regions, write_picture
from cloisonne.scene.io.images import orientation, turned_upright


@dataclass(kw_only=True, eq=False)
class AttentionPictures:
    """A run, and what was looked at in it.

    maps: by region and index of a step, [h, w] in [0, 1]: how much of the attention of each place goes to a word of the
    region's phrase, the mean over the phrase's words and over heads and layers of that grid. A region that is not heard
    at a step has no map of it. steps: the indices, and count of all. window: where in the picture (upright) the maps
    lie. unread: regions without words to look at, and why.
    """

    result: Result
    maps: Mapping[str, Mapping[int, Tensor]]
    steps: tuple[int, ...]
    count: int
    window: Window
    unread: Mapping[str, str]

    def strip(self, name: str) -> Image.Image:
        """RGB: the picture under the maps of one region, step by step; black is the strip's least, yellow its most."""
        picture = turned_upright(self.result.image, orientation(self.result.image)).convert("RGB")
        region = next(region for region in self.result.scene.regions if region.name == name)
        own = self.maps[name]
        read = torch.stack(list(own.values()))
        least, span = float(read.min()), max(float(read.max() - read.min()), 1e-8)
        panels, labels = [], []
        for step in self.steps:
            heat = None if step not in own else ((own[step] - least) / span).numpy()
            panels.append(draw_regions(_overlaid(picture, heat, self.window), [region]))
            labels.append(f"step {step + 1} of {self.count}" + (", not heard" if heat is None else ""))
        return contact_sheet(panels, labels)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``picture.png`` and a strip for each region that was read, such as ``00-pet.png``, into a folder.

        Raises OutputError, before anything is written, where a file exists (unless ``overwrite``) or cannot be written.
        """
        check_folder(folder, self.result.scene, overwrite=overwrite)
        place = Path(folder)
        make_folder(place)
        written = self.result.save(place / PICTURE, overwrite=overwrite)
        for region, path in strip_paths(place, self.result.scene):
            if region.name in self.maps:
                write_picture(self.strip(region.name or ""), path, overwrite=overwrite)
                written.append(path)
        return written


def attention_pictures(
    scene: Scene,
    model: Model,
    *,
    callback_on_step_end: Callable[[StepEnd], None] | None = None,
    progress: Progress = told_nothing,
) -> AttentionPictures:
    """Draw a scene once, as ``generate`` does but for rounding, and read what its phrases look at, at five steps.

    Raises what ``generate`` would raise for the scene, and SceneError where no region has words to look at.
    """
    scene = with_choices(scene)
    reading = read_words(scene, model)
    if not reading.readers:
        told = said_of(reading.unread) or "the scene has no regions"
        raise SceneError(f"There are no words whose attention could be drawn: {told}; give a region a phrase.")
    maps: dict[str, dict[int, Tensor]] = {name: {} for name in reading.readers}
    every = [reader for readers in reading.readers.values() for reader in readers]

    def note(end: StepEnd) -> None:
        if end.step.index in shown_steps(end.step.count):
            for name, readers in reading.readers.items():
                if (found := mean_map(readers)) is not None:
                    maps[name][end.step.index] = found
        for reader in every:
            reader.seen.clear()
        if callback_on_step_end is not None:
            callback_on_step_end(end)

    result = generate(scene, model, callback_on_step_end=note, readers=every, progress=progress)
    return AttentionPictures(
        result=result,
        maps={name: own for name, own in maps.items() if own},
        steps=shown_steps(reading.count),
        count=reading.count,
        window=reading.window,
        unread=reading.unread | {name: "is not heard at these steps" for name, own in maps.items() if not own},
    )


def said_of(unread: Mapping[str, str]) -> str:
    """The regions without words to look at, in one sentence without its point; empty where there are none."""
    return "; ".join(f'"{name}" {reason}' for name, reason in unread.items())


def shown_steps(count: int) -> tuple[int, ...]:
    """The indices of the first step, a quarter, half and three quarters of the way, and the last."""
    return tuple(sorted({0, count // 4, count // 2, 3 * count // 4, count - 1}))


def _overlaid(picture: Image.Image, heat: NDArray[np.float32] | None, window: Window) -> Image.Image:
    """The picture in grey, and in its window the heat [h, w] in [0, 1] from black over red to yellow."""
    if heat is None:
        return picture
    fine = cv2.resize(heat, (window.width, window.height), interpolation=cv2.INTER_LINEAR)
    coloured = cv2.applyColorMap((fine * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    pixels = np.asarray(picture).copy()
    grey = pixels[window.slices].mean(-1, keepdims=True)
    pixels[window.slices] = (0.5 * grey + 0.5 * coloured).round().astype(np.uint8)
    return Image.fromarray(pixels)
