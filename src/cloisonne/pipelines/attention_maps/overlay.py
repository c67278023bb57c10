"""Cross-attention maps of each phrase during sampling, overlaid on the generated image."""

from collections.abc import Mapping
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
from cloisonne.pipelines.attention_maps.token_spans import mean_map, phrase_share, read_words
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.output.contact_sheet import contact_sheet
from cloisonne.pipelines.output.files import make_folder
from cloisonne.pipelines.progress import OnStep
from cloisonne.pipelines.prompt_syntax import with_choices
from cloisonne.pipelines.result import Result
from cloisonne.scene import Scene, Window, draw_regions, write_picture
from cloisonne.scene.io.images import orientation, turned_upright


@dataclass(kw_only=True, eq=False)
class AttentionPictures:
    """A run and its attention maps.

    maps: by region and step index, [h, w] in [0, 1]: the cross-attention probability of the phrase's words at each
    position, the mean over words, heads, and layers of that grid. A region has no map of a step in which it is
    inactive. shares: by region, how much of the attention within it its phrase has, in [0, 1], over all steps. steps:
    the mapped step indices. count: number of all steps. window: the maps' area in the upright image. unread: regions
    without a map, with the reason.
    """

    result: Result
    maps: Mapping[str, Mapping[int, Tensor]]
    shares: Mapping[str, float]
    steps: tuple[int, ...]
    count: int
    window: Window
    unread: Mapping[str, str]

    def strip(self, name: str) -> Image.Image:
        """RGB: the image under one region's maps, step by step, from black (strip minimum) to yellow (maximum)."""
        image = turned_upright(self.result.image, orientation(self.result.image)).convert("RGB")
        region = next(region for region in self.result.scene.regions if region.name == name)
        own = self.maps[name]
        read = torch.stack(list(own.values()))
        least, span = float(read.min()), max(float(read.max() - read.min()), 1e-8)
        panels, labels = [], []
        for step in self.steps:
            heat = None if step not in own else ((own[step] - least) / span).numpy()
            panels.append(draw_regions(_overlaid(image, heat, self.window), [region]))
            labels.append(f"step {step + 1} of {self.count}" + (", inactive" if heat is None else ""))
        return contact_sheet(panels, labels)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write ``picture.png`` and a strip for each region with maps, such as ``00-pet.png``, into a folder.

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


def attention_pictures(scene: Scene, model: Model, *, on_step: OnStep | None = None) -> AttentionPictures:
    """Generate a scene once, as ``generate`` does up to rounding, and read its phrases' attention at five steps.

    Raises what ``generate`` raises for the scene, and SceneError where no region has a phrase to read.
    """
    scene = with_choices(scene)
    reading = read_words(scene, model)
    if not reading.readers:
        reasons = unread_reasons(reading.unread) or "the scene has no regions"
        raise SceneError(f"No region has a phrase whose attention can be read: {reasons}; give a region a phrase.")
    every = [reader for readers in reading.readers.values() for reader in readers]
    result = generate(scene, model, on_step=on_step, readers=every)
    steps, maps = mapped_steps(reading.count), dict[str, dict[int, Tensor]]()
    for name, readers in reading.readers.items():
        found = {step: mean_map(readers, result.run, step) for step in steps}
        maps[name] = {step: own for step, own in found.items() if own is not None}
    return AttentionPictures(
        result=result,
        maps={name: own for name, own in maps.items() if own},
        shares={name: share for name in reading.readers if (share := phrase_share(name, reading, result.run))},
        steps=steps,
        count=reading.count,
        window=reading.window,
        unread=reading.unread | {name: "is inactive at these steps" for name, own in maps.items() if not own},
    )


def unread_reasons(unread: Mapping[str, str]) -> str:
    """The unread regions and their reasons as one clause; empty where there are none."""
    return "; ".join(f'"{name}" {reason}' for name, reason in unread.items())


def mapped_steps(count: int) -> tuple[int, ...]:
    """Indices of the first step, the steps at 1/4, 1/2 and 3/4, and the last."""
    return tuple(sorted({0, count // 4, count // 2, 3 * count // 4, count - 1}))


def _overlaid(image: Image.Image, heat: NDArray[np.float32] | None, window: Window) -> Image.Image:
    """The image with the heat map [h, w] in [0, 1], from black over red to yellow, blended into its grey window."""
    if heat is None:
        return image
    fine = cv2.resize(heat, (window.width, window.height), interpolation=cv2.INTER_LINEAR)
    coloured = cv2.applyColorMap((fine * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    pixels = np.asarray(image).copy()
    grey = pixels[window.slices].mean(-1, keepdims=True)
    pixels[window.slices] = (0.5 * grey + 0.5 * coloured).round().astype(np.uint8)
    return Image.fromarray(pixels)
