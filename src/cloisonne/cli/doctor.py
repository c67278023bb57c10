"""``cloisonne doctor``: what this machine has, what is chosen for it, and what will be slow or is missing."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Annotated

import typer

from cloisonne.extras import EXTRAS

LIBRARIES = ("cloisonne", "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "pillow")

INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
"""Instruction sets of a processor that decide how fast its products are, by their names in /proc/cpuinfo."""

TERAFLOP = 1e12
SIZES = {"Stable Diffusion 1.5, 512 x 512": 40 * 0.68 * TERAFLOP, "XL, 1024 x 1024": 40 * 5.98 * TERAFLOP}
"""FLOP of 20 guided steps, which are 40 batch rows of the UNet."""

SLOW_SECONDS = 120
GPU_NONE = "none that torch can use"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found and chosen.

    Attributes:
        system: operating system, architecture and Python.
        libraries: versions by package; "missing" where it is not installed.
        processor, cores, threads: its name, the cores that this process may use, and torch's threads.
        instructions: those of ``INSTRUCTIONS`` that it has.
        memory_gib: memory in GiB.
        gpus: name and memory of each.
        gflops: GFLOP/s of a matrix product by dtype, on one thread.
        chosen: device and dtypes that are used unless an option says otherwise.
        compiling: what ``--compile`` needs on the first GPU, or without one on the CPU, and is missing.
        extras: missing packages by extra of cloisonne; () where it is complete.
        notes: what will be slow, is missing, or was set by the environment, with what to do.
    """

    system: str
    libraries: dict[str, str]
    processor: str
    cores: int
    threads: int
    instructions: tuple[str, ...]
    memory_gib: float
    gpus: tuple[str, ...]
    gflops: dict[str, float]
    chosen: dict[str, str]
    compiling: tuple[str, ...]
    extras: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print only JSON to stdout.")] = False) -> None:
    """Check this machine and installation. Prints versions, devices, choices, what is slow and what is missing."""
    found = findings()
    typer.echo(json.dumps(asdict(found)) if as_json else text(found))


def findings() -> Findings:
    """Examine this machine; takes about as long as importing torch."""
    import psutil
    import torch

    from cloisonne.models.compiled import missing_compiler
    from cloisonne.train.precision import precision

    rates = precision("cpu")
    gpus = tuple(
        f"{torch.cuda.get_device_name(i)}, {torch.cuda.get_device_properties(i).total_memory / 2**30:.0f} GiB"
        for i in range(torch.cuda.device_count())
    )
    training = precision("cuda").dtype if gpus else rates.dtype
    chosen = {
        "device": "cpu, unless --device says otherwise",
        "drawing": "float32 on a CPU, float16 on a GPU",
        "training": str(training).removeprefix("torch."),
    }
    processor, flags = _processor()
    threads = torch.get_num_threads()
    compiling = missing_compiler("cuda" if gpus else "cpu")
    extras = {extra: _missing(extra) for extra in EXTRAS}
    return Findings(
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        libraries={name: _version(name) or "missing" for name in LIBRARIES},
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=threads,
        instructions=tuple(name for name in INSTRUCTIONS if name in flags),
        memory_gib=psutil.virtual_memory().total / 2**30,
        gpus=gpus,
        gflops={"float32": round(rates.float32, 1), "bfloat16": round(rates.bfloat16, 1)},
        chosen=chosen,
        compiling=compiling,
        extras=extras,
        notes=_notes(gpus, rates.float32 * threads * 1e9, compiling, extras),
    )


def text(found: Findings) -> str:
    """The findings for a terminal, one a line."""
    memory = f"{found.memory_gib:.1f} GiB of memory"
    flags = ", ".join(found.instructions) or "none of those that make products fast"
    rows = [
        ("System", found.system),
        ("Libraries", ", ".join(f"{name} {number}" for name, number in found.libraries.items())),
        ("Processor", f"{found.processor}, {found.cores} cores, {found.threads} threads, {memory}"),
        ("Instructions", flags),
        ("Products", ", ".join(f"{name} {rate:g} GFLOP/s" for name, rate in found.gflops.items()) + " a thread"),
        ("GPUs", "; ".join(found.gpus) or GPU_NONE),
        *((f"Chosen: {what}", value) for what, value in found.chosen.items()),
        ("Compiling", f"missing {', '.join(found.compiling)}" if found.compiling else "possible (--compile)"),
        *(
            (f"Extra: {extra}", f"missing {', '.join(gone)}" if gone else "installed")
            for extra, gone in found.extras.items()
        ),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value}" for name, value in rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in found.notes or ("Nothing is missing.",))])


def _notes(
    gpus: tuple[str, ...], flops: float, compiling: tuple[str, ...], extras: dict[str, tuple[str, ...]]
) -> tuple[str, ...]:
    notes = []
    if gpus:
        notes.append("A GPU is used only where you name it: --device cuda.")
    else:
        slow = [f"{name}: about {work / flops / 60:.0f} minutes" for name, work in SIZES.items()]
        notes += [f"Without a GPU, 20 guided steps will be slow. {'; '.join(slow)}. The built-in family takes seconds."]
    if compiling:
        notes.append(f"Networks cannot be compiled (--compile) without {' and '.join(compiling)}.")
    if gone := [extra for extra, missing in extras.items() if missing]:
        notes.append(f'Some commands need more packages: pip install "cloisonne[{",".join(gone)}]"')
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        if name in os.environ:
            notes.append(f"{name} is {os.environ[name]!r} in the environment, which limits what is used.")
    return tuple(notes)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _missing(extra: str) -> tuple[str, ...]:
    """Packages of an extra that are not installed."""
    from packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requires("cloisonne") or ()]
    named = (one.name for one in wanted if one.marker is not None and one.marker.evaluate({"extra": extra}))
    return tuple(name for name in named if _version(name) is None)


def _processor() -> tuple[str, frozenset[str]]:
    """Its name and instruction sets, from Linux where it says them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor", frozenset()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    cleaned = {name.strip(): value.strip() for name, value in fields.items()}
    flags = cleaned.get("flags", cleaned.get("Features", ""))
    return cleaned.get("model name", platform.machine()), frozenset(flags.split())
