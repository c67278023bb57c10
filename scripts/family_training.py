"""Trains the built-in family's base in a background process that outlives the
shell.

    python scripts/family_training.py on --out ../family
    python scripts/family_training.py status --out ../family
    python scripts/family_training.py stop --out ../family
    python scripts/family_training.py export --out ../family --to ../family/average
    python scripts/family_training.py finish --out ../family --to ../release

`on` starts training, or resumes from the last checkpoint (one is written every
two minutes); without a checkpoint it starts from the family in the package. It
prints the progress, and does nothing else if training already runs. `export`
writes the family with the base as trained so far (its moving average), without
controls, to measure it: cloisonne evaluate layouts --model. `finish` lets the
learning rate fall and trains what depends on the base, into a family that
scripts/rebuild.py installs; it resumes when it is called again.
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
from cloisonne.train.builtin.release import release

ROOT = Path(__file__).resolve().parents[1]
STORED = 400_000
"""Capacity of the store of encoded images, as of `cloisonne train base`."""


def main() -> None:
    """Run the action of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "action",
        choices=("on", "status", "stop", "export", "finish"),
        help="start or resume, print the progress, stop, write the family, or finish one",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the training state")
    parser.add_argument("--threads", type=int, default=2, help="number of threads (default: 2)")
    parser.add_argument("--to", type=Path, help="new folder that export writes to; folder of finish")
    parser.add_argument("--base", type=int, default=60_000, help="images of the falling learning rate")
    parser.add_argument("--controls", type=float, default=60, help="minutes of training of both controls")
    options = parser.parse_args()
    if options.action == "export":
        if options.to is None or options.to.exists():
            parser.error("export needs --to, a folder that does not exist yet")
        export(options.out, options.to)
        return
    if options.action == "finish":
        if options.to is None:
            parser.error("finish needs --to, the folder of the finished family and its state")
        finish(options)
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
    training = work(folder, out / "state" / "start")
    export_average(training, out)
    print(f"Written to {training.family}.")


def finish(options: argparse.Namespace) -> None:
    """Finish the training as a family in a folder."""
    torch.set_num_threads(options.threads)
    release(
        work(options.to, options.out / "state" / "start"),
        options.out,
        base_pictures=options.base,
        control_minutes=options.controls,
    )
    print(f"Written to {options.to / 'family'}.")


def work(out: Path, start: Path) -> FamilyTraining:
    """A training of what depends on the base, from a start family."""
    return FamilyTraining(
        out=out,
        device=torch.device("cpu"),
        minutes=0.0,
        slice_minutes=None,
        start=start,
        pictures=STORED,
        trips=0,
        report=print,
        made=lambda member, family: None,
    )


def stop(pid: int | None) -> None:
    """Terminate the process and wait for its end; the last checkpoint remains."""
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").is_dir():
        time.sleep(0.2)


if __name__ == "__main__":
    main()
