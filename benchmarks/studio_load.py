"""Load on the studio: clients that submit jobs at the same time, watch them, and the time of requests meanwhile.

``python benchmarks/studio_load.py [--clients 50] [--jobs 500]`` starts a server with the built-in family and prints a
report as JSON: no lost and no doubled job, times of requests while jobs are drawn, and memory of both processes. The
times are those of a process of its own, since the clients of the load wait for one another.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx

SCENE = {"caption": "on a beach", "width": 64, "height": 64, "steps": 1}


def scene(number: int) -> dict[str, Any]:
    region = {"name": "thing", "box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}
    return SCENE | {"seed": number, "steps": 1 + number % 2, "regions": [region]}


async def client_of(url: str, token: str, name: str, numbers: list[int], tried: Counter[str]) -> list[dict]:
    """Submit jobs, waiting where the server asks for it; watch half of them, poll the others. Returns the jobs."""
    headers = {"authorization": f"Bearer {token}", "cloisonne-client": name}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as client:

        async def submitted(number: int) -> str:
            while True:
                answer = await client.post("/v1/jobs", json={"verb": "generate", "scene": scene(number)})
                tried[str(answer.status_code)] += 1
                if answer.status_code == 202:
                    return answer.json()["id"]
                assert answer.status_code == 503, answer.text
                await asyncio.sleep(float(answer.headers["retry-after"]))

        async def ended(number: int, job: str) -> dict[str, Any]:
            if number % 2:
                async with client.stream("GET", f"/v1/jobs/{job}/events") as lines:
                    async for _ in lines.aiter_lines():
                        pass
            while (found := (await client.get(f"/v1/jobs/{job}")).json())["status"] in ("queued", "running"):
                await asyncio.sleep(2)
            return found

        jobs = [await submitted(number) for number in numbers]
        return list(await asyncio.gather(*map(ended, numbers, jobs)))


def probe(url: str, token: str) -> None:
    """Ask for the status and the newest jobs, ten times a second, until the input ends; print the times."""
    times: list[float] = []
    ending = threading.Thread(target=sys.stdin.read, daemon=True)
    ending.start()
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        while ending.is_alive():
            began = time.perf_counter()
            client.get("/v1/jobs?limit=10" if len(times) % 2 else "/v1/status").raise_for_status()
            times.append(time.perf_counter() - began)
            time.sleep(0.1)
    times.sort()
    at = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    print(
        json.dumps({"requests": len(times)} | {n: round(1000 * times[int(len(times) * f)], 1) for n, f in at.items()})
    )


def memory(pid: int) -> float:
    """Resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


async def load(url: str, token: str, clients: int, jobs: int, pids: list[int]) -> dict[str, Any]:
    """Put the load on a server, and report."""
    tried: Counter[str] = Counter()
    peak = [memory(pid) for pid in pids]
    begin = list(peak)

    async def sampled() -> None:
        while True:
            peak[:] = [max(before, memory(pid)) for before, pid in zip(peak, pids, strict=True)]
            await asyncio.sleep(0.2)

    sampling = asyncio.create_task(sampled())
    command = (sys.executable, __file__, "--probe", url, token)
    probing = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    began = time.perf_counter()
    shares = [list(range(index, jobs, clients)) for index in range(clients)]
    work = [client_of(url, token, f"client-{index}", own, tried) for index, own in enumerate(shares)]
    found = [job for own in await asyncio.gather(*work) for job in own]
    seconds = time.perf_counter() - began
    sampling.cancel()
    answers, _ = await probing.communicate(b"")
    async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=60) as client:
        listed, before, own = [], "", {job["id"] for job in found}
        while page := (await client.get(f"/v1/jobs?limit=200{before}")).json()["jobs"]:
            listed += [job for job in page if job["id"] in own]
            before = f"&before={page[-1]['number']}"
    seeds = Counter(job["report"]["scene"]["seed"] for job in listed if job["report"])
    return {
        "clients": clients,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "statuses": dict(Counter(job["status"] for job in found)),
        "answers": dict(tried),
        "listed": len(listed),
        "lost": sorted(set(range(jobs)) - set(seeds)),
        "doubled": sorted(seed for seed, count in seeds.items() if count > 1),
        "pictures_per_job": dict(Counter(len(job["pictures"]) for job in listed)),
        "probe": json.loads(answers),
        "memory_mib": {"at first": [round(one) for one in begin], "largest": [round(one) for one in peak]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--probe", nargs=2, metavar=("URL", "TOKEN"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.probe:
        probe(*asked.probe)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cloisonne", "studio", "--port", "0", "--no-browser", "--data", folder]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"(http://[^/]+)/#token=(\S+)\n", process.stdout.readline())
            assert found is not None
            with httpx.Client(base_url=found[1], headers={"authorization": f"Bearer {found[2]}"}, timeout=60) as client:
                while client.get("/v1/status").json()["devices"][0]["state"] != "ready":
                    time.sleep(0.2)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            report = asyncio.run(
                load(found[1], found[2], asked.clients, asked.jobs, [process.pid, *map(int, children)])
            )
        finally:
            process.terminate()
            process.wait()
    print(json.dumps(report, indent=1))
    assert not report["lost"]
    assert not report["doubled"]


if __name__ == "__main__":
    main()
