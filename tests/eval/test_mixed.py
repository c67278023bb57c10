"""mixed-v1: the cases, the scenes with each condition alone and with the others, and runs that resume."""

from pathlib import Path

import numpy as np
import pytest

from cloisonne.bench.mixed import mixed
from cloisonne.bench.settings import Settings
from cloisonne.errors import CapabilityError, OutputError
from cloisonne.eval.judge import Judge
from cloisonne.eval.mixed import Generated, evaluate_mixed
from cloisonne.eval.mixed_cases import KINDS, OBJECTS, Case, cases
from cloisonne.models.builtin import BUILTIN
from cloisonne.scene import Scene
from cloisonne.world.glyphs import HELD_OUT


@pytest.fixture(scope="module")
def first() -> list[Case]:
    return list(cases(2))


def test_cases_are_determined_by_their_index(first: list[Case]) -> None:
    (again,) = cases(1)
    assert np.array_equal(again.truth, first[0].truth)
    assert np.array_equal(again.exemplar, first[0].exemplar)
    assert len({case.layout.seed for case in first}) == len(first)
    for index, case in enumerate(first):
        assert case.index == index
        assert len(case.layout.regions) == OBJECTS
        assert case.char in HELD_OUT
        masks = np.stack([case.mask(kind) for kind in KINDS])
        assert masks.any((1, 2)).all()
        assert (masks.sum(0) > 1).mean() < 0.01
        assert not np.array_equal(case.empty, case.truth)


def test_every_condition_has_a_region_of_its_own_or_all_share_one(first: list[Case]) -> None:
    case = first[0]
    scene = case.scene(KINDS, given=False)
    assert [region.name for region in scene.regions] == list(KINDS)
    assert scene.caption.startswith(case.place("control").phrase)
    phrase, exemplar, edges = scene.regions
    assert (bool(phrase.phrase), phrase.exemplar, phrase.control) == (True, None, None)
    assert (exemplar.phrase, exemplar.exemplar is not None, exemplar.control) == ("", True, None)
    assert (edges.phrase, edges.exemplar, edges.control is not None) == ("", None, True)
    (alone,) = case.scene(("exemplar",), given=True).regions
    assert alone.box == exemplar.box
    assert case.scene(("exemplar",), given=True).background is not None
    (region,) = case.together(KINDS, given=False).regions
    assert region.phrase
    assert region.exemplar is not None
    assert region.control is not None


def test_conditions_met_equally_alone_and_mixed_have_no_difference(tmp_path: Path, first: list[Case]) -> None:
    """A generator that always returns the truth: conditions are met, and nothing leaks."""
    judge, seeds = Judge.load(BUILTIN / "judge"), []
    truths = {case.layout.caption: case.truth for case in first}

    def truth(scene: Scene, seed: int) -> Generated:
        seeds.append(seed)
        rows = 4 if len(scene.regions) == len(KINDS) else 2
        (found,) = (rgb for caption, rgb in truths.items() if scene.caption.endswith(caption))
        return Generated(rgb=found, rows=rows, calls=1, seconds=1.0)

    def run(limit: int) -> str:
        return evaluate_mixed(truth, judge, tmp_path, limit=limit, seed=10, report=lines.append)

    lines: list[str] = []
    assert len(truths) == len(first)
    run(1)
    text = run(2)
    assert lines == ["1 of 1 scenes", "2 of 2 scenes"]
    assert seeds == [10] * 8 + [11] * 8
    assert text == (tmp_path / "mixed.md").read_text()
    lines = [line.split("|") for line in text.splitlines()]
    apart, together = (line for line in lines if line[2:3] == [" boundary F "])
    assert (apart[3], apart[4]) == (" 100.0 [–, n < 10] ",) * 2
    assert apart[5] == together[5] == " 0.0 [–, n < 10] "
    (cost,) = (line for line in lines if line[1:2] == [" mixed "])
    assert cost[2] == " 4.00 [–, n < 10] "
    with pytest.raises(OutputError, match="seed 10"):
        evaluate_mixed(truth, judge, tmp_path, limit=1, seed=0, report=lambda line: None)
    with pytest.raises(ValueError, match="limit is 0"):
        evaluate_mixed(truth, judge, tmp_path, limit=0)


def test_a_model_without_exemplars_or_edges_is_refused(tmp_path: Path, tiny_sd: Path) -> None:
    with pytest.raises(CapabilityError, match="cannot do exemplar; load Paint by Example"):
        mixed(Settings(out=tmp_path / "out", model=str(tiny_sd), limit=1))
    assert not (tmp_path / "out").exists()
