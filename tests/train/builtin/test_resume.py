"""Fine-tuning a finished family starts from its weights and does not change it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.train.builtin import resume
from cloisonne.train.builtin.export import export_pretrained


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


def test_the_exemplars_first_layer_moves_with_the_bases(tmp_path: Path) -> None:
    """On the same base it stays; on another base, the change between the bases is added."""
    was = load_file(BUILTIN / "exemplar" / "model.safetensors")
    same = load_file(resume.exemplar_adapter(BUILTIN, BUILTIN, tmp_path / "same") / "model.safetensors")
    assert same.keys() == was.keys()
    assert all(torch.equal(same[name], tensor.float()) for name, tensor in was.items())
    unet: Any = resume.base_of(BUILTIN)[1]
    with torch.no_grad():
        unet.conv_in.weight += 0.25
        unet.conv_in.bias -= 0.5
    shutil.copytree(BUILTIN / "text_encoder", tmp_path / "family" / "text_encoder")
    export_pretrained(unet, tmp_path / "family" / "unet")
    moved = load_file(resume.exemplar_adapter(BUILTIN, tmp_path / "family", tmp_path / "new") / "model.safetensors")
    name, channels = "unet.conv_in.weight", unet.conv_in.in_channels
    change = moved[name] - was[name].float()
    torch.testing.assert_close(change[:, :channels], torch.full_like(change[:, :channels], 0.25), atol=1e-3, rtol=0)
    assert not change[:, channels:].any()
    change = moved["unet.conv_in.bias"] - was["unet.conv_in.bias"].float()
    torch.testing.assert_close(change, torch.full_like(change, -0.5), atol=1e-3, rtol=0)
    others = set(was) - {name, "unet.conv_in.bias"}
    assert all(torch.equal(moved[other], was[other].float()) for other in others)
