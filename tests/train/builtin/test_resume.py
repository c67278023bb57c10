"""Fine-tuning a finished family starts from its weights and does not change it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.train.builtin import continued, resume
from cloisonne.train.builtin.family_run import FamilyTraining


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


def test_training_resumes_after_the_built_in_family_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []

    def continue_base(work: FamilyTraining, *, most_slices: float) -> None:
        starts.append(work.start)

    monkeypatch.setattr(continued, "continue_base", continue_base)
    own = resume.start_family(BUILTIN, tmp_path / "state")
    assert own is not None
    next((own / "unet").glob("*.safetensors")).unlink()
    command = ["train", "base", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert starts == [own]
    assert isinstance(CliRunner().invoke(app, [*command, "--begin", "builtin"]).exception, OutputError)


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
