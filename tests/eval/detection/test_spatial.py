"""T2I-CompBench's spatial prompts, boxes and scores."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.errors import SceneError
from cloisonne.eval.detection.spatial import (
    BOTTOM,
    DISTANCE,
    LEFT,
    MOST_IOU,
    NEAR,
    RELATIONS,
    RIGHT,
    TOP,
    position_score,
    read_spatial,
    spatial_score,
)
from cloisonne.scene import Box
from cloisonne.scene.shapes.geometry import iou

OPPOSITE = {LEFT: RIGHT, RIGHT: LEFT, TOP: BOTTOM, BOTTOM: TOP, **{one: one for one in NEAR}}
TRANSPOSED = {LEFT: TOP, TOP: LEFT, RIGHT: BOTTOM, BOTTOM: RIGHT, **{one: one for one in NEAR}}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x, y = draw(st.integers(0, 90)), draw(st.integers(0, 90))
    return (x / 100, y / 100, draw(st.integers(x + 5, 100)) / 100, draw(st.integers(y + 5, 100)) / 100)


def mirrored(box: Box) -> Box:
    return (1 - box[2], box[1], 1 - box[0], box[3])


def transposed(box: Box) -> Box:
    return (box[1], box[0], box[3], box[2])


@pytest.mark.parametrize("relation", RELATIONS)
def test_own_boxes_are_at_their_relation(relation: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(f"a cat {relation} a chair\n")
    (layout,) = read_spatial(file).layouts
    first, second = (one.box for one in layout.instances)
    assert position_score(relation, first, second) == 1
    others = {LEFT, RIGHT, TOP, BOTTOM} - {relation} if relation not in NEAR else set()
    assert all(position_score(other, first, second) == 0 for other in others)
    assert spatial_score(relation, [(first, 1.0), (second, 1.0)]) == 1


@given(st.sampled_from(RELATIONS), boxes(), boxes())
def test_symmetries(relation: str, a: Box, b: Box) -> None:
    score = position_score(relation, a, b)
    assert 0 <= score <= 1
    assert position_score(OPPOSITE[relation], b, a) == pytest.approx(score)
    assert position_score(TRANSPOSED[relation], transposed(a), transposed(b)) == pytest.approx(score)
    flipped = OPPOSITE[relation] if relation in (LEFT, RIGHT) else relation
    # Where two distances are equal, rounding of the mirrored box decides.
    dx, dy = (abs((b[k] + b[k + 2]) - (a[k] + a[k + 2])) for k in (0, 1))
    if abs(dx - dy) > 1e-6 and min(abs(d / 2 - DISTANCE) for d in (dx, dy)) > 1e-6 and min(dx, dy) > 1e-6:
        assert position_score(flipped, mirrored(a), mirrored(b)) == pytest.approx(score)


@given(st.sampled_from((LEFT, RIGHT, TOP, BOTTOM)), boxes(), boxes())
def test_sides_are_exclusive_and_overlap_costs(relation: str, a: Box, b: Box) -> None:
    score = position_score(relation, a, b)
    if score:
        assert position_score(OPPOSITE[relation], a, b) == 0
        assert position_score(TRANSPOSED[relation], a, b) == 0
        assert score == pytest.approx(min(1.0, MOST_IOU / max(iou(a, b), 1e-9)))


@pytest.mark.parametrize("relation", NEAR)
@pytest.mark.parametrize("apart", [0.1, 0.3, 0.32, 0.6])
def test_near_means_along_one_axis(relation: str, apart: float) -> None:
    a = (0.0, 0.0, 0.2, 0.2)
    aside, away = (apart, 0.05, apart + 0.2, 0.25), (apart, apart, apart + 0.2, apart + 0.2)
    assert position_score(relation, a, aside) == 1
    assert position_score(relation, a, away) == pytest.approx(1.0 if apart < DISTANCE else DISTANCE / apart)


@given(boxes(), boxes(), st.floats(0, 1), st.floats(0, 1))
def test_score_is_half_position_and_half_confidence(a: Box, b: Box, p: float, q: float) -> None:
    whole = position_score(LEFT, a, b) / 2 + (p + q) / 4
    assert spatial_score(LEFT, [(a, p), (b, q)]) == pytest.approx(whole if whole >= 0.5 else 0)
    assert spatial_score(LEFT, [(a, p), None]) == 0
    assert spatial_score(LEFT, [None, None]) == 0


def test_prompts_are_read(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a girl on the top of a frog\na bird on side of a airplane\n\na stop sign near a hot dog\n")
    found = read_spatial(file)
    assert [layout.relation for layout in found.layouts] == [TOP, "on side of", "near"]
    assert [[one.label for one in layout.instances] for layout in found.layouts] == [
        ["person", "frog"],
        ["bird", "airplane"],
        ["stop sign", "hot dog"],
    ]
    assert [one.phrase for one in found.layouts[0].instances] == ["a girl", "a frog"]
    assert found.classes == ("airplane", "bird", "frog", "hot dog", "person", "stop sign")
    scene = found.layouts[0].scene()
    assert scene.caption == found.layouts[0].captioned().caption == "a girl on the top of a frog"
    assert [region.phrase for region in scene.regions] == ["a girl", "a frog"]


@pytest.mark.parametrize("line", ["a cat in front of a dog", "cat next to dog", "a cat next to"])
def test_other_prompts_are_refused_by_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(f"a cat next to a dog\n{line}\n")
    with pytest.raises(SceneError, match=f'Line 2 of .* is "{line}"'):
        read_spatial(file)


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n")
    with pytest.raises(SceneError, match="has no prompts"):
        read_spatial(tmp_path / "prompts.txt")
    with pytest.raises(SceneError, match="There is no file"):
        read_spatial(tmp_path / "absent.txt")
