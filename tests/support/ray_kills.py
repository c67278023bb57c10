"""Kills on a Ray cluster of two nodes: ``ray_kills.py FOLDER KILLS SEED`` prints the kills of each kind as JSON.

Both nodes are on this machine. What is killed: an actor, the process of the command, the second node's raylet.
"""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from killed_batches import PARENT, SECONDS, Targets, check_kills
from ray_batches import SimulatedRayWorker, actors, descendants, on_ray

WORKERS = 2
SECOND = {"num_cpus": 1}
"""The node that is killed: it has room for one worker, as the head."""
SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # By default a cluster takes fifteen seconds to notice that a node has ended.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "300",
    "RAY_health_check_failure_threshold": "2",
}


class TwoNodes:
    """A cluster of two nodes. head_cpus: room for workers on the head."""

    def __init__(self, head_cpus: int = 1) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": head_cpus, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self._second: Any = self._cluster.add_node(**SECOND)

    @property
    def address(self) -> str:
        return self._cluster.address

    def start(self, scenes: Path, folder: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, str(scenes), str(folder), self.address, "drive"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def targets(self, process: int) -> Targets:
        own = descendants(os.getpid())
        if not (workers := [one for one in actors() if one in own]):
            return {}
        return {"worker": workers, PARENT: [process], "node": [self.raylet()]}

    def raylet(self) -> int:
        """The process of the second node."""
        (raylet,) = self._second.all_processes["raylet"]
        return raylet.process.pid

    def repair(self, kind: str) -> None:
        if kind == "node":
            self._cluster.remove_node(self._second, allow_graceful=False)  # what is left of it
            self._second = self._cluster.add_node(**SECOND)

    def close(self) -> None:
        self._cluster.shutdown()


class SlowRayWorker(SimulatedRayWorker):
    """A worker whose images take ``SECONDS``."""

    seconds = SECONDS


def drive(scenes: str, folder: str, address: str) -> None:
    """A batch on a cluster."""
    report = on_ray(Path(scenes), Path(folder), WORKERS, address=address, worker=SlowRayWorker)
    print(report)


def set_up() -> None:
    """Settings of a cluster, for Ray, which is imported later."""
    os.environ.update(SETTINGS, RAY_AUTH_TOKEN=secrets.token_hex(32))


def main() -> None:
    folder, kills, seed = sys.argv[1:]
    set_up()
    cluster = TwoNodes()
    try:
        print(json.dumps(check_kills(Path(folder), cluster, int(kills), int(seed))))
    finally:
        cluster.close()


if __name__ == "__main__":
    drive(*sys.argv[1:4]) if sys.argv[-1] == "drive" else main()
