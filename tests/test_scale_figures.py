"""The figures of docs/scale.md are those that the scripts print, and the simulation keeps the laws of queues."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TOP = Path(__file__).parents[1]


def script(name: str) -> Any:
    """A script of ``benchmarks`` as a module."""
    spec = importlib.util.spec_from_file_location(name, TOP / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_capacities_are_those_of_the_shapes() -> None:
    assert script("capacity").table() in (TOP / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_waits_are_those_of_the_simulation() -> None:
    simulation = script("serving_queue")
    page = (TOP / "docs" / "scale.md").read_text(encoding="utf-8")
    for table in simulation.tables(simulation.Load(users=10_000, think=600.0, service=4.0)).split("\n\n"):
        assert table in page


@pytest.mark.parametrize("replicas", [10, 19, 25])
def test_users_are_somewhere(replicas: int) -> None:
    """Little's law: users = throughput x (thinking + waiting + drawing); and replicas are busy at most all the time."""
    simulation = script("serving_queue")
    load = simulation.Load(users=300, think=60.0, service=4.0)
    run = simulation.Simulation(load, simulation.Scaling(least=replicas, most=replicas)).run()
    rate = len(run.waits) / (simulation.END - simulation.WARM)
    assert rate * load.service <= 1.03 * replicas
    assert rate * (load.think + float(np.mean(run.waits)) + load.service) == pytest.approx(load.users, rel=0.05)
    assert run.replica_seconds == pytest.approx(replicas * (simulation.END - simulation.WARM), rel=0.01)
    assert run.refused == 0


def test_a_full_queue_refuses_and_more_replicas_wait_less() -> None:
    simulation = script("serving_queue")
    load = simulation.Load(users=350, think=20.0, service=4.0)
    runs = [simulation.Simulation(load, simulation.Scaling(least=count, most=count)).run() for count in (15, 50, 70)]
    assert runs[0].refused > 0
    assert runs[-1].refused == 0
    means = [np.mean(run.waits) for run in runs]
    assert means == sorted(means, reverse=True)


def test_replicas_are_started_while_jobs_wait() -> None:
    simulation = script("serving_queue")
    load = simulation.Load(users=300, think=60.0, service=4.0)
    run = simulation.Simulation(load, simulation.Scaling(least=2, most=40, start=20.0)).run()
    used = run.replica_seconds / (simulation.END - simulation.WARM)
    assert 18 < used <= 40
    assert np.quantile(run.waits, 0.95) < 4.0
