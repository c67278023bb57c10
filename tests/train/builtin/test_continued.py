"""Open-ended training of the base, the final decay from a copy of its state, and the release of a family."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.models.builtin import BUILTIN, members
from cloisonne.models.load import load
from cloisonne.pipelines.generate import generate
from cloisonne.scene.inpainting import inpaint_scene
from cloisonne.train.base import exemplars
from cloisonne.train.builtin import resume
from cloisonne.train.builtin.continued import (
    continue_base,
    export_average,
    finish_base,
    train_decoder,
    trained_until,
)
from cloisonne.train.builtin.family_run import FamilyTraining
from cloisonne.train.builtin.release import release
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
def test_training_goes_on_and_is_finished_from_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "REGRESSED", 64)
    out = tmp_path / "on"
    first = continue_base(work(out), most_slices=1)
    assert first.pictures > 0
    second = continue_base(work(out), most_slices=2)
    assert second.pictures > first.pictures
    finished = work(tmp_path / "finished", slice_minutes=None)
    assert finish_base(finished, out, 96)
    assert progress_of(finished.state("base")).pictures == second.pictures + 96
    assert progress_of(out / "state" / "base") == second
    average = work(tmp_path / "average", begin=out / "state" / "start")
    export_average(average, out)
    assert load(average.family).exemplar is not None
    scene = inpaint_scene(
        Image.new("RGB", (128, 128)), (0.2, 0.2, 0.8, 0.8), exemplar=Image.new("RGB", (64, 64)), steps=2
    )
    assert generate(scene, load(average.family)).image.size == (128, 128)


def _killed(vae: AutoencoderKL) -> dict[str, float]:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_release_is_a_family_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "REGRESSED", 64)
    out = tmp_path / "on"
    before = continue_base(work(out), most_slices=1)
    calls = 0
    training = work(tmp_path / "release", begin=out / "state" / "start")
    budget = {"base_pictures": 96, "control_minutes": 0.05}
    while not release(training, out, **budget):
        calls += 1
        assert calls < 60
    assert progress_of(tmp_path / "release" / "state" / "base").pictures == before.pictures + 96
    were = {member.name: member.provenance for member in members(BUILTIN)}
    records = {member.name: member.provenance for member in members(training.family)}
    assert records.keys() == were.keys()
    assert records["unet"]["pictures"] == were["unet"]["pictures"] + before.pictures + 96
    assert records["vae"]["sha256"] == were["vae"]["sha256"]

    assert train_decoder(work(out, slice_minutes=None), 32)
    with monkeypatch.context() as killed:
        killed.setattr("cloisonne.train.builtin.release.measure_vae", _killed)
        with pytest.raises(KeyboardInterrupt):
            release(training, out, **budget)
    assert release(training, out, **budget)
    later = {member.name: member.provenance for member in members(training.family)}
    assert later["vae"]["sha256"] not in (were["vae"]["sha256"], *later["judge"]["parents"].values())
    assert later["judge"]["earlier_parents"] == {"vae": were["vae"]["sha256"]}
    assert later["unet"] == records["unet"] | {"parents": records["unet"]["parents"] | {"vae": later["vae"]["sha256"]}}
    model = load(training.family)
    assert model.takes_exemplars
    assert set(model.adapters) == {"canny", "color"}


def test_it_needs_a_family_and_a_slice(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="family"):
        continue_base(work(tmp_path / "one", begin=None))
    with pytest.raises(OutputError, match="slice"):
        continue_base(work(tmp_path / "two", slice_minutes=None))


def test_a_missing_state_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    trained_until(tmp_path, lines.append)
    assert lines == [f"No training has been saved in {tmp_path}."]
