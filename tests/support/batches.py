"""Batches with simulated workers, and what is in their folders."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.batches.run import BatchReport, Settings, asked_of, run

SUPPORT = Path(__file__).parent
WORKER = (sys.executable, str(SUPPORT / "simulated_worker.py"))


def write_scenes(path: Path, count: int, **fields: Any) -> Path:
    """A JSONL file of scenes s0000, s0001 and so on, whose captions differ."""
    lines = [{"name": f"s{k:04d}", "caption": f"scene {k}", **fields} for k in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def simulate(
    scenes: Any,
    folder: Path,
    *worker: str,
    num_images: int = 1,
    model: str | None = "builtin",
    on_image: Any = None,
    **given: Any,
) -> BatchReport:
    """A batch with simulated workers in this process. worker: arguments of simulated_worker.py. given: settings."""
    fields = given.pop("fields", {})
    wanted = None if model is None else ModelSpec(model, device=given.pop("device", "cpu"))
    asked, spec = asked_of(scenes, wanted, fields, folder, num_images)
    return run(asked, spec, folder, Settings(command=(*WORKER, *worker), **given), on_image)


def start(scenes: Path, folder: Path, workers: int, seconds: float) -> "subprocess.Popen[str]":
    """A batch with simulated workers in a process of its own; prints its report as JSON."""
    command = [sys.executable, __file__, str(scenes), str(folder), str(workers), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a folder but those that list images."""
    lists = ("manifest.jsonl", ".lock", "failures.jsonl")
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name not in lists
    }


def manifest(folder: Path) -> list[dict[str, Any]]:
    """The lines of a folder's manifest."""
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def check_whole(folder: Path) -> dict[str, str]:
    """Each image has one line, with its hash, and nothing else is there. Returns :func:`contents`."""
    found, lines = contents(folder), manifest(folder)
    assert {line["file"]: line["sha256"] for line in lines} == found
    assert len(lines) == len(found), "an image was generated twice"
    return found


def main() -> None:
    """Run the batch that :func:`start` starts."""
    scenes, folder, workers, seconds = sys.argv[1:]
    report = simulate(Path(scenes), Path(folder), seconds, workers=int(workers))
    print(
        json.dumps(
            {
                "generated": report.generated,
                "present": report.present,
                "failed": report.failed,
                "torch": "torch" in sys.modules,
            }
        )
    )


if __name__ == "__main__":
    main()
