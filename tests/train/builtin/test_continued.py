"""Open-ended training of the base, and the final decay from a copy of its state."""

from pathlib import Path

import pytest
import torch

from cloisonne.errors import OutputError
from cloisonne.models.builtin import BUILTIN
from cloisonne.train.builtin import resume
from cloisonne.train.builtin.continued import continue_base, finish_base, trained_until
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.loop import progress_of


def work(out: Path, slice_minutes: float | None = 1 / 60, begin: Path | None = BUILTIN) -> FamilyTraining:
    return FamilyTraining(
        out=out,
        device=torch.device("cpu"),
        minutes=1.0,
        slice_minutes=slice_minutes,
        start=resume.start_family(begin, out / "state"),
        pictures=16,
        trips=0,
        report=lambda line: None,
        made=lambda member, family: None,
    )


@pytest.mark.slow
def test_training_goes_on_and_is_finished_from_a_copy(tmp_path: Path) -> None:
    out = tmp_path / "on"
    first = continue_base(work(out), most_slices=1)
    assert first.pictures > 0
    second = continue_base(work(out), most_slices=2)
    assert second.pictures > first.pictures
    finished = work(tmp_path / "finished", slice_minutes=None)
    assert finish_base(finished, out, 96)
    assert progress_of(finished.state("base")).pictures == second.pictures + 96
    assert progress_of(out / "state" / "base") == second


def test_it_needs_a_family_and_a_slice(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="family"):
        continue_base(work(tmp_path / "one", begin=None))
    with pytest.raises(OutputError, match="slice"):
        continue_base(work(tmp_path / "two", slice_minutes=None))


def test_a_missing_state_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    trained_until(tmp_path, lines.append)
    assert lines == [f"No training has been saved in {tmp_path}."]
