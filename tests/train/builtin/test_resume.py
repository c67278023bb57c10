"""Fine-tuning a finished family starts from its weights and does not change it."""

from pathlib import Path

import pytest

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.train.builtin import resume


def test_the_start_family_is_copied_once(tmp_path: Path) -> None:
    state = tmp_path / "out" / "state"
    assert resume.start_family(None, state) is None
    taken = resume.start_family(BUILTIN, state)
    assert taken is not None
    assert taken == state / "start"
    assert [member.sha256 for member in members(taken)] == [member.sha256 for member in members(BUILTIN)]
    assert resume.start_family(None, state) == resume.start_family(BUILTIN, state) == taken


def test_another_start_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "out" / "state"
    state.mkdir(parents=True)
    with pytest.raises(OutputError, match="did not start from"):
        resume.start_family(BUILTIN, state)
    with pytest.raises(CheckpointError, match="not a trained family"):
        resume.start_family(tmp_path, state)


def test_members_independent_of_the_base_are_copied(tmp_path: Path) -> None:
    resume.copy_members(BUILTIN, tmp_path)
    assert {folder.name for folder in tmp_path.iterdir()} == set(resume.COPIED)
    known = {member.name for member in members(BUILTIN)}
    dependent = {
        member.name
        for member in members(BUILTIN)
        if {"unet", "text_encoder"} & {member.name, *member.provenance["parents"]}
    }
    assert dependent == known - set(resume.COPIED)


def test_progress_of_a_member() -> None:
    before = resume.progress_of_member(BUILTIN, "unet")
    record = next(member.provenance for member in members(BUILTIN) if member.name == "unet")
    assert (before.pictures, before.step) == (record["pictures"], record["steps"])
    assert before.seconds == pytest.approx(60 * record["minutes"])
