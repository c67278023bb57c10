"""The pairs: the differences, the unchanged objects, and the phrases of the edits."""

import numpy as np
from PIL import Image

from cloisonne.eval.layouts import Wanted
from cloisonne.eval.pairs import MARGIN, NEAR, SIZE, TASKS, Pair, at_risk, covered, pair, pair_at_risk, pixels
from cloisonne.scene.before_after import halves
from cloisonne.world.glyphs import CORE
from cloisonne.world.picture import BACKGROUNDS, is_held_out
from cloisonne.world.words import background_words

ITEMS = [pair(index) for index in range(64)]
KINDS = {"add": {"add"}, "remove": {"remove"}, "change": {"change"}}


def objects(item: Pair) -> list[Wanted]:
    """All objects of an item, before and after."""
    return [*item.unchanged.values(), *(one for edit in item.edits for one in (edit.before, edit.after) if one)]


def test_a_pair_is_determined_by_its_index() -> None:
    again = pair(7)
    np.testing.assert_array_equal(again.before, ITEMS[7].before)
    np.testing.assert_array_equal(again.after, ITEMS[7].after)
    assert (again.caption, again.unchanged, again.edits) == (ITEMS[7].caption, ITEMS[7].unchanged, ITEMS[7].edits)


def test_tasks_take_turns_and_ask_for_their_kinds() -> None:
    for item in ITEMS:
        assert item.task == TASKS[item.index % 4]
        kinds = [edit.kind for edit in item.edits]
        if item.task == "mixed":
            assert sorted(kinds) in (["add", "change"], ["change", "remove"])
        else:
            assert set(kinds) == KINDS[item.task]
            assert len(kinds) == 1
        assert item.unchanged


def test_images_differ_only_in_the_edits_boxes() -> None:
    for item in ITEMS:
        differs = (item.before != item.after).any(-1)
        assert not differs[~item.mask].any()
        for edit in item.edits:
            x0, y0, x1, y1 = pixels(edit.box)
            assert differs[y0:y1, x0:x1].any()


def test_half_of_the_changes_are_of_colour_alone() -> None:
    changes = [(edit.before, edit.after) for item in ITEMS for edit in item.edits if edit.kind == "change"]
    recoloured = [(a, b) for a, b in changes if a and b and a.char == b.char]
    assert len(recoloured) * 2 == len(changes)
    assert all(a.colour and b.colour and a.colour != b.colour for a, b in recoloured)


def test_mixed_pairs_add_as_often_as_they_remove() -> None:
    kinds = [edit.kind for item in ITEMS if item.task == "mixed" for edit in item.edits]
    assert (kinds.count("change"), kinds.count("add"), kinds.count("remove")) == (16, 8, 8)


def test_no_class_is_seen_twice_and_all_have_names() -> None:
    core = {row.char for row in CORE}
    for item in ITEMS:
        chars = [one.char for one in item.unchanged.values()]
        for edit in item.edits:
            chars += {one.char for one in (edit.before, edit.after) if one}
        assert len(chars) == len(set(chars))
        assert set(chars) <= core
    names = {one.phrase for item in ITEMS for one in objects(item)}
    assert all(name.startswith("an " if name.split()[1][0] in "aeiou" else "a ") for name in names)


def test_pairs_at_risk_have_a_neighbour_of_the_edits_colour() -> None:
    for index in range(12):
        item = pair_at_risk(index)
        assert item.task == TASKS[index % 4]
        assert not (item.before != item.after).any(-1)[~item.mask].any()
        colours = {one.colour for edit in item.edits for one in (edit.before, edit.after) if one}
        for wanted in at_risk(item):
            assert wanted in item.unchanged.values()
            assert wanted.colour in colours - {None}
            # Grown by the distance, the box meets that of an edit.
            x0, y0, x1, y1 = wanted.box
            grown = (x0 - NEAR, y0 - NEAR, x1 + NEAR, y1 + NEAR)
            assert any(
                grown[0] <= e.box[2] and e.box[0] <= grown[2] and grown[1] <= e.box[3] and e.box[1] <= grown[3]
                for e in item.edits
            )
        assert at_risk(item)
    assert sum(bool(at_risk(item)) for item in ITEMS) < len(ITEMS) // 8


def test_all_compositions_are_in_the_training_data() -> None:
    rng = np.random.default_rng(0)
    kinds = {background_words(kind, rng): kind for kind in BACKGROUNDS for _ in range(60)}
    for item in ITEMS:
        assert not any(is_held_out(one.char, one.colour, kinds[item.caption]) for one in objects(item))


def test_the_scene_has_both_halves() -> None:
    for item in ITEMS[:8]:
        both = halves(item.scene(None, 5))
        unchanged = {(name, one.phrase) for name, one in item.unchanged.items()}
        gone = {(edit.name, edit.before.phrase) for edit in item.edits if edit.before}
        come = {(edit.name, edit.after.phrase) for edit in item.edits if edit.after}
        assert {(r.name, r.phrase) for r in both.before.regions} == unchanged | gone
        assert {(r.name, r.phrase) for r in both.after.regions} == unchanged | come
        assert (both.before.width, both.before.seed, both.before.caption) == (SIZE, 5, item.caption)


def test_a_scene_of_a_given_image_embeds_it() -> None:
    item = ITEMS[0]
    scene = item.scene(Image.fromarray(item.before), 1)
    assert scene.background is not None
    assert scene.width is None


def test_boxes_are_whole_pixels_with_a_margin() -> None:
    edit = ITEMS[0].edits[0]
    assert all(float(value * SIZE).is_integer() for value in edit.box)
    x0, y0, x1, y1 = pixels(edit.box)
    differs = (ITEMS[0].before != ITEMS[0].after).any(-1)
    rows, columns = np.nonzero(differs.any(1))[0], np.nonzero(differs.any(0))[0]
    assert 0 <= rows[0] - y0 <= MARGIN
    assert 0 <= y1 - 1 - rows[-1] <= MARGIN
    assert 0 <= columns[0] - x0 <= MARGIN
    assert 0 <= x1 - 1 - columns[-1] <= MARGIN


def test_covered_is_the_union() -> None:
    mask = covered([(0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 0.75, 0.5)])
    assert mask.sum() == 64 * 64 + 32 * 32
    assert mask[63, 95]
    assert not mask[31, 64]
