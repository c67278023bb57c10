"""How many jobs a second the data folder of ``cloisonne serve`` takes, with several servers at the same time.

    python benchmarks/job_store.py [--servers 2] [--jobs 500] [--steps 20] [--folder FOLDER]

Each server is a process that adds, starts and completes its jobs and saves a state of each step, without drawing
anything. Printed are jobs a second of all servers together, and the processor time of a job.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cloisonne.studio.storage.shared import SharedStore

SCENE = {"caption": "on a beach", "regions": [{"box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}]}
STATE = {"status": "running", "stage": "sampling", "step": 1, "total": 20}
PREVIEW = bytes(10_000)


def serve(folder: Path, jobs: int, steps: int) -> None:
    """The transactions of one server."""
    store = SharedStore(folder)
    for _ in range(jobs):
        job = store.add_job("client", "generate", "builtin", {"scene": SCENE, "options": {}}).id
        assert store.start(job, "cpu")
        for step in range(steps):
            store.save_state(job, step, STATE, PREVIEW)
        assert store.complete(job, {"scene": SCENE}, [])
        store.forget_state(job)
    store.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=500, help="of each server (default: 500)")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the system's temporary folder")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        SharedStore(Path(folder)).close()
        given = (Path(folder), options.jobs, options.steps)
        servers = [multiprocessing.Process(target=serve, args=given) for _ in range(options.servers)]
        began = time.perf_counter()
        for server in servers:
            server.start()
        for server in servers:
            server.join()
        seconds, jobs = time.perf_counter() - began, options.servers * options.jobs
    assert all(server.exitcode == 0 for server in servers)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = 1000 * (spent.ru_utime + spent.ru_stime) / jobs
    print(f"{jobs / seconds:.0f} jobs a second with {options.servers} servers; {processor:.2f} ms of a processor a job")


if __name__ == "__main__":
    main()
