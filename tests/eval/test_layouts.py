"""layouts-v1 is fixed, keeps its rules, and is what its seeds give."""

import hashlib
from itertools import combinations

import numpy as np
import pytest

from cloisonne.errors import CheckpointError
from cloisonne.eval import layouts as module
from cloisonne.eval.layouts import COUNT, FIRST_SEED, REFERENCE_SEED, Layout, dump, layouts, scan
from cloisonne.scene.shapes.geometry import iou
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.world.export import scene_of
from cloisonne.world.glyphs import COLOURS, CORE, words_of
from cloisonne.world.picture import is_held_out

PIXEL = 1 / 128


def assert_same(listed: Layout, scanned: Layout) -> None:
    """Equal but for a pixel of the boxes, which another version of the drawing library may round otherwise."""
    assert (listed.seed, listed.caption) == (scanned.seed, scanned.caption)
    for a, b in zip(listed.regions, scanned.regions, strict=True):
        assert (a.char, a.colour, a.phrase) == (b.char, b.colour, b.phrase)
        np.testing.assert_allclose(a.box, b.box, atol=PIXEL)


def test_list_is_the_published_one() -> None:
    assert len(layouts()) == COUNT
    digest = hashlib.sha256(dump(layouts()).encode()).hexdigest()
    assert digest == module.SHA256 == "f33d0e927304af364d2a4c9caf08551ad60d3ce8842d00fd661af35878fe7980"


def test_another_list_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match="not the published list"):
        layouts.__wrapped__()


def test_first_layouts_follow_from_their_seeds() -> None:
    for listed, scanned in zip(layouts(), scan(60), strict=False):
        assert_same(listed, scanned)


@pytest.mark.slow
def test_all_layouts_follow_from_their_seeds() -> None:
    for listed, scanned in zip(layouts(), scan(), strict=True):
        assert_same(listed, scanned)


def test_seeds_are_of_their_own() -> None:
    seeds = [layout.seed for layout in layouts()]
    assert seeds == sorted(set(seeds))
    assert seeds[0] >= FIRST_SEED
    assert seeds[-1] < REFERENCE_SEED < TRAINING_SEEDS
    assert all(REFERENCE_SEED <= layout.seed < TRAINING_SEEDS for layout in scan(5, REFERENCE_SEED))


@pytest.mark.parametrize("layout", layouts()[::9], ids=lambda layout: str(layout.index))
def test_rules(layout: Layout) -> None:
    assert 1 <= len(layout.regions) <= 4
    assert len({region.char for region in layout.regions}) == len(layout.regions)
    for x0, y0, x1, y1 in (region.box for region in layout.regions):
        w, h = x1 - x0, y1 - y0
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert 0.04 <= w * h <= 0.36
        assert min(w, h) >= 0.2
        assert 0.5 <= w / h <= 2
    overlaps = [iou(a.box, b.box) for a, b in combinations(layout.regions, 2)]
    assert all(overlap <= 0.02 or 0.05 <= overlap <= 0.3 for overlap in overlaps)


@pytest.mark.parametrize("first", [0, 400])
def test_every_stretch_is_a_fair_sample(first: int) -> None:
    part = layouts()[first : first + 400]
    overlapping = [layout for layout in part if any(map(layout.overlapped, range(len(layout.regions))))]
    assert len([layout for layout in part if layout.held_out]) == 80
    assert len(overlapping) == 100
    assert len([layout for layout in overlapping if layout.held_out]) == 20
    assert {len(layout.regions) for layout in part} == {1, 2, 3, 4}


@pytest.mark.parametrize("layout", layouts()[:40], ids=lambda layout: str(layout.index))
def test_truth_is_what_the_layout_says(layout: Layout) -> None:
    drawn = layout.truth()
    assert drawn.picture.style == "natural"
    assert min(drawn.visible()) >= 0.6
    for region, item, box in zip(layout.regions, drawn.picture.items, drawn.boxes(), strict=True):
        assert (region.char, region.colour) == (item.char, item.colour)
        assert is_held_out(item.char, item.colour, drawn.picture.background) == layout.held_out
        np.testing.assert_allclose(region.box, box, atol=PIXEL)


@pytest.mark.parametrize("layout", layouts()[::23], ids=lambda layout: str(layout.index))
def test_words(layout: Layout) -> None:
    """Phrases name the object and its colour, the caption neither; the sentence names everything but positions."""
    for region in layout.regions:
        assert region.char in {core.char for core in CORE}
        assert any(word in region.phrase for word in words_of(region.char))
        assert [colour for colour in COLOURS if colour in region.phrase.split()] == [region.colour] * bool(
            region.colour
        )
        assert region.phrase not in layout.caption
        assert region.phrase in layout.sentence
    assert layout.sentence.endswith(layout.caption)
    assert not {"left", "right", "top", "bottom"} & set(layout.sentence.split())


def test_scenes() -> None:
    layout = next(layout for layout in layouts() if len(layout.regions) == 2)
    scene = layout.scene()
    assert (scene.width, scene.height, scene.caption) == (128, 128, layout.caption)
    assert [(region.name, region.box, region.phrase) for region in scene.regions] == [
        ("region-0", layout.regions[0].box, layout.regions[0].phrase),
        ("region-1", layout.regions[1].box, layout.regions[1].phrase),
    ]
    assert layout.captioned().regions == ()
    assert layout.captioned().caption == f"{layout.regions[0].phrase} and {layout.regions[1].phrase} {layout.caption}"


def test_layout_says_what_its_seed_is_exported_with() -> None:
    for layout in layouts()[:10]:
        exported = scene_of(layout.truth())
        assert exported.caption == layout.caption
        assert [region.phrase for region in exported.regions] == [region.phrase for region in layout.regions]
