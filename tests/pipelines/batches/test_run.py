"""Batches with simulated workers: who does what, what is reported, and what a second call does."""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from batches import check_whole, contents, manifest, simulate, start, write_scenes
from PIL import Image
from simulated_worker import SIDE

from cloisonne.errors import Cancelled, CheckpointError, OutputError, SceneError
from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.batches.pool import WorkersEnded
from cloisonne.pipelines.batches.progress import BatchProgress, duration
from cloisonne.pipelines.batches.run import Settings, asked_of, run
from cloisonne.scene import Scene

GOOD = {"a": {"caption": "a cat"}, "b": {"caption": "a dog", "seed": 5}, "c": {"caption": "a bird", "width": 64}}
BAD = {
    "field": {"captoin": "a cat"},
    "file": {"caption": "a cat", "background": "absent.png"},
    "refused": {"caption": "refused by the model"},
    "model": {"caption": "a cat", "model": "another"},
    "x/y": {"caption": "a cat"},
    "A": {"caption": "another cat"},
}


def written(path: Path, scenes: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps({"name": name, **scene}) + "\n" for name, scene in scenes.items()))
    return path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The images of twelve scenes by one worker."""
    folder = tmp_path_factory.mktemp("alone")
    simulate(write_scenes(folder / "s.jsonl", 12), folder / "out")
    return check_whole(folder / "out")


def test_bad_scenes_are_reported_and_the_others_are_there(tmp_path: Path) -> None:
    scenes = written(tmp_path / "s.jsonl", {**dict(list(GOOD.items())[:2]), **BAD, "c": GOOD["c"]})
    events: list[BatchProgress] = []
    report = simulate(scenes, tmp_path / "out", model=None, on_image=events.append)
    assert set(check_whole(tmp_path / "out")) == {"a.png", "b.png", "c.png"}
    failed = dict(report.failed)
    assert len(failed) == len(report.failed) == len(BAD)
    assert 'did you mean "caption"' in failed["line 3"]
    assert "absent.png" in failed["file"]
    assert failed["refused"] == "This scene is refused."
    assert 'is "another"' in failed["model"]
    assert "can name a file" in failed["line 7"]
    assert "already that of another scene" in failed["A"]
    listed = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {one["name"]: one["error"] for one in listed} == failed
    assert {event.name for event in events if event.error} == failed.keys()
    assert (events[-1].done, events[-1].failed, events[-1].total) == (3, 6, 9)


@pytest.mark.parametrize(
    "given", [{"workers": 3}, {"workers": 5}, {"device": "cuda", "workers": 2}], ids=lambda given: str(given)
)
def test_images_do_not_depend_on_workers_and_groups(
    given: dict[str, Any], alone: dict[str, str], tmp_path: Path
) -> None:
    simulate(write_scenes(tmp_path / "s.jsonl", 12), tmp_path / "out", **given)
    assert check_whole(tmp_path / "out") == alone


def test_images_do_not_depend_on_their_place(alone: dict[str, str], tmp_path: Path) -> None:
    lines = write_scenes(tmp_path / "s.jsonl", 12).read_text().splitlines(keepends=True)
    (tmp_path / "some.jsonl").write_text("".join(reversed(lines[3:9])))
    simulate(tmp_path / "some.jsonl", tmp_path / "out")
    assert check_whole(tmp_path / "out").items() <= alone.items()


def test_a_second_call_goes_on(alone: dict[str, str], tmp_path: Path) -> None:
    def stop(event: BatchProgress) -> None:
        if event.done == 5:
            raise Cancelled("Enough.")

    scenes = write_scenes(tmp_path / "s.jsonl", 12)
    with pytest.raises(Cancelled):
        simulate(scenes, tmp_path / "out", workers=2, on_image=stop)
    assert len(check_whole(tmp_path / "out")) == 5
    report = simulate(scenes, tmp_path / "out", workers=2)
    assert (report.generated, report.present) == (7, 5)
    before = (tmp_path / "out" / "manifest.jsonl").read_bytes()
    report = simulate(scenes, tmp_path / "out")
    assert (report.generated, report.present) == (0, 12)
    assert (tmp_path / "out" / "manifest.jsonl").read_bytes() == before
    assert check_whole(tmp_path / "out") == alone


def test_more_images_of_each_scene_are_added(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "s.jsonl", 3)
    simulate(scenes, tmp_path / "out")
    first = contents(tmp_path / "out")
    report = simulate(scenes, tmp_path / "out", num_images=3)
    assert (report.generated, report.present) == (6, 3)
    assert first.items() <= check_whole(tmp_path / "out").items()
    seeds = {line["file"]: line["seed"] for line in manifest(tmp_path / "out")}
    assert [seeds[f"s0001{end}.png"] - seeds["s0001.png"] for end in ("", "-0001", "-0002")] == [0, 1, 2]


def test_images_carry_their_scene_with_its_seed(tmp_path: Path) -> None:
    simulate(written(tmp_path / "s.jsonl", GOOD), tmp_path / "out", fields={"steps": 3}, num_images=2)
    scene = Scene.from_png(tmp_path / "out" / "b-0001.png")
    assert (scene.caption, scene.seed, scene.steps) == ("a dog", 6, 3)
    with Image.open(tmp_path / "out" / "c.png") as image:
        assert image.size == (64, SIDE)


def test_a_changed_scene_is_reported_and_replaced_where_that_is_allowed(tmp_path: Path) -> None:
    simulate(written(tmp_path / "s.jsonl", GOOD), tmp_path / "out")
    before = contents(tmp_path / "out")
    changed = written(tmp_path / "s.jsonl", GOOD | {"a": {"caption": "a red cat"}})
    report = simulate(changed, tmp_path / "out")
    assert "another scene" in dict(report.failed)["a"]
    assert contents(tmp_path / "out") == before
    report = simulate(changed, tmp_path / "out", overwrite=True)
    assert (report.generated, report.present, report.failed) == (1, 2, ())
    assert {name for name, one in contents(tmp_path / "out").items() if before[name] != one} == {"a.png"}
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_another_model_is_refused(tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "s.jsonl", 2)
    simulate(scenes, tmp_path / "out")
    (tmp_path / "other").mkdir()
    with pytest.raises(OutputError, match="model simulated builtin and not"):
        simulate(scenes, tmp_path / "out", model=str(tmp_path / "other"))
    check_whole(tmp_path / "out")


def test_a_model_that_cannot_be_loaded_is_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "absent").mkdir()
    with pytest.raises(CheckpointError, match=r"There is no model\."):
        simulate(write_scenes(tmp_path / "s.jsonl", 2), tmp_path / "out", model="absent", workers=2)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_scene_at_which_every_worker_ends_fails_alone(device: str, tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "s.jsonl", 6)
    report = simulate(scenes, tmp_path / "out", "0", "scene 3", workers=2, device=device)
    assert len(check_whole(tmp_path / "out")) == 5
    ((name, error),) = report.failed
    assert name == "s0003"
    assert "ended 3 times (signal 9)" in error


def test_a_worker_that_never_starts_leaves_its_part_to_the_others(alone: dict[str, str], tmp_path: Path) -> None:
    scenes = write_scenes(tmp_path / "s.jsonl", 12)
    report = simulate(scenes, tmp_path / "out", "0.3", "no scene", "1", workers=2)
    assert report.failed == ()
    assert check_whole(tmp_path / "out") == alone


def test_workers_that_never_start_are_an_error(tmp_path: Path) -> None:
    asked, spec = asked_of(write_scenes(tmp_path / "s.jsonl", 2), ModelSpec(), {}, tmp_path / "out", 1)
    with pytest.raises(WorkersEnded, match=r"ended 3 times while it loaded the model \(exit code 3\)"):
        run(asked, spec, tmp_path / "out", Settings(command=(sys.executable, "-c", "import sys; sys.exit(3)")))


@pytest.mark.parametrize("given", [{"workers": 0}, {"threads": True}, {"num_images": 0}], ids=str)
def test_counts_below_one_are_refused(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="at least 1"):
        simulate(write_scenes(tmp_path / "s.jsonl", 1), tmp_path / "out", **given)


def test_a_full_disk_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    """No file of this process can grow beyond the size that the manifest reaches in the middle of the run."""
    scenes = write_scenes(tmp_path / "s.jsonl", 30)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limit[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be written \(.*\); free space on its disk"):
            simulate(scenes, tmp_path / "out", workers=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    done = len(check_whole(tmp_path / "out"))
    assert 0 < done < 30
    assert simulate(scenes, tmp_path / "out").generated == 30 - done
    check_whole(tmp_path / "out")


def test_scenes_and_images_have_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"caption": "a cat"}')
    with pytest.raises(SceneError, match="holds the scenes"):
        simulate(tmp_path, tmp_path)
    assert os.listdir(tmp_path) == ["a.json"]


def test_this_process_needs_no_torch(tmp_path: Path) -> None:
    process = start(write_scenes(tmp_path / "s.jsonl", 2), tmp_path / "out", 1, 0)
    out, err = process.communicate()
    assert json.loads(out) == {"generated": 2, "present": 0, "failed": [], "torch": False}, err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
