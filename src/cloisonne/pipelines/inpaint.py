"""Repainting a given image: the window that becomes the canvas, its latents, and the exact composite afterwards."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

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
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.io.colour_space import own_space
from cloisonne.scene.io.source_image import Source, difference_outside, matched
from cloisonne.scene.overlap import uncovered
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Box, Frame, Window, clipped, crop_window, pixel_window
from cloisonne.scene.shapes.masks import Mask, extent, seamed

LEAST = 64
"""Least side of a scene's canvas in pixels."""
LONGEST = 4.0
"""Largest aspect ratio of the canvas; a longer window is squeezed onto it."""

SOFT = 2.0
"""Up to this enlargement of the canvas there is no warning, and edges stay hard."""
COARSE = 4.0
"""Above this enlargement the warning gives the size of the smallest detail."""
SEAM = 4.0
"""Above SOFT, the repainted area fades in over so many canvas pixels inside its mask."""
CROP = 3.5
"""Largest side of the window around an exemplar's hole or an edit, as a multiple of its longer side."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BackgroundEdit:
    """A source image and where it is repainted. Pixels are those of the upright source.

    masks: [H, W] of each active region, by name; none means that the whole image changes. window: the part of the
    source that is resized to the canvas.
    """

    source: Source
    masks: Mapping[str, Mask]
    window: Window

    @classmethod
    def of(cls, scene: Scene, native: int = 0, crop: float = CROP) -> "BackgroundEdit":
        """The edit of a scene with a background.

        native: the model's native side in pixels. The window around exemplars and edits has at least this side, but at
        most ``crop`` times the longer side of the changed area. Paint by Example is trained on whole images with holes
        and fills a hole that covers an enlarged window with specks; edits continue their surroundings.

        Raises SceneError where all regions are inactive.
        """
        assert scene.background is not None, "only a scene with a background is an edit"
        source = Source.load(scene.background)
        masks = {r.name or "": r.soft_mask(source.height, source.width) for r in scene.active_regions}
        if scene.regions and not masks:
            raise SceneError(
                "All regions have weight 0 or an empty interval, so no part of the background would be repainted; "
                "give one a weight, or leave the regions out to repaint the whole image."
            )
        if not masks:
            return cls(source=source, masks={}, window=Window(0, 0, source.width, source.height))
        box = extent(1 - uncovered(list(masks.values()), source.height, source.width))
        assert box is not None, "no region's mask is empty"
        changed = pixel_window(box, source.width, source.height)
        least = 0.0
        if any(CONDITIONS[name].surrounded for region in scene.active_regions for name in region.conditions):
            least = min(native, crop * max(changed.width, changed.height))
        return cls(source=source, masks=masks, window=crop_window(changed, source.width, source.height, least=least))

    def canvas(self, model: Model) -> tuple[int, int]:
        """Canvas size (width, height): the native area at the window's aspect ratio, in multiples of the network's
        total downsampling factor that a scene allows."""
        shape = min(max(self.window.width / self.window.height, 1 / LONGEST), LONGEST)
        width, height = (
            max(round(side / model.spec.factor), math.ceil(LEAST / model.spec.factor)) * model.spec.factor
            for side in (model.native.width * math.sqrt(shape), model.native.height / math.sqrt(shape))
        )
        return width, height

    def frame(self, size: tuple[int, int]) -> Frame:
        """A canvas of size (width, height), and the window of the source that it is."""
        return Frame(size, (self.source.width, self.source.height), self.window)

    def warnings(self, size: tuple[int, int]) -> list[str]:
        """Warnings for a canvas of size (width, height): few colours, another colour space, a large enlargement."""
        found = []
        if few := _few_colours(self.source.upright):
            found.append(f"The background is {few}, and so is the result; give it in RGB for a result in all colours.")
        if space := own_space(self.source.metadata):
            found.append(
                f"The background's colour space is {space}, which is preserved; the model works in sRGB, so convert "
                "the background to sRGB if the repainted area has to match."
            )
        enlarged = self._enlarged(size)
        if enlarged <= SOFT:
            return found
        w = self.window
        effect = f"the result is enlarged {enlarged:.1f} times and is soft"
        if enlarged > COARSE:
            effect = (
                f"the result is enlarged {enlarged:.1f} times, so that no detail is finer than "
                f"{math.ceil(2 * enlarged)} pixels, which is coarse"
            )
        return [
            *found,
            f"The regions lie in a window of {w.width} x {w.height} pixels that is generated at {size[0]} x {size[1]}: "
            f"{effect}; repaint smaller regions one by one, or use a model with a larger native size.",
        ]

    def _enlarged(self, size: tuple[int, int]) -> float:
        return max(self.window.width / size[0], self.window.height / size[1])

    def placed(self, scene: Scene, grid: tuple[int, int]) -> list[Placed]:
        """The active regions on the window's latent grid (H, W)."""
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
        """[H, W] in [0, 1]: how much each pixel is repainted; exactly 0 outside of all regions but the dropped ones."""
        height, width = self.source.height, self.source.width
        if not self.masks:
            return np.ones((height, width), np.float32)
        return 1 - uncovered([mask for name, mask in self.masks.items() if name not in dropped], height, width)

    def pin(self, model: Model, size: tuple[int, int], covered: Mask) -> Pin:
        """The source's latents on a canvas of size (width, height), and where they may change.

        A latent pixel may change where any pixel under it may. The soft mask applies only once, in the final composite,
        so nothing of the source remains inside.
        """
        known = model.vae.encode(as_tensor(resized(self.source.rgb[self.window.slices], size)).to(model.device))[0]
        if model.spec.inpaints:
            # An inpainting network takes the source as input channels and generates the whole canvas.
            return Pin(known=known, mask=torch.ones_like(known[0]))
        grid = (known.shape[-2], known.shape[-1])
        return Pin(known=known, mask=self.free(covered, grid).to(model.device))

    def known(self, model: Model, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Inpainting inputs of a canvas of size (width, height): masked-image latents [C, H, W], grey where the image
        may change, and a mask [height, width], 1 where it may not."""
        width, height = size
        fixed = 1 - self.free(self.covered(), (height, width))
        masked = as_tensor(resized(self.source.rgb[self.window.slices], size)) * fixed
        return model.vae.encode(masked.to(model.device))[0], fixed

    def free(self, covered: Mask, grid: tuple[int, int]) -> Tensor:
        """[H, W] of a grid: 1 in the window's cells in which any pixel may change, else 0."""
        free = torch.from_numpy(np.ascontiguousarray(covered[self.window.slices] > 0))[None].float()
        return F.adaptive_max_pool2d(free, grid)[0]

    def pasted(self, pixels: NDArray[np.uint8], covered: Mask) -> Image.Image:
        """The source with the canvas's pixels, uint8 [height, width, 3], composited by ``covered``.

        Colours meet those of the source at its border (see :func:`matched`). An enlargement above SOFT fades in along a
        seam inside ``covered``; outside nothing changes.
        """
        if self.masks:
            size = (pixels.shape[1], pixels.shape[0])
            source = resized(self.source.rgb[self.window.slices], size)
            pixels = matched(pixels, source, self.free(covered, size[::-1]).numpy() > 0)
        enlarged = self._enlarged((pixels.shape[1], pixels.shape[0]))
        if self.masks and enlarged > SOFT:
            covered = seamed(covered, SEAM * enlarged)
        return self.source.pasted(self._in_source(pixels), covered)

    def whole(self, pixels: NDArray[np.uint8]) -> Image.Image:
        """The source with the whole canvas in its window, whatever the masks."""
        mask = np.zeros((self.source.height, self.source.width), np.float32)
        mask[self.window.slices] = 1
        return self.source.pasted(self._in_source(pixels), mask)

    def _in_source(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        whole = self.source.rgb.copy()
        whole[self.window.slices] = resized(pixels, (self.window.width, self.window.height))
        return whole

    @cached_property
    def _unchanged(self) -> Image.Image:
        return self.source.pasted(self.source.rgb, np.zeros((self.source.height, self.source.width), np.float32))

    def unchanged(self) -> Image.Image:
        """The source as it was stored; a copy of the caller's own."""
        return self._unchanged.copy()

    def difference_outside(self, image: Image.Image, covered: Mask) -> int:
        """Largest difference of a result from the source outside of ``covered``, in 0 to 255."""
        return difference_outside(self._unchanged, image, covered)


def unknown(model: Model, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """:meth:`BackgroundEdit.known` without a source: a grey image, all of which may change."""
    width, height = size
    return model.vae.encode(torch.zeros(1, 3, height, width, device=model.device))[0], torch.zeros(height, width)


def start(pin: Pin, noise: Tensor, first: Step, strength: float) -> Tensor:
    """Initial latents [C, H, W] of image-to-image: the known latents at the first step's noise level.

    At strength 1, the changeable part starts as pure noise, so nothing of the source is retained there.
    """
    noised = first.alpha * pin.known + first.s * noise
    return noised if strength < 1 else noised + pin.mask * (noise - noised)


def _few_colours(image: Image.Image) -> str:
    """Why an image cannot hold all colours, as words; "" if it can."""
    if image.mode == "P":
        return f"an image of {len(image.getpalette('RGB') or ()) // 3} colours (mode P)"
    return f"a grey image (mode {image.mode})" if image.mode in ("1", "L", "LA", "I;16") else ""


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
