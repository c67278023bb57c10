"""``cloisonne convert`` reads pickles in a process with limits; its answers are the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cloisonne.cli.limited import _limits, pickled_bytes

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are those of Linux")


def limited(program: str, size: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, preexec_fn=_limits(size), capture_output=True, text=True)


@LINUX
@pytest.mark.parametrize(
    ("program", "size", "fails"),
    [
        ("bytearray(5 * 2**30)", 0, True),
        ("bytearray(2**28)", 0, False),
        ("import resource; print(resource.getrlimit(resource.RLIMIT_CPU)[0])", 2**20, False),
        ("open('big', 'wb').truncate(2**31)", 0, True),
        ("open('big', 'wb').truncate(2**31)", 2**29, False),
    ],
)
def test_limits_hold(workdir: Path, program: str, size: int, fails: bool) -> None:
    run = limited(program, size)
    assert (run.returncode != 0) is fails
    if "RLIMIT_CPU" in program:
        assert run.stdout == "601\n"


def test_only_pickles_need_the_process(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.json", "c.bin", "d.ckpt"):
        (tmp_path / name).write_bytes(b"12345678")
    found = {name: pickled_bytes(str(tmp_path / name)) for name in ("a.safetensors", "c.bin", "d.ckpt", "none.pt")}
    assert found == {"a.safetensors": 0, "c.bin": 8, "d.ckpt": 8, "none.pt": 0}
    assert pickled_bytes(str(tmp_path)) == 8
    assert pickled_bytes("builtin") == 0


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch harm",)


def test_the_command_answers_as_without_the_process(workdir: Path) -> None:
    torch.save({"a": torch.ones(2)}, "x.bin")  # noqa: TID251
    torch.save({"a": Hostile()}, "y.bin")  # noqa: TID251
    command = [sys.executable, "-m", "cloisonne", "convert"]
    good = subprocess.run([*command, "x.bin", "x.safetensors"], capture_output=True, text=True)
    assert (good.returncode, good.stdout) == (0, "x.safetensors\n")
    assert load_file("x.safetensors")["a"].tolist() == [1.0, 1.0]
    bad = subprocess.run([*command, "y.bin", "y.safetensors"], capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stderr.startswith('Error: "y.bin" needs code to be read, which is never run')
    assert not Path("harm").exists()
    assert not Path("y.safetensors").exists()
