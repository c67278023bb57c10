"""Stored latents match their images, and dense labels are those of the cell centres."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cloisonne.train.base.latents import IGNORED, UNLABELLED, LatentStore, cells
from cloisonne.train.data import JUDGE_SEEDS, TRAINING_SEEDS, as_tensor, pixels
from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, CORE, TRAINING
from cloisonne.world.picture import Item, Picture, Recipe, sample

RECIPE = Recipe(counts=(1, 3))
CAT, CAR = "🐱", "🚗"


def number(char: str) -> int:
    return [core.char for core in CORE].index(char) + 1


def item(char: str, colour: str | None = None) -> Item:
    return Item(char=char, colour=colour, box=(0.1, 0.1, 0.4, 0.4), flip=False, angle=0.0)


@pytest.fixture
def drawn() -> Drawn:
    """A red car in the left half, hidden below its middle by a cat that covers the lower half."""
    masks = np.zeros((2, 32, 32), bool)
    masks[0, :, :16] = True
    masks[1, 16:] = True
    labels = np.where(masks[1], 2, np.where(masks[0], 1, 0)).astype(np.uint8)
    picture = Picture(seed=0, background="beach", style="natural", items=(item(CAR, "red"), item(CAT)))
    return Drawn(picture=picture, rgb=np.zeros((32, 32, 3), np.uint8), labels=labels, masks=masks)


def store(folder: Path) -> LatentStore:
    return LatentStore(folder, RECIPE, (2, 4, 4), capacity=10)


def filled(folder: Path, count: int = 5) -> tuple[LatentStore, torch.Tensor]:
    made = store(folder)
    latents = torch.arange(count * 32).view(count, 2, 4, 4) / 10
    pictures = [draw(sample(TRAINING_SEEDS + k, RECIPE)) for k in range(count)]
    made.append(pictures[:3], latents[:3])
    made.append(pictures[3:], latents[3:])
    return made, latents


def test_cells(drawn: Drawn) -> None:
    classes, colours = cells(drawn, 4)
    car, cat, red = number(CAR), number(CAT), COLOURS.index("red") + 1
    assert classes.tolist() == [[car, car, 0, 0]] * 2 + [[cat] * 4] * 2
    assert colours.tolist() == [[red, red, 0, 0]] * 2 + [[0] * 4] * 2


def test_cells_without_a_label_are_ignored(tmp_path: Path, drawn: Drawn) -> None:
    """A glyph from outside the core has no class; in a style a named colour cannot be seen."""
    other = next(char for char in TRAINING if char not in {core.char for core in CORE})
    items = (item(CAR, "red"), item(other))
    picture = replace(drawn.picture, style="sepia print", items=items, seed=TRAINING_SEEDS)
    classes, colours = cells(replace(drawn, picture=picture), 4)
    assert classes.tolist() == [[number(CAR)] * 2 + [0] * 2] * 2 + [[UNLABELLED] * 4] * 2
    assert colours.tolist() == [[UNLABELLED] * 2 + [0] * 2] * 2 + [[0] * 4] * 2
    made = store(tmp_path)
    made.append([replace(drawn, picture=picture)], torch.zeros(1, 2, 4, 4))
    _, classes, colours = made.batch(np.array([0]))
    assert classes[0, 3].tolist() == [IGNORED] * 4
    assert colours[0, 0].tolist() == [IGNORED] * 2 + [0] * 2


def test_cells_are_of_their_middle(drawn: Drawn) -> None:
    drawn.labels[:] = 0
    drawn.labels[4, 12] = 2
    classes, _ = cells(drawn, 4)
    assert np.argwhere(classes).tolist() == [[0, 1]]


def test_cells_of_real_pictures_name_their_objects() -> None:
    for seed in range(20):
        picture = draw(sample(seed))
        classes, colours = cells(picture, 16)
        assert set(np.unique(classes)) <= {0, *(number(i.char) for i in picture.picture.items)}
        assert set(np.unique(colours)) <= {0, *(COLOURS.index(i.colour) + 1 for i in picture.picture.items if i.colour)}
        share, expected = (classes > 0).mean(), (picture.labels > 0).mean()
        assert share == pytest.approx(expected, abs=0.05)


def test_stored_pictures_are_those_of_their_seeds(tmp_path: Path) -> None:
    made, _ = filled(tmp_path)
    assert len(made) == 5
    for k in range(5):
        truth = draw(sample(TRAINING_SEEDS + k, RECIPE))
        assert made.picture(k) == truth.picture
        np.testing.assert_allclose(made.boxes(k), truth.boxes(), atol=1e-6)


def test_batches(tmp_path: Path) -> None:
    made, latents = filled(tmp_path)
    z, classes, colours = made.batch(np.array([4, 1]))
    torch.testing.assert_close(z, latents[[4, 1]], rtol=1e-3, atol=1e-3)
    truth = cells(draw(sample(TRAINING_SEEDS + 4, RECIPE)), 4)
    assert classes.dtype == colours.dtype == torch.int64
    assert classes[0].tolist() == truth[0].tolist()
    assert colours[0].tolist() == truth[1].tolist()


def test_store_is_there_again(tmp_path: Path) -> None:
    _, latents = filled(tmp_path)
    again = store(tmp_path)
    assert len(again) == 5
    torch.testing.assert_close(again.batch(np.arange(5))[0], latents, rtol=1e-3, atol=1e-3)


def test_pictures_out_of_order_are_refused(tmp_path: Path) -> None:
    made = store(tmp_path)
    with pytest.raises(AssertionError):
        made.append([draw(sample(TRAINING_SEEDS + 1, RECIPE))], torch.zeros(1, 2, 4, 4))


def test_choice_is_of_what_is_there(tmp_path: Path) -> None:
    made, _ = filled(tmp_path)
    chosen = made.choose(np.random.default_rng(0), 200)
    assert set(chosen) == set(range(5))
    np.testing.assert_array_equal(chosen, made.choose(np.random.default_rng(0), 200))


def test_pictures_as_tensors() -> None:
    tensor = as_tensor(np.array([[[[0, 127, 255]]]], np.uint8))
    assert tensor.shape == (1, 3, 1, 1)
    assert tensor.flatten().tolist() == pytest.approx([-1, -1 / 255, 1])


def test_batches_of_pictures_follow_from_the_step() -> None:
    one, again, other = (pixels(step, 3, lambda k: RECIPE) for step in (5, 5, 6))
    assert one.shape == (3, 128, 128, 3)
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    first = draw(sample(TRAINING_SEEDS + 15, RECIPE))
    assert np.array_equal(one[0], first.rgb)
    assert TRAINING_SEEDS < JUDGE_SEEDS


def test_another_process_reads_the_same_store(tmp_path: Path) -> None:
    made, _ = filled(tmp_path)
    other = copy.copy(made)  # as other processes are given it: the files are opened, not sent
    assert len(other) == 5
    assert torch.equal(other.batch(np.arange(5))[0], made.batch(np.arange(5))[0])
