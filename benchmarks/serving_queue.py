"""Waits of many users against the number of replicas: a simulation with the server's own queue.

``python benchmarks/serving_queue.py [--users 10000] [--think 600] [--service 4]`` prints two tables in Markdown. Users
submit a job, wait for its picture, and think for a time that is exponentially distributed. A replica draws a job in a
log-normal time with a coefficient of variation of one half. Who meets a full queue tries again after the seconds that
the server says. Nothing is drawn, and times of the network are left out.
"""

import argparse
import heapq
import itertools
import math
from dataclasses import dataclass, field

import numpy as np

from cloisonne.studio.queue import FairQueue, QueueFull
from cloisonne.studio.settings import Limits

VARIATION = 0.5
"""Standard deviation of the time of a job, in means."""
WARM, END = 900.0, 4500.0
"""Seconds of the simulation at which waits begin and end to count."""
SCALE_EVERY, SCALE_DOWN_AFTER = 10.0, 600.0
"""Seconds between two decisions of the autoscaler, and of too many replicas before one is ended (Ray's default)."""
RETRY_MOST = 300.0
"""Longest time, in seconds, that the server tells a client to wait (``Dispatcher.retry_after``)."""


@dataclass(kw_only=True)
class Load:
    """Users, the mean time in seconds that they think, and that a job takes."""

    users: int
    think: float
    service: float
    seed: int = 0


@dataclass(kw_only=True)
class Scaling:
    """Replicas: at least, at most, and the seconds that one needs to start."""

    least: int
    most: int
    start: float = 0.0


@dataclass
class Simulation:
    """One run. waits: seconds from the first attempt to the replica, of jobs that were first submitted after WARM."""

    load: Load
    scaling: Scaling
    waits: list[float] = field(default_factory=list)
    jobs: int = 0
    refused: int = 0
    replica_seconds: float = 0.0

    def __post_init__(self) -> None:
        limits = Limits()
        self._rng = np.random.default_rng(self.load.seed)
        self._queue = FairQueue(limits.queued, limits.queued_per_client)
        self._submitted: dict[str, float] = {}
        self._events: list[tuple[float, int, str, str]] = []
        self._order = itertools.count()
        self._free = self._replicas = self.scaling.least
        self._starting = self._busy = 0
        self._idle_since = 0.0

    def run(self) -> "Simulation":
        """Simulate to the end."""
        for user in range(self.load.users):
            self._at(self._rng.exponential(self.load.think), "submit", str(user))
        if self.scaling.most > self.scaling.least:
            self._at(SCALE_EVERY, "scale", "")
        before = 0.0
        while self._events:
            now, _, kind, user = heapq.heappop(self._events)
            if now > END:
                break
            if now > WARM:
                self.replica_seconds += self._replicas * (now - max(before, WARM))
            before = now
            getattr(self, f"_{kind}")(now, user)
            while self._free and (job := self._queue.take()) is not None:
                self._begin(now, job)
        return self

    def _at(self, when: float, kind: str, user: str) -> None:
        heapq.heappush(self._events, (when, next(self._order), kind, user))

    def _submit(self, now: float, user: str) -> None:
        first = self._submitted.setdefault(user, now)
        try:
            with self._queue.place(user):
                self._queue.add(user, user)
                self.jobs += first > WARM
        except QueueFull:
            self.refused += first > WARM
            places = len(self._queue) / 16
            self._at(now + min(max(places * self.load.service / max(self._replicas, 1), 1), RETRY_MOST), "submit", user)

    def _begin(self, now: float, user: str) -> None:
        self._free -= 1
        self._busy += 1
        first = self._submitted.pop(user)
        if first > WARM:
            self.waits.append(now - first)
        spread = math.log(1 + VARIATION**2)
        seconds = self._rng.lognormal(math.log(self.load.service) - spread / 2, math.sqrt(spread))
        self._at(now + seconds, "end", user)

    def _end(self, now: float, user: str) -> None:
        self._busy -= 1
        if self._busy + self._free < self._replicas:
            self._free += 1
        self._at(now + self._rng.exponential(self.load.think), "submit", user)

    def _scale(self, now: float, _: str) -> None:
        """As Ray Serve: one replica for each job that waits or is drawn."""
        wanted = min(max(len(self._queue) + self._busy, self.scaling.least), self.scaling.most)
        if wanted >= self._replicas + self._starting:
            self._idle_since = now
        for _ in range(wanted - self._replicas - self._starting):
            self._starting += 1
            self._at(now + self.scaling.start, "started", "")
        if now - self._idle_since > SCALE_DOWN_AFTER and self._free and self._replicas > wanted:
            ended = min(self._free, self._replicas - wanted)
            self._free -= ended
            self._replicas -= ended
        self._at(now + SCALE_EVERY, "scale", "")

    def _started(self, now: float, _: str) -> None:
        self._starting -= 1
        self._replicas += 1
        self._free += 1

    def row(self) -> list[str]:
        """Cells: waits at the median, 95 % and 99 %, refusals by job, and mean replicas."""
        at = [f"{np.quantile(self.waits, share):.1f}" for share in (0.5, 0.95, 0.99)]
        return [*at, f"{self.refused / max(self.jobs, 1):.2f}", f"{self.replica_seconds / (END - WARM):.0f}"]


def tables(load: Load) -> str:
    """Both tables, as Markdown."""
    needed = load.users / (load.think + load.service) * load.service
    heads = ["wait, median (s)", "95 %", "99 %", "refusals a job", "replicas, mean"]
    lines = [_line(["replicas", "of those needed", *heads]), _line(["---:"] * 7)]
    for share in (0.9, 1.0, 1.05, 1.1, 1.25, 1.5):
        count = math.ceil(needed * share)
        lines.append(
            _line([str(count), f"{share:.2f}", *Simulation(load, Scaling(least=count, most=count)).run().row()])
        )
    lines += ["", _line(["start of a replica (s)", *heads]), _line(["---:"] * 6)]
    for start in (0.0, 30.0, 120.0):
        scaling = Scaling(least=math.ceil(needed / 4), most=math.ceil(needed * 1.5), start=start)
        lines.append(_line([f"{start:.0f}", *Simulation(load, scaling).run().row()]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--think", type=float, default=600.0, help="mean seconds between a picture and the next job")
    parser.add_argument("--service", type=float, default=4.0, help="mean seconds of a job")
    print(tables(Load(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
