"""The holes: what is given, what is true, and that no training has seen the subject."""

import numpy as np
import pytest

from cloisonne.eval.holes import SIZE, box_of, hole, pasted
from cloisonne.eval.metrics.holes import seam, spread
from cloisonne.world.glyphs import HELD_OUT, TRAINING

ITEMS = [hole(index) for index in range(40)]


def test_an_item_follows_from_its_number():
    again = hole(3)
    for name in ("source", "truth", "mask", "exemplar"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ITEMS[3], name))


def test_subjects_are_held_out_from_all_training():
    assert {item.char for item in ITEMS} <= set(HELD_OUT)
    assert not set(HELD_OUT) & set(TRAINING)


def test_truth_and_source_differ_in_the_hole_only():
    for item in ITEMS:
        differs = (item.source != item.truth).any(-1)
        assert differs.any()
        assert not (differs & ~item.mask).any()


def test_some_holes_are_blobs_and_some_subjects_recoloured():
    assert 3 <= sum(item.blob for item in ITEMS) <= 20
    assert 3 <= sum(item.colour is not None for item in ITEMS) <= 20


def test_a_paste_changes_nothing_outside_of_the_hole():
    for item in ITEMS[:5]:
        out = pasted(item)
        assert (out != item.source).any()
        assert not (out != item.source).any(-1)[~item.mask].any()


def test_the_box_of_a_mask_touches_its_pixels():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[16:64, 32:33] = True
    assert box_of(mask) == (0.25, 0.125, 33 / 128, 0.5)


def test_the_seam_is_the_step_across_the_border():
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    rgb = np.zeros((8, 8, 3), np.uint8)
    assert seam(rgb, mask) == 0
    rgb[mask] = 30
    assert seam(rgb, mask) == pytest.approx(30)
    rgb[:] = np.arange(8)[None, :, None] * 10
    assert seam(rgb, mask) == pytest.approx(5)


def test_the_spread_of_equal_pictures_is_nothing_and_of_opposite_ones_all():
    mask = np.ones((4, 4), bool)
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert spread(np.stack([black, black]), mask) == 0
    assert spread(np.stack([black, white]), mask) == 1
    mask[:] = False
    mask[0, 0] = True
    white[0, 0] = 0
    assert spread(np.stack([black, white]), mask) == 0
