"""Keeps the built-in family's base in training, in a process of its own that survives the shell that began it.

    python scripts/family_training.py on --out ../family
    python scripts/family_training.py status --out ../family
    python scripts/family_training.py stop --out ../family

`on` starts, or goes on from the last checkpoint (one is written every two minutes); where there is none it begins with
the family in the package. It says where the training stands, and does nothing further while one runs.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from cloisonne.train.builtin.continued import trained_until

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("on", "status", "stop"))
    parser.add_argument("--out", type=Path, required=True, help="folder of the training's state")
    parser.add_argument("--threads", type=int, default=2, help="cores that it may use")
    options = parser.parse_args()
    pid = running(options.out)
    if options.action == "stop":
        stop(pid)
    elif options.action == "on" and pid is None:
        pid = start(options.out, options.threads)
    print(f"Running as process {pid}." if options.action != "stop" and pid else "Not running.")
    trained_until(options.out, print)


def running(out: Path) -> int | None:
    """The process that trains into a folder, if there is one."""
    try:
        pid = int((out / "pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if str(out.resolve()).encode() in command else None


def start(out: Path, threads: int) -> int:
    """Train in the background at the lowest priority; what it reports goes to ``log`` in the folder."""
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
    # Linux may schedule each session as a group, between which a process's own niceness does not count.
    group = Path(f"/proc/{process.pid}/autogroup")
    if group.is_file():
        group.write_text("19")
    return process.pid


def stop(pid: int | None) -> None:
    """End the process and wait until it is gone; the last checkpoint stays."""
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").is_dir():
        time.sleep(0.2)


if __name__ == "__main__":
    main()
