"""The server on an operator's cluster of two nodes: ``ray_nodes_serving.py FOLDER`` prints JSON of what happened.

It is ended while a job is drawn, started again on the same cluster, and then the replica's node is killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ray_kills import TwoNodes, set_up
from ray_serving import LONG, finished, submit
from studio_client import serving, until


def main() -> None:
    data, found = Path(sys.argv[1]) / "data", dict[str, Any]()
    set_up()
    cluster = TwoNodes(head_cpus=0)  # the replica is on the second node
    with serving(data, ray=cluster.address) as first, first.client() as client:
        jobs = [submit(client, LONG | {"seed": 1})]
        until(lambda: client.get(f"/v1/jobs/{jobs[0]}/preview").status_code == 200)
        first.process.terminate()
        found["ended"] = first.process.wait(60)
    with serving(data, ray=cluster.address) as second, second.client() as client:
        jobs.append(submit(client, LONG | {"seed": 2}))
        until(lambda: client.get(f"/v1/jobs/{jobs[0]}/preview").status_code == 200)
        os.kill(cluster.raylet(), signal.SIGKILL)
        time.sleep(2)
        cluster.repair("node")
        ended = [finished(client, job) for job in jobs]
        found["statuses"] = [job["status"] for job in ended]
        found["errors"] = [job["error"] for job in ended]
        found["pictures"] = [len(job["pictures"]) for job in ended]
    cluster.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
