"""The whole family from nothing, on a budget too small to learn anything: the same command that trains the real one."""

import json

import pytest

from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.models.load import load
from cloisonne.train.base import exemplars
from cloisonne.train.builtin.exemplar import has_words
from cloisonne.train.builtin.family import train_family
from cloisonne.train.builtin.resume import COPIED


@pytest.mark.slow
def test_a_family_trained_in_slices_loads_and_knows_its_parents(tmp_path, monkeypatch):
    monkeypatch.setattr(exemplars, "REGRESSED", 64)
    calls = 0
    while not train_family(tmp_path, 2, slice_minutes=0.25, pictures=64, trips=32, report=lambda line: None):
        calls += 1
        assert calls < 30
    assert calls > 0
    model = load(tmp_path / "family")
    assert model.native.width == 128
    records = {member.name: member.provenance for member in members(tmp_path / "family")}
    assert set(records) == {
        *("vae", "text_encoder", "unet", "judge", "clip", "clipseg", "exemplar", "control-canny", "control-color")
    }
    assert set(records["exemplar"]["parents"]) == {"vae", "text_encoder", "unet", "clip"}
    assert model.exemplar is not None
    assert set(model.adapters) == {"canny", "color"}
    assert set(records["unet"]["parents"]) == {"vae", "text_encoder"}
    config = tmp_path / "family" / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 1.0}))
    with pytest.raises(CheckpointError, match="vae"):
        load(tmp_path / "family")


@pytest.mark.slow
def test_a_finished_family_is_trained_on_in_slices(tmp_path, monkeypatch):
    monkeypatch.setattr(exemplars, "REGRESSED", 64)
    begin, calls = BUILTIN, 0
    while not train_family(
        tmp_path, 1.2, slice_minutes=0.3, begin=begin, pictures=64, trips=32, report=lambda line: None
    ):
        begin, calls = None, calls + 1  # only the first call names the start family
        assert calls < 30
    assert calls > 0
    were = {member.name: member for member in members(BUILTIN)}
    records = {member.name: member for member in members(tmp_path / "family")}
    assert records.keys() == were.keys()
    for name in records:
        if name in COPIED:
            assert records[name] == were[name]
            continue
        was, now = were[name].provenance, records[name].provenance
        if name == "exemplar" and not has_words(BUILTIN):
            assert "begun_with" not in now
            continue
        assert now["begun_with"] == was["sha256"] != now["sha256"]
        assert now["pictures"] > was["pictures"]
        assert now["steps"] > was["steps"]
    model = load(tmp_path / "family")
    assert model.exemplar is not None
    assert set(model.adapters) == {"canny", "color"}


def test_a_budget_of_nothing_is_refused(tmp_path):
    with pytest.raises(OutputError, match="0 minutes"):
        train_family(tmp_path, 0)
