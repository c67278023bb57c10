"""From a command to its image with the built-in family: CPU seconds of the whole process, and of its parts.

    python benchmarks/startup.py

The process is ``cloisonne generate`` of a scene, at 12 steps. It alternates with the same process in which the imports
of libraries that it does not use are not deferred. The parts are those of one more process, in their order.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

SCENE = {"caption": "on a beach", "seed": 3, "regions": [{"box": [0.5, 0.5, 0.95, 0.95], "phrase": "a cat"}]}
PROCESSES = {
    "cloisonne generate": "from cloisonne.cli.main import start; start()",
    "without deferring": "from cloisonne.cli.main import app; app()",
}
PARTS = """
import json, sys, time
parts, last = {}, time.process_time()
def done(part):
    global last
    now = time.process_time()
    parts[part], last = now - last, now
done("Python")
from cloisonne.models.deferred_imports import defer, importing, list_once
import cloisonne.cli.main
defer()
list_once()
done("the command line")
with importing():
    import torch
    done("torch")
    from transformers import CLIPTextModel
    done("transformers")
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    done("diffusers")
    import cloisonne.models.load
    import cloisonne.pipelines.generate
    done("cloisonne")
model = cloisonne.models.load.load("builtin")
done("loading the model")
from cloisonne.pipelines.api import generate
generate(sys.argv[1], model, steps=12).save(sys.argv[2])
done("the image")
print(json.dumps(parts))
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind (default: 3)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        scene, out = Path(folder) / "scene.json", Path(folder) / "out.png"
        scene.write_text(json.dumps(SCENE))
        spent: dict[str, list[float]] = {name: [] for name in PROCESSES}
        for _ in range(options.rounds):
            for name, program in PROCESSES.items():
                command = [program, "generate", str(scene), "-o", str(out), "--steps", "12", "--overwrite"]
                spent[name].append(cpu_seconds(command))
        seconds = {name: median(values) for name, values in spent.items()}
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs")
        for name, value in seconds.items():
            print(f"{name:20} {value:6.2f} s of CPU   ratio {value / seconds['without deferring']:.2f}")
        found = subprocess.run(
            [sys.executable, "-c", PARTS, str(scene), str(Path(folder) / "parts.png")],
            capture_output=True,
            text=True,
            check=True,
        )
    for part, value in json.loads(found.stdout.splitlines()[-1]).items():
        print(f"    {part:20} {value:6.2f} s")


def cpu_seconds(command: Sequence[str]) -> float:
    """CPU seconds of a Python program with these arguments."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", *command], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
