"""Self-supervised inpainting examples: an object is masked, and its crop is the exemplar."""

import numpy as np
import torch

from cloisonne.errors import TrainingError
from cloisonne.models.adapters.paint_by_example import normalised
from cloisonne.scene.shapes.geometry import Box, area
from cloisonne.train.datasets.augment import mirrored
from cloisonne.train.datasets.training_image import ImageDataset, TrainingImage
from cloisonne.train.engine.examples import AUGMENTATION, CAPTION, Batch, Canvas, Examples, as_pixels
from cloisonne.train.exemplar.augment import augmented, crop, resized
from cloisonne.train.exemplar.settings import Settings
from cloisonne.world.hole_masks import blob, rectangle, stretched, window


class HoleExamples(Examples):
    """Example p: pixels [3, size, size] in -1..1, keep [1, size, size] (1 where the image is known), exemplar
    [3, side, side] as CLIP's input, conditioned (False replaces the exemplar by the null token), timestep t, and the
    noises of the latents and of the VAE posteriors of the image and the masked image, each [C, H, W].

    side: of the image encoder's input, in pixels.
    """

    def __init__(self, dataset: ImageDataset, settings: Settings, canvas: Canvas, side: int) -> None:
        self._usable = [k for k in range(len(dataset)) if dataset.has_box(k, settings.min_area, settings.max_area)]
        if not self._usable:
            raise TrainingError(
                f'No image in "{settings.data}" has a box of {settings.min_area:.0%} to {settings.max_area:.0%} of '
                "its area; add boxes of objects, or change --min_area and --max_area."
            )
        super().__init__(len(self._usable), settings)
        self._dataset, self._settings, self._canvas, self._side = dataset, settings, canvas, side

    def example(self, position: int) -> Batch:
        settings, canvas = self._settings, self._canvas
        rng = self.rng(position, AUGMENTATION)
        image = self._dataset.load(self._usable[self.index(position)], self.rng(position, CAPTION))
        pixels, hole, exemplar = self._hole(image, rng)
        noise = self.noise_generator(position)
        return {
            "pixels": as_pixels(pixels),
            "keep": torch.from_numpy(~hole)[None].float(),
            "exemplar": normalised(exemplar),
            "conditioned": torch.tensor(bool(rng.random() >= settings.proportion_null)),
            "t": torch.randint(canvas.levels, (), generator=noise),
            "noise": torch.randn(canvas.latent, generator=noise),
            "posterior": torch.randn(canvas.latent, generator=noise),
            "masked_posterior": torch.randn(canvas.latent, generator=noise),
        }

    def _hole(self, image: TrainingImage, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The crop [size, size, 3], its hole [size, size] bool, and the exemplar [side, side, 3]."""
        settings, size = self._settings, self._canvas.size
        fits = [settings.min_area <= area(box) <= settings.max_area for box, _ in image.regions]
        if rng.random() < 0.5:
            image = mirrored(image)
        boxes = [box for (box, _), fit in zip(image.regions, fits, strict=True) if fit]
        if image.style_reference is not None:
            return resized(image.rgb, size), np.ones((size, size), bool), resized(image.style_reference, self._side)
        # A world image can have all boxes slightly outside the limits: use the largest box.
        boxes = boxes or [max((box for box, _ in image.regions), key=area)]
        box: Box = boxes[int(rng.integers(len(boxes)))]
        reach = stretched(box, rng)
        height, width = image.rgb.shape[:2]
        frame = window(reach, width, height, rng)
        own, beyond = frame.seen(box, width, height), frame.seen(reach, width, height)
        coins = rng.random(2)
        if coins[0] < settings.whole_mask_percent:
            hole = np.ones((size, size), bool)
        elif coins[1] < settings.arbitrary_mask_percent:
            hole = blob(own, beyond, size, rng)
        else:
            hole = rectangle(beyond, size)
        exemplar = crop(image.rgb, box, self._side, rng)
        if settings.augment:
            exemplar = augmented(exemplar, rng)
        return resized(image.rgb[frame.top : frame.bottom, frame.left : frame.right], size), hole, exemplar
