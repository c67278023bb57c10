"""Trains the built-in family's base in a background process that outlives the
shell.

    python scripts/family_training.py on --out ../family
    python scripts/family_training.py status --out ../family
    python scripts/family_training.py stop --out ../family
    python scripts/family_training.py export --out ../family --to ../family/average

`on` starts training, or resumes from the last checkpoint (one is written every
two minutes); without a checkpoint it starts from the family in the package. It
prints the progress, and does nothing else if training already runs. `export`
writes the family with the base as trained so far (its moving average), without
exemplar and controls, to measure it: cloisonne evaluate layouts --model.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from cloisonne.train.builtin.continued import export_average, trained_until
from cloisonne.train.builtin.family_run import FamilyTraining

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the action of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "action",
        choices=("on", "status", "stop", "export"),
        help="start or resume, print the progress, stop, or write the family",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the training state")
    parser.add_argument("--threads", type=int, default=2, help="number of threads (default: 2)")
    parser.add_argument("--to", type=Path, help="new folder that export writes to")
    options = parser.parse_args()
    if options.action == "export":
        if options.to is None or options.to.exists():
            parser.error("export needs --to, a folder that does not exist yet")
        export(options.out, options.to)
        return
    pid = running(options.out)
    if options.action == "stop":
        stop(pid)
    elif options.action == "on" and pid is None:
        pid = start(options.out, options.threads)
    print(f"Running as process {pid}." if options.action != "stop" and pid else "Not running.")
    trained_until(options.out, print)


def running(out: Path) -> int | None:
    """The id of the process that trains into a folder, or None."""
    try:
        pid = int((out / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(out.resolve()).encode() in command else None


def start(out: Path, threads: int) -> int:
    """Start training in the background at the lowest priority; its output goes to ``log`` in the folder."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cloisonne", "train", "base", "--out", str(out.resolve())]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    with (out / "log").open("a") as log:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    (out / "pid").write_text(str(process.pid))
    # Linux may schedule each session as a group; a process's niceness has no effect between groups.
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.is_file():
        group.write_text("19")
    return process.pid


def export(out: Path, folder: Path) -> None:
    """Write the family of a training to a folder, with the moving average of its base at the last checkpoint."""
    training = FamilyTraining(
        out=folder,
        device=torch.device("cpu"),
        minutes=0.0,
        slice_minutes=None,
        start=out / "state" / "start",
        pictures=0,
        trips=0,
        report=print,
        made=lambda member, family: None,
    )
    export_average(training, out)
    print(f"Written to {training.family}.")


def stop(pid: int | None) -> None:
    """Terminate the process and wait for its end; the last checkpoint remains."""
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").is_dir():
        time.sleep(0.2)


if __name__ == "__main__":
    main()
