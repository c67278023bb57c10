"""An example is an image, its control map, mask and caption; it depends only on the seed and its position."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cloisonne.models.load import load
from cloisonne.scene.control_maps import DRAWN
from cloisonne.train.control.examples import MapExamples
from cloisonne.train.control.settings import KINDS, MASKS, Settings
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.training_image import ImageDataset, TrainingImage
from cloisonne.train.engine.examples import Batch, Canvas

CANVAS = Canvas(size=32, latent=(4, 4, 4), levels=1000)
Quick = Callable[..., Settings]
Make = Callable[..., MapExamples]


class Captioned:
    """One image of 32 x 32 pixels with a caption."""

    digest = "captioned"

    def __init__(self, caption: str) -> None:
        self.caption = caption

    def __len__(self) -> int:
        return 1

    def load(self, index: int, rng: np.random.Generator) -> TrainingImage:
        rgb = np.zeros((32, 32, 3), np.uint8)
        rgb[8:24, 8:24] = 255
        return TrainingImage(rgb, self.caption, ())

    def has_box(self, index: int, smallest: float, largest: float) -> bool:
        return False


@pytest.fixture(scope="module")
def text(tiny_sd: Path) -> object:
    return load(tiny_sd).text


@pytest.fixture
def examples(quick: Quick, text: object) -> Make:
    def made(dataset: ImageDataset | None = None, **changes: object) -> MapExamples:
        settings = quick(**changes)
        return MapExamples(dataset or CocoDataset(Path(settings.data)), settings, text, CANVAS)

    return made


def equal(a: Batch, b: Batch) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_ranges(examples: Make, kind: str) -> None:
    example = examples(kind=kind).example(3)
    assert {name: tuple(values.shape) for name, values in example.items()} == {
        "pixels": (3, 32, 32),
        "map": (3 if kind == "color" else 1, 32, 32),
        "mask": (1, 32, 32),
        "ids": (77,),
        "t": (),
        "noise": (4, 4, 4),
        "posterior": (4, 4, 4),
    }
    assert -1 <= float(example["pixels"].min()) < float(example["pixels"].max()) <= 1
    assert 0 <= float(example["map"].min()) < float(example["map"].max()) <= 1
    assert example["t"].dtype == torch.int64


@pytest.mark.parametrize("kind", KINDS)
def test_the_map_is_computed_from_the_augmented_image(examples: Make, kind: str) -> None:
    """So image and map have the same mirror and crop."""
    made = examples(kind=kind)
    for position in range(8):
        example = made.example(position)
        rgb = ((example["pixels"] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        drawn = np.atleast_3d(DRAWN[kind](np.ascontiguousarray(rgb)))
        assert np.array_equal((example["map"].permute(1, 2, 0) * 255).round().byte().numpy(), drawn)


def test_an_example_is_its_position(examples: Make) -> None:
    """Seed 0 is a seed as others are."""
    first, again, other = examples(), examples(train_batch_size=7), examples(seed=1)
    for position in (0, 5, 6, 100):
        before = first.example(position)
        torch.manual_seed(position)
        np.random.seed(position)  # noqa: NPY002
        assert equal(before, again.example(position))
        assert not torch.equal(before["noise"], other.example(position)["noise"])
    assert not equal(first.example(5), first.example(6))


def levels_of(made: MapExamples, count: int = 1000) -> torch.Tensor:
    t = torch.stack([made.example(k)["t"] for k in range(count)])
    assert 0 <= int(t.min()) <= int(t.max()) <= 999
    return t.double()


def test_cubic_levels_are_the_noisy_ones(examples: Make) -> None:
    """t = (1 - u^3) T: a mean of 3/4 T of deviation 0.283 T, and 0.3^(1/3) of them above 0.7 T."""
    t = levels_of(examples(Captioned("a cat")))
    assert float(t.mean()) == pytest.approx(749.5, abs=3 * 283 / 1000**0.5)
    above = 0.3 ** (1 / 3)
    assert float((t >= 700).double().mean()) == pytest.approx(above, abs=3 * (above * (1 - above) / 1000) ** 0.5)


def test_uniform_levels_are_uniform(examples: Make) -> None:
    t = levels_of(examples(Captioned("a cat"), timesteps="uniform"))
    assert float(t.mean()) == pytest.approx(499.5, abs=3 * 289 / 1000**0.5)
    assert float((t >= 700).double().mean()) == pytest.approx(0.3, abs=3 * (0.3 * 0.7 / 1000) ** 0.5)


@pytest.mark.parametrize(("proportion", "expected"), [(None, 0.5), (0.0, 0.0), (1.0, 1.0), (0.1, 0.1)])
def test_captions_are_left_out_as_often_as_asked(
    examples: Make, text: "object", proportion: float | None, expected: float
) -> None:
    """Half of the time, if nothing is asked."""
    given = {} if proportion is None else {"proportion_empty_prompts": proportion}
    made = examples(Captioned("a cat"), **given)
    ids = torch.stack([made.example(k)["ids"] for k in range(600)])
    captioned, empty_ids = (torch.tensor(text.padded_ids(words)) for words in ("a cat", ""))  # type: ignore[attr-defined]
    empty = (ids == empty_ids).all(1)
    assert ((ids == captioned).all(1) | empty).all()
    spread = 3 * (expected * (1 - expected) / 600) ** 0.5
    assert float(empty.double().mean()) == pytest.approx(expected, abs=spread)


def test_a_caption_that_is_too_long_is_cut_between_words(examples: Make, text: "object") -> None:
    caption = "a cat on the beach " * 30
    made = examples(Captioned(caption), proportion_empty_prompts=0.0)
    ids = made.example(0)["ids"].tolist()
    assert ids == text.padded_ids(" ".join(caption.split()[:75]))  # type: ignore[attr-defined]
    truncated = examples(Captioned("cat " + "x" * 200), proportion_empty_prompts=0.0)
    assert truncated.example(0)["ids"].tolist() == text.padded_ids("cat")  # type: ignore[attr-defined]


@pytest.mark.parametrize("mask", MASKS)
def test_masks_are_of_the_asked_shape(examples: Make, mask: str) -> None:
    made = examples(mask=mask)
    shares = {float(made.example(k)["mask"].mean()) for k in range(20)}
    assert shares == {1.0} if mask == "none" else shares == {0.25} if mask == "fixed" else len(shares) > 5
