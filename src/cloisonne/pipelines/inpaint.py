"""A given picture during a run: the window that is worked on, what it starts from, and the way back, byte for byte."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.core.plan import Step
from cloisonne.core.refines import Pin
from cloisonne.errors import SceneError
from cloisonne.methods.layout import Placed, box_of, place
from cloisonne.models.model import Model
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.source_image import Source, difference_outside
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box, Window, clipped, crop_window, pixel_window
from cloisonne.scene.shapes.masks import Mask, extent, seamed

LONGEST = 4.0
"""Sides of the canvas differ by this factor at most; what is longer is squeezed while it is worked on."""

SOFT = 2.0
"""What is repainted may be enlarged by this factor without a warning, and with hard edges."""
COARSE = 4.0
"""Enlarged by more than this factor, the warning gives the size of the smallest detail."""
SEAM = 4.0
"""Enlarged by more than SOFT, it fades in over so many of the canvas's pixels, inside of its mask."""
ROOM = 3.5
"""Round an exemplar's hole or an edit, not more of the picture is shown than so many times its longer side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureEdit:
    """A source picture and where it is repainted. Pixels are of the upright source.

    masks: [H, W] of each region that counts, by name; none means that the whole picture changes. window: what is worked
    on, resized to the canvas.
    """

    source: Source
    masks: Mapping[str, Mask]
    window: Window

    @classmethod
    def of(cls, scene: Scene, native: int = 0, room: float = ROOM) -> "PictureEdit":
        """The edit that a scene with a background asks for.

        native: side in pixels that the model draws at. Holes for exemplars are shown with that much of the picture
        around them, pixel for pixel, where that is not more than ``room`` times their own side: Paint by Example learns
        from whole pictures with holes, and holes that fill an enlarged window it fills with specks. The same holds of
        edits, which go on with what is around them.
        """
        assert scene.background is not None, "only a scene with a background is an edit"
        source = Source.load(scene.background)
        masks = {r.name or "": r.soft_mask(source.height, source.width) for r in scene.active_regions}
        if scene.regions and not masks:
            raise SceneError(
                "All regions have weight 0 or an empty interval, so nothing of the background would be repainted; "
                "give one a weight, or leave the regions out to redraw the whole picture."
            )
        if not masks:
            return cls(source=source, masks={}, window=Window(0, 0, source.width, source.height))
        box = extent(1 - uncovered(list(masks.values()), source.height, source.width))
        assert box is not None, "no region's mask is empty"
        changed = pixel_window(box, source.width, source.height)
        least = 0.0
        if any(region.exemplar is not None or region.edit is not None for region in scene.active_regions):
            least = min(native, room * max(changed.width, changed.height))
        return cls(source=source, masks=masks, window=crop_window(changed, source.width, source.height, least=least))

    def canvas(self, model: Model) -> tuple[int, int]:
        """(width, height) to work at: the native area in the window's shape, in multiples of the network's
        whole downsampling."""
        shape = min(max(self.window.width / self.window.height, 1 / LONGEST), LONGEST)
        width, height = (
            max(round(side / model.spec.factor) * model.spec.factor, 64)
            for side in (model.native.width * math.sqrt(shape), model.native.height / math.sqrt(shape))
        )
        return width, height

    def warnings(self, size: tuple[int, int]) -> list[str]:
        """What a user should know of a canvas of size (width, height) that is put back into the window."""
        found = []
        if few := _few_colours(self.source.upright):
            found.append(f"The background is {few}, and so is the result; give it in RGB if it shall have all colours.")
        if space := own_space(self.source.metadata):
            found.append(
                f"The background's colours are in {space}, which is kept; the model reads and draws them as sRGB, so "
                "convert it to sRGB if what is repainted shall match."
            )
        enlarged = self._enlarged(size)
        if enlarged <= SOFT:
            return found
        w = self.window
        effect = f"what is repainted is enlarged {enlarged:.1f} times and is soft"
        if enlarged > COARSE:
            effect = (
                f"what is repainted is enlarged {enlarged:.1f} times, so that no detail is finer than "
                f"{math.ceil(2 * enlarged)} pixels, which is coarse"
            )
        return [
            *found,
            f"The regions lie in a window of {w.width} x {w.height} pixels that is drawn at {size[0]} x {size[1]}: "
            f"{effect}; repaint smaller regions one by one, or with a model that draws larger pictures.",
        ]

    def _enlarged(self, size: tuple[int, int]) -> float:
        return max(self.window.width / size[0], self.window.height / size[1])

    def placed(self, scene: Scene, grid: tuple[int, int]) -> list[Placed]:
        """The regions that count, on the window's grid (H, W) of latents."""
        found = []
        for region in scene.active_regions:
            mask = self.masks[region.name or ""]
            found.append(place(region, mask[self.window.slices], self._in_window(box_of(region, mask)), grid))
        return found

    def _in_window(self, box: Box) -> Box:
        x0, y0, x1, y1 = (
            value * side for value, side in zip(box, [self.source.width, self.source.height] * 2, strict=True)
        )
        w = self.window
        return clipped(((x0 - w.x0) / w.width, (y0 - w.y0) / w.height, (x1 - w.x0) / w.width, (y1 - w.y0) / w.height))

    def covered(self, dropped: Sequence[str] = ()) -> Mask:
        """[H, W] in [0, 1]: how far each pixel is repainted; exactly 0 outside of all regions that are not dropped."""
        height, width = self.source.height, self.source.width
        if not self.masks:
            return np.ones((height, width), np.float32)
        return 1 - uncovered([mask for name, mask in self.masks.items() if name not in dropped], height, width)

    def pin(self, model: Model, size: tuple[int, int], covered: Mask) -> Pin:
        """What is known of a canvas of size (width, height), and where it may change.

        A latent pixel may change where any pixel under it may: how much of that is seen is said once, when the picture
        is put back, and nothing old remains inside.
        """
        known = model.vae.encode(as_tensor(resized(self.source.rgb[self.window.slices], size)).to(model.device))[0]
        if model.spec.inpaints:
            # Such a network is told what is known, and draws all of the canvas anew.
            return Pin(known=known, mask=torch.ones_like(known[0]))
        grid = (known.shape[-2], known.shape[-1])
        return Pin(known=known, mask=self._free(covered, grid).to(model.device))

    def hole(self, model: Model, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """What is known of a canvas of size (width, height): latents [C, H, W] of the picture with grey where it may
        change, and [height, width], 1 where it may not."""
        width, height = size
        keep = 1 - self._free(self.covered(), (height, width))
        shown = as_tensor(resized(self.source.rgb[self.window.slices], size)) * keep
        return model.vae.encode(shown.to(model.device))[0], keep

    def _free(self, covered: Mask, grid: tuple[int, int]) -> Tensor:
        """[H, W], 1 in the cells of the window under which any pixel may change, else 0."""
        free = torch.from_numpy(np.ascontiguousarray(covered[self.window.slices] > 0))[None].float()
        return F.adaptive_max_pool2d(free, grid)[0]

    def pasted(self, pixels: NDArray[np.uint8], covered: Mask) -> Image.Image:
        """The source with the canvas's picture, uint8 [height, width, 3], where ``covered`` says.

        What is much enlarged fades in along a seam inside of ``covered``; outside of that nothing changes.
        """
        enlarged = self._enlarged((pixels.shape[1], pixels.shape[0]))
        if self.masks and enlarged > SOFT:
            covered = seamed(covered, SEAM * enlarged)
        return self.source.pasted(self._painted(pixels), covered)

    def whole(self, pixels: NDArray[np.uint8]) -> Image.Image:
        """The source with all of the canvas's picture in the window, whatever was to change in it."""
        mask = np.zeros((self.source.height, self.source.width), np.float32)
        mask[self.window.slices] = 1
        return self.source.pasted(self._painted(pixels), mask)

    def _painted(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        painted = self.source.rgb.copy()
        painted[self.window.slices] = resized(pixels, (self.window.width, self.window.height))
        return painted

    def unchanged(self) -> Image.Image:
        """The source as it was stored."""
        return self.source.pasted(self.source.rgb, np.zeros((self.source.height, self.source.width), np.float32))

    def difference_outside(self, image: Image.Image, covered: Mask) -> int:
        """The largest difference of a result to the source where nothing was to change."""
        return difference_outside(self.unchanged(), image, covered)


def unknown(model: Model, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The same as :meth:`PictureEdit.hole` where nothing is known: all of a grey picture may change."""
    width, height = size
    return model.vae.encode(torch.zeros(1, 3, height, width, device=model.device))[0], torch.zeros(height, width)


def start(pin: Pin, noise: Tensor, first: Step, strength: float) -> Tensor:
    """Where a walk from a picture begins, [C, H, W]: the known canvas at the first step's level of noise.

    At strength 1, what may change begins as noise alone, so that nothing of it is kept.
    """
    noised = first.alpha * pin.known + first.s * noise
    return noised if strength < 1 else noised + pin.mask * (noise - noised)


def _few_colours(image: Image.Image) -> str:
    """In words, why a picture cannot hold all colours; "" where it can."""
    if image.mode == "P":
        return f"a picture of {len(image.getpalette('RGB') or ()) // 3} colours (mode P)"
    return f"a grey picture (mode {image.mode})" if image.mode in ("1", "L", "LA", "I;16") else ""


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 [height, width, 3] to float32 [1, 3, height, width] in [-1, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def as_pixels(picture: Tensor) -> NDArray[np.uint8]:
    """[3, height, width] in [-1, 1] to uint8 [height, width, 3]."""
    return ((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()


def resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [height, width, 3] at another size (width, height)."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
