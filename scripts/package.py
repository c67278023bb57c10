"""Builds the package, tries it in an empty environment, and lists what it was tested with.

    python scripts/package.py build --out dist        # wheel and sdist
    python scripts/package.py try dist                # install the wheel and use it outside of the repository
    python scripts/package.py try dist --record       # and write benchmarks/records/install.json
    python scripts/package.py sbom --out dist         # the packages of .venv as CycloneDX

Needs a package index. "try" measures the extras one after the other: each adds to the environment of those before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloisonne.extras import EXTRAS
from records import ROOT, facts, write_record

CONSTRAINTS = ROOT / "constraints.txt"
SBOM_TOOL = "cyclonedx-bom==7.5.0"
GENERATE = ("generate", "--caption", "on a beach", "--region", "0.05,0.05,0.45,0.45:a doughnut", "-o", "x.png")
COLUMNS = [["installed", "text"], ["packages", "number"], ["MiB on disk", "number"], ["install, s", "number"]]
STEPS = [["step", "text"], ["s", "number"]]


class TryError(RuntimeError):
    """A command of the installed package did not do what it should."""


def run(*command: str | Path, cwd: Path | None = None, code: int = 0) -> tuple[str, float]:
    """Run a command without this process's Python path. Returns its output, with errors, and the seconds it took."""
    start = time.monotonic()
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != code:
        raise TryError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout, time.monotonic() - start


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def build(out: Path) -> list[Path]:
    """Build the sdist, and the wheel from the sdist."""
    run(sys.executable, "-m", "build", "--outdir", out, ROOT)
    return [newest(out, "*.whl"), newest(out, "*.tar.gz")]


def newest(folder: Path, pattern: str) -> Path:
    """The file in a folder that was written last."""
    files = sorted(folder.glob(pattern), key=lambda file: file.stat().st_mtime)
    if not files:
        sys.exit(f"There is no {pattern} in {folder}: python scripts/package.py build --out {folder}")
    return files[-1]


class Environment:
    """A virtual environment that measures what is installed into it."""

    def __init__(self, folder: Path) -> None:
        run(sys.executable, "-m", "venv", folder)
        self.folder = folder
        self.bin = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self._before = self._measured()

    def install(self, name: str, *arguments: str | Path) -> list[str]:
        """pip install. Returns a row of ``COLUMNS``: what it added."""
        _, seconds = run(self.bin / "python", "-m", "pip", "install", "-q", *arguments)
        before, self._before = self._before, self._measured()
        packages, size = (new - old for new, old in zip(self._before, before, strict=True))
        return [name, str(packages), f"{size / 2**20:.0f}", f"{seconds:.0f}"]

    def _measured(self) -> tuple[int, int]:
        """Number of packages, and bytes of all files but compiled Python."""
        listed, _ = run(self.bin / "python", "-m", "pip", "list", "--format", "json")
        files = (file for file in self.folder.rglob("*") if file.suffix != ".pyc")
        size = sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())
        return len(json.loads(listed.partition("\n")[0])), size


def try_base(environment: Environment, cwd: Path) -> list[list[str]]:
    """Use what needs no extra, and check the message about a missing one. Returns rows of ``STEPS``."""
    cloisonne = environment.bin / "cloisonne"
    where, imported = run(environment.bin / "python", "-c", "import cloisonne; print(cloisonne.__file__)", cwd=cwd)
    if not where.startswith(str(environment.folder)):
        raise TryError(f"cloisonne was imported from {where}")
    _, first = run(cloisonne, *GENERATE, cwd=cwd)
    _, again = run(cloisonne, "generate", "x.png", "-o", "again.png", cwd=cwd)
    if (cwd / "x.png").read_bytes() != (cwd / "again.png").read_bytes():
        raise TryError("The image of its own scene is another one.")
    refused, _ = run(cloisonne, "studio", "--no-browser", cwd=cwd, code=2)
    if 'pip install "cloisonne[studio]"' not in refused:
        raise TryError(f"cloisonne studio without its extra says: {refused}")
    return [
        ["`import cloisonne`", f"{imported:.1f}"],
        ["the first `cloisonne generate`", f"{first:.1f}"],
        ["a second one", f"{again:.1f}"],
    ]


