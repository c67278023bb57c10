"""Two workers of ``cloisonne batch`` against one, in the same processes, on cores that others may use too.

    python benchmarks/batch_workers.py [--phases 8] [--seconds 10] [--steps 12]

One batch of the built-in family has two workers with one thread each. In every other phase the second worker is stopped
(SIGSTOP), so that the two cases alternate, with loaded models. Printed is for each case the images a second and the
processor time of an image, and of the parent for it; and the images of two workers over twice those of one, in the same
time and for the same time of processors. The former needs two idle cores.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cloisonne as cl

REGION = {"name": "pet", "box": [0.5, 0.5, 0.95, 0.95], "phrase": "a cat"}
WARM = 6
"""Images before the first phase."""
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class State:
    """At the beginning or end of a phase, or the difference of two: seconds, images, processor seconds."""

    at: float
    images: int
    workers: float
    parent: float

    def since(self, other: "State") -> "State":
        own = (self.at - other.at, self.images - other.images, self.workers - other.workers, self.parent - other.parent)
        return State(*own)


class Measurement:
    """Phases with one and with two workers of a batch."""

    def __init__(self, phases: int, seconds: float) -> None:
        self._phases = phases
        self._seconds = seconds
        self._images = 0
        self._warm = threading.Event()
        self._stop = threading.Event()
        self.found: dict[int, list[State]] = {1: [], 2: []}

    def on_image(self, _: cl.BatchProgress) -> None:
        """Count an image; ends the batch after the last phase."""
        self._images += 1
        if self._images == WARM:
            self._warm.set()
        if self._stop.is_set():
            raise cl.Cancelled("Measured.")

    def run(self) -> None:
        """Stop and continue the second worker."""
        self._warm.wait()
        time.sleep(self._seconds / 2)
        first, second = _children()
        for phase in range(self._phases):
            workers = 1 + phase % 2
            os.kill(second, signal.SIGCONT if workers == 2 else signal.SIGSTOP)
            before = self._state([first, second])
            time.sleep(self._seconds)
            self.found[workers].append(self._state([first, second]).since(before))
        os.kill(second, signal.SIGCONT)
        self._stop.set()

    def _state(self, workers: list[int]) -> State:
        return State(time.monotonic(), self._images, sum(map(_processor, workers)), time.process_time())


def _children() -> list[int]:
    return sorted(
        int(child)
        for thread in os.listdir("/proc/self/task")
        for child in Path(f"/proc/self/task/{thread}/children").read_text().split()
    )


def _processor(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=8, help="half of them with one worker (default: 8)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a phase (default: 10)")
    parser.add_argument("--steps", type=int, default=12, help="of an image (default: 12)")
    options = parser.parse_args(arguments)
    measurement = Measurement(options.phases, options.seconds)
    thread = threading.Thread(target=measurement.run, daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory() as folder:
        lines = [{"name": f"{k}", "caption": f"beach {k}", "regions": [REGION]} for k in range(10_000)]
        scenes = Path(folder) / "s.jsonl"
        scenes.write_text("".join(json.dumps(line) + "\n" for line in lines))
        out, given = Path(folder) / "out", {"steps": options.steps}
        with suppress(cl.Cancelled):
            cl.batch(scenes, "builtin", out, workers=2, on_image=measurement.on_image, **given)
    thread.join()
    report(measurement)


def report(measurement: Measurement) -> None:
    """Print the table."""
    rates, costs = {}, {}
    print(f"load average {os.getloadavg()[0]:.1f}", file=sys.stderr)
    print("| workers | images | images a second | processor s an image | of the parent | processor of the workers |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for workers, phases in measurement.found.items():
        images, seconds = sum(one.images for one in phases), sum(one.at for one in phases)
        own, parent = sum(one.workers for one in phases), sum(one.parent for one in phases)
        rates[workers], costs[workers] = images / seconds, (own + parent) / images
        cells = f"{images / seconds:.3f} | {own / images:.3f} | {parent / images:.4f} | {own / seconds:.2f}"
        print(f"| {workers} | {images} | {cells} |")
    print(f"\nTwo workers over twice one: {rates[2] / (2 * rates[1]):.3f} in the same time, ", end="")
    print(f"{costs[1] / costs[2]:.3f} for the same time of processors")


if __name__ == "__main__":
    main()
