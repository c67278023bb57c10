"""Figures of one image: hand-made verdicts have known answers, and ground truths reach the upper bound."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.eval.judge import CLASS_OF, EMBEDDING, Judge, Verdict
from cloisonne.eval.layouts import Wanted, layouts
from cloisonne.eval.metrics.layouts import DenseMap, crop, measure
from cloisonne.models.builtin import BUILTIN
from cloisonne.world.glyphs import COLOURS, TRAINING
from cloisonne.world.styles import stylise

CAT, DOG = "🐱", "🐶"
BLANK = np.zeros((128, 128, 3), np.uint8)
BOX = (0.25, 0.25, 0.5, 0.5)
"""Cells 4 to 7 of 16 both ways."""


def classes(*areas: tuple[str, slice, slice], sure: float = 0.99) -> Tensor:
    """Logits [1 + glyphs, 16, 16] of a map that shows glyphs at (rows, columns), later ones in front."""
    probability = torch.full((1 + len(TRAINING), 16, 16), 1e-6)
    probability[0] = sure
    for char, rows, columns in areas:
        probability[:, rows, columns] = 1e-6
        probability[CLASS_OF[char], rows, columns] = sure
    return probability.log()


def wanted(char: str = CAT, colour: str | None = None, box: tuple[float, float, float, float] = BOX) -> Wanted:
    return Wanted(char=char, colour=colour, box=box, phrase="")


def verdict_of(whole: Tensor, crops: Tensor | None = None, colour: int = 0):
    """A judge that sees ``whole`` in the picture and ``crops`` in every crop, all of one colour or (0) their own."""

    def judge(pictures: Tensor) -> Verdict:
        n = len(pictures)
        maps = [whole] + [whole if crops is None else crops] * (n - 1)
        colours = torch.zeros(n, 1 + len(COLOURS), 16, 16)
        colours[:, colour] = 10
        return Verdict(torch.stack(maps), colours, torch.zeros(n, 8), torch.arange(n)[:, None].expand(n, EMBEDDING))

    return judge


IN_BOX = classes((CAT, slice(4, 8), slice(4, 8)))


def test_object_in_its_box_is_found() -> None:
    (cat,) = measure(BLANK, [wanted()], verdict_of(IN_BOX)).regions
    assert cat.iou == 1.0
    assert cat.found
    assert cat.somewhere
    assert cat.crop
    assert cat.leakage == 0


def test_object_of_another_class_is_not_found() -> None:
    (dog,) = measure(BLANK, [wanted(DOG)], verdict_of(IN_BOX)).regions
    assert (dog.iou, dog.found, dog.somewhere, dog.crop, dog.leakage) == (0, False, False, False, 0)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (slice(4, 8), slice(5, 9), 12 / 20),  # moved by a cell
        (slice(5, 9), slice(5, 9), 9 / 23),  # moved by a cell both ways
        (slice(4, 6), slice(4, 8), 8 / 16),  # its upper half
        (slice(10, 14), slice(10, 14), 0),  # elsewhere
    ],
)
def test_iou_is_that_of_the_objects_box(rows: slice, columns: slice, expected: float) -> None:
    (cat,) = measure(BLANK, [wanted()], verdict_of(classes((CAT, rows, columns)))).regions
    assert cat.iou == pytest.approx(expected)
    assert cat.found == (expected >= 0.5)
    assert cat.somewhere


def test_objects_are_connected_pieces_and_specks_are_none() -> None:
    dense = DenseMap(
        classes(
            (CAT, slice(0, 4), slice(0, 4)),
            (CAT, slice(8, 10), slice(8, 12)),
            (CAT, slice(10, 12), slice(12, 14)),  # touches the second at a corner
            (CAT, slice(14, 15), slice(2, 3)),  # a single cell
        )
    )
    assert sorted(dense.objects(CLASS_OF[CAT])) == [(0, 0, 0.25, 0.25), (0.5, 0.5, 0.875, 0.75)]


def test_the_nearest_object_counts() -> None:
    two = classes((CAT, slice(4, 8), slice(4, 8)), (CAT, slice(10, 15), slice(10, 15)))
    (cat,) = measure(BLANK, [wanted()], verdict_of(two)).regions
    assert cat.iou == 1.0
    outside = 16 * 16 - 6 * 6
    assert cat.leakage == pytest.approx(25 / outside)


def test_leakage_begins_beyond_the_next_cell() -> None:
    grown = classes((CAT, slice(3, 9), slice(3, 9)))
    (cat,) = measure(BLANK, [wanted()], verdict_of(grown)).regions
    assert cat.leakage == 0
    grown = classes((CAT, slice(2, 10), slice(2, 10)))
    (cat,) = measure(BLANK, [wanted()], verdict_of(grown)).regions
    assert cat.leakage == pytest.approx((64 - 36) / (256 - 36))


def test_object_in_front_ends_the_one_behind() -> None:
    both = classes((CAT, slice(4, 8), slice(4, 8)), (DOG, slice(4, 8), slice(7, 12)))
    cat, dog = measure(BLANK, [wanted(), wanted(DOG, box=(7 / 16, 0.25, 0.75, 0.5))], verdict_of(both)).regions
    assert cat.iou == pytest.approx(12 / 16)
    assert dog.iou == 1.0


def test_edges_lie_between_cells_where_the_judge_is_unsure() -> None:
    """A column of cells that is half seen moves the edge by part of a cell only."""
    soft = classes((CAT, slice(4, 8), slice(4, 8)))
    soft[:, 4:8, 8] = torch.log(torch.full((1 + len(TRAINING),), 1e-6))[:, None]
    soft[0, 4:8, 8], soft[CLASS_OF[CAT], 4:8, 8] = math.log(0.6), math.log(0.4)
    (box,) = DenseMap(soft).objects(CLASS_OF[CAT])
    assert 0.5 < box[2] < 9 / 16


def test_crop_is_named_among_all_glyphs() -> None:
    crops = classes((DOG, slice(0, 16), slice(0, 10)), (CAT, slice(0, 16), slice(10, 16)))
    cat, dog = measure(BLANK, [wanted(CAT), wanted(DOG)], verdict_of(IN_BOX, crops)).regions
    assert not cat.crop
    assert dog.crop


@pytest.mark.parametrize("colour", range(1, 8))
def test_colour_counts_where_the_phrase_names_one(colour: int) -> None:
    asked = [wanted(), *(wanted(colour=colour) for colour in COLOURS)]
    regions = measure(BLANK, asked, verdict_of(IN_BOX, colour=colour)).regions
    assert regions[0].colour is None
    assert [region.colour for region in regions[1:]] == [k + 1 == colour for k in range(7)]


@pytest.mark.parametrize("colour", COLOURS)
def test_the_objects_own_colour_is_no_answer(colour: str) -> None:
    maps = torch.zeros(1, 1 + len(COLOURS), 16, 16)
    maps[:, 0], maps[:, 1 + COLOURS.index(colour)] = 4, 1
    verdict = Verdict(IN_BOX[None], maps, torch.zeros(1, 8), torch.zeros(1, EMBEDDING))
    assert verdict.colour_scores().shape == (1, len(COLOURS))
    assert int(verdict.colour_scores().argmax()) == COLOURS.index(colour)


def test_image_and_crops_are_measured_separately() -> None:
    seen = measure(BLANK, [wanted(), wanted(DOG)], verdict_of(IN_BOX))
    assert seen.whole.tolist() == [0] * EMBEDDING
    assert seen.crops[:, 0].tolist() == [1, 2]


def test_crop_is_the_boxs_pixels() -> None:
    rgb = BLANK.copy()
    rgb[32:64, 32:64] = 255
    assert crop(rgb, BOX).shape == (128, 128, 3)
    assert crop(rgb, BOX).min() == 255
    assert crop(rgb, (0.24, 0.25, 0.5, 0.5)).min() == 0, "a box between pixels takes whole ones"


def test_judge_sees_pictures_of_any_size_in_its_range() -> None:
    asked = []

    def judge(pictures: Tensor) -> Verdict:
        asked.append(pictures)
        return verdict_of(IN_BOX)(pictures)

    measure(np.full((192, 96, 3), 255, np.uint8), [wanted()], judge)
    assert asked[0].shape == (2, 3, 128, 128)
    assert asked[0].dtype == torch.float32
    assert asked[0].unique().tolist() == [1.0]


def test_real_judge_has_the_right_shapes() -> None:
    seen = measure(layouts()[3].truth().rgb, layouts()[3].regions, Judge().eval())
    assert len(seen.regions) == len(layouts()[3].regions)
    assert seen.whole.shape == (EMBEDDING,)
    assert seen.crops.shape == (len(seen.regions), EMBEDDING)
    assert not seen.whole.requires_grad


@pytest.mark.parametrize("style", ["natural", "pencil sketch", "sepia print", "blueprint"])
def test_the_judge_tells_a_style_from_none(style: str) -> None:
    judge = Judge.load(BUILTIN / "judge")
    natural = [
        measure(stylise(layout.truth().rgb, style).clip(0, 255).astype(np.uint8), layout.regions, judge).natural
        for layout in layouts()[:6]
    ]
    assert set(natural) == {style == "natural"}


def test_true_pictures_reach_the_ceiling() -> None:
    """A judge that knows what share of each cell is object, trained as ours is, finds the truth in its boxes."""
    found = []
    for layout in layouts()[:120]:
        drawn = layout.truth()
        share = torch.zeros(1 + len(TRAINING), 16, 16)
        for k, region in enumerate(layout.regions):
            seen = torch.from_numpy(drawn.labels == k + 1).float()
            share[CLASS_OF[region.char]] = seen.view(16, 8, 16, 8).mean((1, 3))
        share[0] = (1 - share.sum(0)) * 0.3  # the weight of none in the judge's training
        verdict = verdict_of((share / share.sum(0) + 1e-9).log())
        found += [region.found for region in measure(drawn.rgb, layout.regions, verdict).regions]
    assert np.mean(found) >= 0.98
