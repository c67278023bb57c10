"""``cloisonne doctor`` describes this machine, and says what is missing."""

import json
import os
from importlib.metadata import requires, version
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from typer.testing import CliRunner

from cloisonne.cli import doctor
from cloisonne.cli.main import app


def run(*options: str) -> str:
    result = CliRunner().invoke(app, ["doctor", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_report_is_of_this_machine() -> None:
    found = json.loads(run("--json"))
    assert found["libraries"]["torch"] == version("torch")
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["threads"] == torch.get_num_threads()
    assert all(rate > 0 for rate in found["gflops"].values())
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_text_has_everything_that_json_has() -> None:
    found = doctor.findings()
    text = doctor.text(found)
    parts: list[Any] = [found.system, found.processor, *found.libraries.values(), *found.chosen.values(), *found.notes]
    assert all(str(part) in text for part in (*parts, *found.extras, *found.gpus, *found.instructions))


def test_missing_packages_of_an_extra_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [Requirement(line) for line in requires("cloisonne") or ()]
    studio = {one.name for one in wanted if one.marker is not None and one.marker.evaluate({"extra": "studio"})}
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in studio else "1")
    found = doctor.findings()
    assert set(found.extras["studio"]) == studio
    assert 'pip install "cloisonne[studio]"' in doctor.text(found)
    assert all(name in doctor.text(found) for name in studio)
