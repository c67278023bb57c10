"""Figures of edits: of hand-made images, and of ground truths with the built-in judge."""

import numpy as np
import pytest

from cloisonne.eval.judge import Judge
from cloisonne.eval.metrics.edits import (
    MOST_PSNR,
    ClipSimilarity,
    EditFigures,
    Picture,
    edit_figures,
    ghost,
    mse,
    psnr,
    ssim_map,
    structure,
)
from cloisonne.eval.pairs import Pair, pair, pixels
from cloisonne.models.builtin import BUILTIN

ITEMS = [pair(index) for index in range(4)]
ALL = np.ones((128, 128), bool)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(BUILTIN / "judge")


@pytest.fixture(scope="module")
def similarity() -> ClipSimilarity:
    return ClipSimilarity(BUILTIN)


@pytest.fixture(params=ITEMS, ids=[item.task for item in ITEMS])
def item(request: pytest.FixtureRequest) -> Pair:
    return request.param


@pytest.fixture
def measured(item: Pair, judge: Judge, similarity: ClipSimilarity) -> dict[str, EditFigures]:
    def of(after: Picture) -> EditFigures:
        return edit_figures(item.before, after, None, item, judge, similarity, through_vae=item.after)

    return {"truth": of(item.after), "copy": of(item.before)}


def noise(seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)


def test_the_truth_succeeds_and_nothing_done_does_not(item: Pair, measured: dict[str, EditFigures]) -> None:
    truth, copy = measured["truth"], measured["copy"]
    assert truth.shown == [True] * (len(item.unchanged) + sum(edit.before is not None for edit in item.edits))
    assert truth.success
    assert truth.edits == [True] * len(item.edits)
    assert not copy.success
    assert not any(copy.edits)


def test_the_truth_is_near_itself_and_leaves_the_rest(measured: dict[str, EditFigures]) -> None:
    truth, copy = measured["truth"], measured["copy"]
    assert (truth.truth_psnr, truth.background_psnr, truth.background_mse) == (MOST_PSNR, MOST_PSNR, 0)
    assert copy.truth_psnr is not None
    assert copy.truth_psnr < 25
    assert copy.ssim_e == pytest.approx(1)
    assert truth.ssim_e < 0.95
    assert truth.ssim_i is not None
    assert truth.ssim_i > 0.99
    assert copy.structure == 0
    assert truth.structure > 1


def test_target_phrases_fit_the_truth_better(item: Pair, measured: dict[str, EditFigures]) -> None:
    truth, copy = measured["truth"], measured["copy"]
    targets = [edit for edit in item.edits if edit.after]
    assert len(truth.text) == len(truth.leakage) == len(targets)
    assert all(a > b for a, b in zip(truth.text, copy.text, strict=True))
    assert all(-100 <= value <= 100 for value in truth.text)


def test_a_ghost_resembles_what_was_there(item: Pair, judge: Judge, similarity: ClipSimilarity) -> None:
    """A trace of the image before is one, at any contrast; another pattern is further from the truth, but is none."""
    redrawn = [edit for edit in item.edits if edit.edit.redraws]
    truth = item.after.astype(float)
    trace = np.rint(0.7 * truth + 0.3 * item.before).astype(np.uint8)
    found = {
        share: edit_figures(item.before, after, None, item, judge, similarity, through_vae=item.after)
        for share, after in ((0.0, item.after), (0.3, trace), (1.0, item.before))
    }
    for share, figures in found.items():
        assert figures.ghost == pytest.approx([float(share > 0)] * len(redrawn), abs=0.02)
        assert all(value >= 0 for value in figures.excess)
    assert all(a < b for a, b in zip(found[0.0].excess, found[1.0].excess, strict=True))
    drawn = np.clip(truth + np.random.default_rng(0).normal(0, 20, truth.shape), 0, 255).astype(np.uint8)
    for edit in redrawn:
        assert ghost(item.before, drawn, item.after, edit.box) == pytest.approx(0, abs=0.1)


def test_an_image_before_without_objects_is_reported(judge: Judge, similarity: ClipSimilarity) -> None:
    item = ITEMS[1]
    grey = np.full_like(item.before, 128)
    found = edit_figures(grey, grey, None, item, judge, similarity, through_vae=None)
    assert found.success
    assert found.shown == [False, False]


def test_figures_without_a_ground_truth_are_left_out(judge: Judge, similarity: ClipSimilarity) -> None:
    item = ITEMS[0]
    found = edit_figures(item.before, item.after, None, item, judge, similarity, through_vae=None)
    assert (found.truth_psnr, found.raw_mean, found.raw_max) == (None, None, None)


def test_the_raw_image_counts_only_outside(judge: Judge, similarity: ClipSimilarity) -> None:
    item = ITEMS[0]
    raw = np.where(item.mask[..., None], 255 - item.before, item.before)
    raw[~item.mask] = np.where(item.before[~item.mask] < 128, item.before[~item.mask] + 2, item.before[~item.mask] - 2)
    found = edit_figures(item.before, item.after, raw, item, judge, similarity, through_vae=item.after)
    assert (found.raw_mean, found.raw_max) == (2.0, 2)


def test_a_new_thing_elsewhere_is_leakage(judge: Judge, similarity: ClipSimilarity) -> None:
    item = ITEMS[0]
    mirrored = np.where(item.mask[..., None], item.after, item.after[::-1])
    found = edit_figures(item.before, mirrored, None, item, judge, similarity, through_vae=item.after)
    assert found.leakage[0] > 0


def test_ssim_is_one_of_itself_and_symmetric() -> None:
    a, b = noise(0), noise(1)
    np.testing.assert_allclose(ssim_map(a, a), 1)
    np.testing.assert_allclose(ssim_map(a, b), ssim_map(b, a))
    assert ssim_map(a, b).mean() < 0.2
    assert ssim_map(a, 255 - a).mean() < 0


def test_ssim_of_flat_pictures_is_that_of_their_means() -> None:
    a, b = np.full((128, 128, 3), 102, np.uint8), np.full((128, 128, 3), 204, np.uint8)
    expected = (2 * 0.4 * 0.8 + 1e-4) / (0.4**2 + 0.8**2 + 1e-4)
    np.testing.assert_allclose(ssim_map(a, b), expected, atol=1e-3)


def test_errors_are_of_the_places_asked_for() -> None:
    a = np.zeros((128, 128, 3), np.uint8)
    b = a.copy()
    b[:64] = 51
    upper = np.zeros((128, 128), bool)
    upper[:64] = True
    assert mse(a, b, upper) == pytest.approx(0.04)
    assert mse(a, b, ALL) == pytest.approx(0.02) == mse(b, a, ALL)
    assert psnr(a, b, upper) == pytest.approx(-10 * np.log10(0.04))
    assert psnr(a, b, ~upper) == MOST_PSNR


def test_structure_is_symmetric_and_nothing_of_itself(judge: Judge) -> None:
    a, b = ITEMS[0].before, ITEMS[0].after
    assert structure(a, a, judge) == 0
    assert structure(a, b, judge) == pytest.approx(structure(b, a, judge))


def test_similarity_knows_what_a_crop_shows(similarity: ClipSimilarity) -> None:
    own_object, other = ITEMS[0].unchanged["kept-0"], ITEMS[1].unchanged["kept-0"]
    x0, y0, x1, y1 = pixels(own_object.box)
    crop = ITEMS[0].before[y0:y1, x0:x1]
    own, strange = similarity([crop, crop], [own_object.phrase, other.phrase])
    assert own > strange + 20
    assert similarity([], []) == []
