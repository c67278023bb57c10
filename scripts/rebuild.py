"""Rebuilds the built-in family and everything that depends on it.

    python scripts/rebuild.py --out family --minutes 120
    python scripts/rebuild.py --out family --minutes 120 --device cuda \\
        --slice-minutes 8 --limit 400

Trains every member (`cloisonne train family`; run again to resume, as after a
slice), installs them into the package, writes the model card with its sheets
and the images of README and docs, and measures the new family (`scripts/
tables.py run`) into the records from which README and docs get their tables.
Measuring resumes too, so run the command again until it prints "Done".
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from cloisonne.models.builtin import BUILTIN, members
from cloisonne.train.builtin.family import finished
from measurements import RUNS

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 56 << 20
"""Limit of all weights together."""


def main() -> None:
    """Train; when that is finished, install the family, generate the images and measure."""
    options = parser().parse_args()
    family = options.out / "family"
    if not finished(family):
        call(training(options))
    if not finished(family):
        print("Not finished: run again to resume.")
        return
    install(family)
    for script in ("model_card.py", "docs_pictures.py"):
        call([sys.executable, str(ROOT / "scripts" / script)])
    call(measuring(options))
    print("Done: README and docs have the tables of the new family.")


def parser() -> argparse.ArgumentParser:
    """The options; those of training match `cloisonne train family`."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="folder of the family, the training state and the items")
    made.add_argument("--minutes", type=float, required=True, help="total training time in minutes")
    made.add_argument("--device", default="auto", help="device: auto, cpu or cuda (default: auto)")
    made.add_argument("--slice-minutes", type=float, help="stop training after this many minutes")
    made.add_argument("--begin", help='continue from "builtin" or a finished family (default: from scratch)')
    made.add_argument("--limit", type=int, help="at most this many items of each benchmark")
    return made


def training(options: argparse.Namespace) -> list[str]:
    """The command that trains."""
    command = cloisonne("train", "family", "--out", str(options.out), "--minutes", str(options.minutes))
    command += ["--device", options.device, *(["--begin", options.begin] if options.begin else [])]
    return command + (["--slice-minutes", str(options.slice_minutes)] if options.slice_minutes else [])


def measuring(options: argparse.Namespace) -> list[str]:
    """The command that measures what depends on the weights: a script of benchmarks/ times networks of any weights."""
    only = ["--only", *(run.record for run in RUNS if run.limit is not None)]
    limit = ["--limit", str(options.limit)] if options.limit else []
    device = [] if options.device == "auto" else ["--device", options.device]
    script, out = str(ROOT / "scripts" / "tables.py"), str(options.out / "tables")
    return [sys.executable, script, "run", "--out", out, *only, *limit, *device]


def install(family: Path) -> None:
    """Replace the package's family by a finished one, if it is small enough."""
    size = sum(file.stat().st_size for file in family.rglob("*.safetensors"))
    if size > MOST_BYTES:
        sys.exit(
            f"{family} has {size / 2**20:.1f} MiB of weights, the limit is {MOST_BYTES >> 20}: nothing was replaced."
        )
    members(family)  # raises if one was trained from other parents
    partial = BUILTIN.with_name("weights.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(family, partial)
    shutil.rmtree(BUILTIN)
    partial.rename(BUILTIN)


def cloisonne(*words: str) -> list[str]:
    """A command of the package, run by this Python."""
    return [sys.executable, "-m", "cloisonne", *words]


def call(command: list[str]) -> None:
    """Run a command; exit with its code if it fails."""
    print("+", *command[1:], flush=True)
    if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    main()
