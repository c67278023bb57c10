import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cloisonne.errors import SceneError
from cloisonne.scene.shapes.masks import ellipse_mask, polygon_mask
from cloisonne.scene.shapes.rle import Rle, decompress, encode

hard_masks = arrays.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20)))


@given(hard_masks)
def test_round_trip(mask) -> None:
    assert (Rle.of(mask).pixels() == mask).all()


@given(hard_masks)
def test_runs_alternate_and_begin_with_zeros(mask) -> None:
    runs = encode(mask)
    assert sum(runs) == mask.size
    assert all(run > 0 for run in runs[1:])
    assert (runs[0] == 0) == bool(mask[0, 0])


def test_runs_go_down_the_columns() -> None:
    assert Rle(size=[2, 3], counts=[1, 2, 3]).pixels().tolist() == [[False, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("mask", "compressed"),
    [
        (ellipse_mask((0.1, 0.2, 0.9, 0.8), 9, 12), "=172N2O0000000001N2N6"),
        (
            ellipse_mask((0.0, 0.3, 0.5, 1.0), 100, 80),
            r"i1`0_2:G8I6K4L4L4M2M4M2N2N2O0O2N2O000O2O0000000001N10001N2N101N2N2N3L3N3L4L4L5J7H9F\k3",
        ),
        (np.ones((300, 200)), "0Pcj1"),
        (np.zeros((3, 4)), "<"),
        (polygon_mask(((0.5, 0), (0.6, 1), (0.05, 0.3)), 40, 7), ";2S1:E<D;a3"),
    ],
)
def test_compressed_runs_as_pycocotools_writes_them(mask, compressed) -> None:
    assert decompress(compressed) == encode(mask > 0)
    assert (Rle(size=mask.shape, counts=compressed).pixels() == (mask > 0)).all()


@pytest.mark.parametrize(
    ("rle", "sentence"),
    [
        ({"size": [2, 2], "counts": [1, 2]}, "add up to 3 pixels, but its size is 2 x 2"),
        ({"size": [2, 2], "counts": [5, -1]}, "give the lengths of its runs"),
        ({"size": [2, 2], "counts": [True, 3]}, "give the lengths of its runs"),
        ({"size": [2, 2], "counts": "4 é"}, "not COCO's compressed runs"),
        ({"size": [2, 2], "counts": "o" * 40}, "not COCO's compressed runs"),
        ({"size": [2, 2], "counts": "4o"}, "end in the middle"),
        ({"size": [2, 2]}, "counts null"),
        ({"counts": [4]}, "size null"),
        ({"size": [2, 0], "counts": []}, "give [height, width]"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, "at most 64 megapixels"),
        ({"size": [2, 2], "count": [4]}, 'did you mean "counts"?'),
    ],
)
def test_bad_runs(rle, sentence) -> None:
    with pytest.raises(SceneError) as caught:
        Rle(**rle)
    assert sentence in str(caught.value)
