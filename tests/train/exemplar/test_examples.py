"""An example is an image with a hole and the exemplar; it depends only on the seed and its position."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cloisonne.errors import TrainingError
from cloisonne.models.adapters.paint_by_example import DEVIATION, MEAN
from cloisonne.scene.shapes.geometry import Box
from cloisonne.train.datasets import world as world_dataset
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.training_image import ImageDataset, TrainingImage
from cloisonne.train.datasets.world import WorldDataset
from cloisonne.train.engine.examples import Batch, Canvas
from cloisonne.train.exemplar.augment import PADDING
from cloisonne.train.exemplar.examples import HoleExamples
from cloisonne.train.exemplar.settings import Settings
from cloisonne.train.exemplar.task import ExemplarTask
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import HELD_OUT
from cloisonne.world.picture import EVERYTHING, Picture, Recipe, sample

CANVAS = Canvas(size=32, latent=(4, 4, 4), levels=1000)
SIDE = 28
Quick = Callable[..., Settings]


class Ramps:
    """Four images of 80 x 60 pixels: red grows to the right, green downwards, and blue identifies the image."""

    digest = "ramps"
    box: Box = (0.2, 0.3, 0.6, 0.7)

    def __len__(self) -> int:
        return 4

    def load(self, index: int, rng: np.random.Generator) -> TrainingImage:
        y, x = np.mgrid[:60, :80]
        rgb = np.stack([np.rint(x * 255 / 79), np.rint(y * 255 / 59), np.full((60, 80), 80 * index)], -1)
        return TrainingImage(rgb.astype(np.uint8), "", ((self.box, "a thing"),))

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        return True


def examples(settings: Settings, dataset: ImageDataset | None = None) -> HoleExamples:
    return HoleExamples(dataset or CocoDataset(Path(settings.data)), settings, CANVAS, SIDE)


def colours(exemplar: Tensor) -> np.ndarray:
    """float [side, side, 3] in 0..255, of a normalised image encoder input."""
    return (exemplar.numpy().transpose(1, 2, 0) * np.array(DEVIATION) + np.array(MEAN)) * 255


def equal(a: Batch, b: Batch) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def share(values: list[bool], expected: float) -> None:
    """Within three deviations of what independent draws give."""
    deviation = (expected * (1 - expected) / len(values)) ** 0.5
    assert np.mean(values) == pytest.approx(expected, abs=3 * deviation)


def test_shapes_and_ranges(quick: Quick) -> None:
    example = examples(quick()).example(3)
    assert {name: tuple(values.shape) for name, values in example.items()} == {
        "pixels": (3, 32, 32),
        "keep": (1, 32, 32),
        "exemplar": (3, SIDE, SIDE),
        "conditioned": (),
        "t": (),
        "noise": (4, 4, 4),
        "posterior": (4, 4, 4),
        "masked_posterior": (4, 4, 4),
    }
    assert -1 <= float(example["pixels"].min()) < float(example["pixels"].max()) <= 1
    assert example["conditioned"].dtype == torch.bool
    assert set(example["keep"].unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(example["posterior"], example["masked_posterior"])


def test_an_example_is_its_position(quick: Quick) -> None:
    first, again, other = examples(quick()), examples(quick(train_batch_size=7)), examples(quick(seed=1))
    for position in (0, 5, 6, 100):
        before = first.example(position)
        torch.manual_seed(position)
        assert equal(before, again.example(position))
        assert not equal(before, other.example(position))
    assert not equal(first.example(5), first.example(6))


def test_a_fifth_of_the_images_are_unconditional(quick: Quick) -> None:
    made = examples(quick(), Ramps())
    conditioned = [bool(made.example(k)["conditioned"]) for k in range(1200)]
    share([not one for one in conditioned], 0.2)
    pairs = list(zip(conditioned[::2], conditioned[1::2], strict=True))
    share([one != other for one, other in pairs], 2 * 0.2 * 0.8)


@pytest.mark.parametrize(("proportion", "expected"), [(0.0, {True}), (1.0, {False})])
def test_all_or_none_are_conditioned(quick: Quick, proportion: float, expected: set[bool]) -> None:
    made = examples(quick(proportion_null=proportion), Ramps())
    assert {bool(made.example(k)["conditioned"]) for k in range(100)} == expected


def test_a_tenth_of_the_holes_are_the_whole_image_and_half_of_the_rest_blobs(quick: Quick) -> None:
    made = examples(quick(), Ramps())
    holes = [made.example(k)["keep"][0].numpy() == 0 for k in range(1000)]
    whole = [bool(hole.all()) for hole in holes]
    share(whole, 0.1)
    straight = [_is_rectangle(hole) for hole, all_of_it in zip(holes, whole, strict=True) if not all_of_it]
    share(straight, 0.5)


def _is_rectangle(hole: np.ndarray) -> bool:
    return bool(np.array_equal(hole, np.logical_and.outer(hole.any(1), hole.any(0))))


def test_the_hole_contains_the_object_and_the_rest_is_known(quick: Quick) -> None:
    """The object is located by its colours; some pixels are known (1)."""
    made = examples(quick(whole_mask_percent=0.0), Ramps())
    for position in range(200):
        example = made.example(position)
        red, green = ((example["pixels"][k].numpy() + 1) / 2 for k in (0, 1))
        x0, y0, x1, y1 = Ramps.box
        own = (red > x0 + 0.04) & (red < x1 - 0.04) & (green > y0 + 0.04) & (green < y1 - 0.04)
        keep = example["keep"][0].numpy()
        assert own.any()
        assert (keep[own] == 0).all()
        assert keep.max() == 1


def test_the_exemplar_is_the_box_of_the_same_image(quick: Quick) -> None:
    made = examples(quick(augment=False), Ramps())
    x0, y0, x1, y1 = Ramps.box
    beyond = PADDING * 80 + 1.5
    for position in range(40):
        example = made.example(position)
        seen = colours(example["exemplar"])
        assert seen[..., 2] == pytest.approx(80.0 * made.index(position), abs=0.6)
        index_channel = (example["pixels"][2] + 1) * 127.5
        assert index_channel.numpy() == pytest.approx(80.0 * made.index(position), abs=0.6)
        for ramp, first, last, pixels in ((seen[..., 0], x0, x1, 80), (seen[..., 1], y0, y1, 60)):
            least, most = ramp.min() * pixels / 255, ramp.max() * pixels / 255
            assert first * pixels - beyond <= least <= first * pixels + 1.5
            assert last * pixels - 1.5 <= most <= last * pixels + beyond


def test_half_of_the_images_are_mirrored_with_their_exemplars(quick: Quick) -> None:
    made = examples(quick(augment=False), Ramps())
    turned = []
    for position in range(400):
        example = made.example(position)
        ways = [float(example[name][0, 14, -1] - example[name][0, 14, 0]) < 0 for name in ("pixels", "exemplar")]
        assert ways[0] == ways[1]
        turned.append(ways[0])
    share(turned, 0.5)


def test_augmentation_changes_the_exemplar_and_nothing_else(quick: Quick) -> None:
    plain, changed = examples(quick(augment=False), Ramps()), examples(quick(), Ramps())
    same, moved = [], []
    for position in range(200):
        one, other = plain.example(position), changed.example(position)
        same.append(all(torch.equal(one[name], other[name]) for name in ("pixels", "keep", "noise", "t")))
        moved.append(not torch.equal(one["exemplar"], other["exemplar"]))
    assert all(same)
    # Each of four changes stays away on its own; a mirrored half is all that is left of the ramps' crops.
    share(moved, 1 - 0.5 * 0.5 * 0.7 * 0.7)


def test_levels_are_uniform(quick: Quick) -> None:
    made = examples(quick(), Ramps())
    t = torch.stack([made.example(k)["t"] for k in range(400)]).float()
    assert float(t.mean()) == pytest.approx(500, abs=50)
    assert float(t.max()) > 970
    assert float(t.min()) < 30


def folder_of(place: Path, boxes: list[list[list[int]]]) -> Path:
    """Images of 50 x 50 pixels with boxes in COCO format."""
    images = [{"id": k, "file_name": f"{k}.png", "width": 50, "height": 50} for k in range(len(boxes))]
    annotations = [{"image_id": k, "bbox": box, "caption": "a cat"} for k, found in enumerate(boxes) for box in found]
    for k in range(len(boxes)):
        Image.new("RGB", (50, 50), (10 * k, 0, 0)).save(place / f"{k}.png")
    (place / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return place


def test_images_without_a_box_of_the_requested_size_are_skipped(quick: Quick, tmp_path: Path) -> None:
    """The second image has only a sliver, the third only a box of the whole image."""
    boxes = [[[5, 5, 20, 20]], [[5, 5, 1, 1]], [[0, 0, 50, 50]], [[0, 0, 1, 1], [10, 10, 30, 30]]]
    settings = quick(data=str(folder_of(tmp_path, boxes)))
    made = examples(settings)
    assert len(made) == 2
    reds = {round(float(made.example(k)["pixels"][0, 0, 0] + 1) * 127.5) for k in range(20)}
    assert reds == {0, 30}
    assert len(examples(quick(data=str(tmp_path), min_area=0.0, max_area=1.0))) == 4


@pytest.mark.parametrize("limits", [{"min_area": 0.5}, {"max_area": 0.1}, {"min_area": 0.2, "max_area": 0.1}])
def test_a_folder_without_any_such_box_is_refused_in_one_sentence(
    quick: Quick, tmp_path: Path, limits: dict[str, float]
) -> None:
    settings = quick(data=str(folder_of(tmp_path, [[[5, 5, 20, 20]]])), **limits)
    with pytest.raises(TrainingError, match="--min_area and --max_area") as raised:
        examples(settings)
    assert "\n" not in str(raised.value)


def test_the_fraction_of_style_references() -> None:
    dataset = WorldDataset(16, EVERYTHING, pictures=500, style_pairs=0.05)
    references = [dataset.load(k, np.random.default_rng(0)).style_reference is not None for k in range(500)]
    share(references, 0.05)


def test_a_style_reference_is_another_image_of_the_same_style(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Picture] = []

    def watched(picture: Picture, *size: int) -> object:
        seen.append(picture)
        return draw(picture, *size)

    monkeypatch.setattr(world_dataset, "draw", watched)
    dataset = WorldDataset(16, EVERYTHING, pictures=20, style_pairs=1.0)
    for k in range(20):
        dataset.load(k, np.random.default_rng(0))
    for own, reference in zip(seen[::2], seen[1::2], strict=True):
        assert own.style == reference.style != "natural"
        assert own.items != reference.items


def test_a_style_reference_is_the_exemplar_of_a_whole_image_hole(quick: Quick) -> None:
    dataset = WorldDataset(32, EVERYTHING, pictures=50, style_pairs=1.0)
    made = examples(quick(), dataset)
    example = made.example(0)
    assert not example["keep"].any()
    reference = dataset.load(made.index(0), np.random.default_rng(0)).style_reference
    assert reference is not None
    wide = torch.from_numpy(reference).permute(2, 0, 1).float().mean((1, 2))
    assert colours(example["exemplar"]).mean((0, 1)) == pytest.approx(wide.numpy(), abs=3)


def test_held_out_glyphs_never_appear(quick: Quick, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in images nor in style references, in the dataset that the command uses."""
    chars: set[str] = set()

    def watched(seed: int, recipe: Recipe) -> Picture:
        picture = sample(seed, recipe)
        chars.update(item.char for item in picture.items)
        return picture

    monkeypatch.setattr(world_dataset, "sample", watched)
    task = ExemplarTask(quick(data="world", style_pairs=0.5), torch.device("cpu"))
    for position in range(200):
        task.examples[position]
    assert len(chars) > 200
    assert chars.isdisjoint(HELD_OUT)
