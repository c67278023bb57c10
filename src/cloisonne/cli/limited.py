"""Runs a command again in a process with limits, where it reads files that may be hostile."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cloisonne.cli.terminal import Failed

_MARK = "CLOISONNE_LIMITED"
"""Set in the environment of the process with limits."""
MEMORY = 4 * 2**30
"""Bytes that a process may allocate besides four times the size of what it reads: the libraries need some."""
SECONDS = 600
"""Processor time, besides a second for each MiB."""


def pickled_bytes(source: str) -> int:
    """Total size of the pickles that a conversion of ``source`` reads; 0 if there are none."""
    from cloisonne.models.checkpoints.sources import PICKLES

    path = Path(source).expanduser()
    files = path.rglob("*.bin") if path.is_dir() else [path] if path.suffix in PICKLES else []
    return sum(file.stat().st_size for file in files if file.is_file())


def run_limited(size: int) -> int | None:
    """Run the command line once more in a process with limits, and return its exit code.

    Its output is repeated here. Returns None in that process itself, and where the system has no such limits (Windows).

    Args:
        size: bytes of the files that it reads.

    Raises:
        Failed: the process was ended, by a limit or from outside.
    """
    if _MARK in os.environ or sys.platform == "win32":
        return None
    command = [sys.executable, "-P", "-m", "cloisonne", *sys.argv[1:]]
    # Only limits are set between fork and exec, and the parent has not imported torch.
    done = subprocess.run(
        command,
        env=os.environ | {_MARK: "1"},
        preexec_fn=_limits(size),
        capture_output=True,
        text=True,
        errors="replace",
    )
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    if done.returncode < 0:
        raise Failed(
            f"The conversion was ended (signal {-done.returncode}): it needs more than {(4 * size + MEMORY) >> 20} MiB "
            f"or {SECONDS + (size >> 20)} s, so the file is damaged or made to harm."
        )
    return done.returncode


def _limits(size: int) -> Callable[[], None]:
    """What sets the limits of a process that reads ``size`` bytes: memory, processor time, files, no core dump."""

    def set_limits() -> None:
        import resource

        limits = {
            resource.RLIMIT_DATA: 4 * size + MEMORY,
            resource.RLIMIT_CPU: SECONDS + (size >> 20),
            resource.RLIMIT_FSIZE: 4 * size + 2**30,
            resource.RLIMIT_CORE: 0,
        }
        for limit, wanted in limits.items():
            hard = resource.getrlimit(limit)[1]
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(limit, (value, hard))

    return set_limits