def try_studio(environment: Environment, cwd: Path) -> list[str]:
    """Serve the studio and fetch its page. Returns a row of ``STEPS``."""
    start = time.monotonic()
    command = [environment.bin / "cloisonne", "studio", "--no-browser", "--port", "0", "--data", cwd / "studio"]
    with subprocess.Popen(
        list(map(str, command)), cwd=cwd, env=_environment(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            with urllib.request.urlopen(address.partition("#")[0], timeout=60) as answer:
                page = answer.read().decode()
            seconds = time.monotonic() - start
        finally:
            server.terminate()
    if "studio.mjs" not in page:
        raise TryError(f"{address} is not the studio's page")
    return ["`cloisonne studio` to its page", f"{seconds:.1f}"]


def attempt(wheel: Path, index: str | None, extras: Sequence[str]) -> list[dict[str, Any]]:
    """Install the wheel, use it, add the extras. Returns the tables of a record."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = Environment(place / "env")
        (place / "work").mkdir()
        rows = []
        if index:
            rows += [environment.install("torch", "torch", "-c", CONSTRAINTS, "--index-url", index)]
        rows += [environment.install("`cloisonne`", wheel, "-c", CONSTRAINTS)]
        steps = try_base(environment, place / "work")
        for extra in extras:
            rows += [environment.install(f"`cloisonne[{extra}]` adds", f"{wheel}[{extra}]", "-c", CONSTRAINTS)]
            if extra == "studio":
                steps += [try_studio(environment, place / "work")]
    files = [wheel, *wheel.parent.glob(wheel.name.partition("-py3")[0] + ".tar.gz")]
    sizes = [[file.name, f"{file.stat().st_size / 2**20:.1f}"] for file in files]
    return [
        {"name": "files", "caption": "", "columns": [["file", "text"], ["MiB", "number"]], "rows": sizes},
        {"name": "extras", "caption": "", "columns": COLUMNS, "rows": rows},
        {"name": "steps", "caption": "", "columns": STEPS, "rows": steps},
    ]


def sbom(out: Path) -> Path:
    """Write the packages of .venv, with versions and licences, by CycloneDX's own tool in an environment of its own."""
    file = out / "sbom.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(Path(folder) / "env")
        environment.install("tool", SBOM_TOOL)
        out.mkdir(parents=True, exist_ok=True)
        options = ("--output-reproducible", "--of", "JSON", "--pyproject", ROOT / "pyproject.toml", "-o", file)
        run(environment.bin / "cyclonedx-py", "environment", *options, ROOT / ".venv")
    return file


def parser() -> argparse.ArgumentParser:
    """The options of the script."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = made.add_subparsers(dest="verb", required=True)
    for verb in ("build", "sbom"):
        verbs.add_parser(verb).add_argument("--out", type=Path, default=ROOT / "dist", help="folder (dist)")
    tried = verbs.add_parser("try")
    tried.add_argument("dist", type=Path, help="folder of the wheel")
    tried.add_argument("--torch-index", help="address of the package index that torch alone comes from")
    tried.add_argument("--extras", nargs="*", default=list(EXTRAS), choices=list(EXTRAS), help="extras to add (all)")
    tried.add_argument("--record", action="store_true", help="write benchmarks/records/install.json")
    return made


def main() -> None:
    """Build, try or list."""
    options = parser().parse_args()
    if options.verb == "build":
        print(*build(options.out.resolve()), sep="\n")
    elif options.verb == "sbom":
        print(sbom(options.out.resolve()))
    else:
        wheel = newest(options.dist.resolve(), "*.whl")
        tables = attempt(wheel, options.torch_index, options.extras)
        for row in (row for table in tables for row in table["rows"]):
            print(*row, sep="  ")
        if options.record:
            about = facts(
                ["python scripts/package.py build --out dist", "python scripts/package.py try dist --record"], {}
            )
            print(write_record("install", tables, about))


if __name__ == "__main__":
    main()
