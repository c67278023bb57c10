"""Examples that teach to paint a picture's own object back into a hole."""

import numpy as np
import torch

from cloisonne.errors import TrainingError
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.train.datasets.augment import mirrored
from cloisonne.train.datasets.shown import Rows, Shown
from cloisonne.train.engine.examples import LOOK, WORDS, Batch, Canvas, Examples, as_pixels
from cloisonne.train.exemplar.augment import changed, cut, squashed
from cloisonne.train.exemplar.settings import Settings
from cloisonne.world.hole_masks import blob, rectangle, stretched, window


class HoleExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, keep [1, size, size] (1 where the picture is known), exemplar
    [3, side, side] as CLIP takes it, told (False for guidance), t, and the noises of latents, posterior and the masked
    picture's posterior [C, H, W].

    side: of the tower's pictures.
    """

    def __init__(self, rows: Rows, settings: Settings, canvas: Canvas, side: int) -> None:
        self._usable = [k for k in range(len(rows)) if rows.has_box(k, settings.min_area, settings.max_area)]
        if not self._usable:
            raise TrainingError(
                f'No picture in "{settings.data}" has a box of {settings.min_area:.0%} to {settings.max_area:.0%} of '
                "its area; give boxes of objects, or change --min_area and --max_area."
            )
        super().__init__(len(self._usable), settings)
        self._rows, self._settings, self._canvas, self._side = rows, settings, canvas, side

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        rng = self.rng(position, LOOK)
        shown = self._rows.show(self._usable[self.index(position)], self.rng(position, WORDS))
        pixels, hole, exemplar = self._hole(shown, rng)
        noise = self.noise_generator(position)
        return {
            "pixels": as_pixels(pixels),
            "keep": torch.from_numpy(~hole)[None].float(),
            "exemplar": normalised(exemplar),
            "told": torch.tensor(bool(rng.random() >= settings.proportion_null)),
            "t": torch.randint(canvas.levels, (), generator=noise),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
            "masked_posterior": torch.randn(canvas.latent, generator=noise),
        }

    def _hole(self, shown: Shown, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The window [size, size, 3], its hole [size, size], and the exemplar [side, side, 3]."""
        settings, size = self._settings, self._canvas.size
        fits = [settings.min_area <= area(box) <= settings.max_area for box, _ in shown.regions]
        if rng.random() < 0.5:
            shown = mirrored(shown)
        boxes = [box for (box, _), fit in zip(shown.regions, fits, strict=True) if fit]
        if shown.mate is not None:
            return squashed(shown.rgb, size), np.ones((size, size), bool), squashed(shown.mate, self._side)
        # A picture of the world whose objects all lie a little outside of the limits is shown with its largest one.
        boxes = boxes or [max((box for box, _ in shown.regions), key=area)]
        box: Box = boxes[int(rng.integers(len(boxes)))]
        reach = stretched(box, rng)
        height, width = shown.rgb.shape[:2]
        frame = window(reach, width, height, rng)
        own, beyond = frame.seen(box, width, height), frame.seen(reach, width, height)
        toss = rng.random(2)
        if toss[0] < settings.whole_mask_percent:
            hole = np.ones((size, size), bool)
        elif toss[1] < settings.arbitrary_mask_percent:
            hole = blob(own, beyond, size, rng)
        else:
            hole = rectangle(beyond, size)
        exemplar = cut(shown.rgb, box, self._side, rng)
        if settings.augment:
            exemplar = changed(exemplar, rng)
        return squashed(shown.rgb[frame.top : frame.bottom, frame.left : frame.right], size), hole, exemplar
