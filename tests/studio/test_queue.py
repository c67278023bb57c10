"""The queue loses nothing, keeps each client's order, and lets clients take turns."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloisonne.studio.queue import FairQueue, QueueFull

CLIENTS = st.lists(st.sampled_from("abcd"), max_size=30)


def filled(clients: list[str]) -> tuple[FairQueue, list[tuple[str, str]]]:
    queue, jobs = FairQueue(1000, 1000), [(client, f"{client}{index}") for index, client in enumerate(clients)]
    for client, job in jobs:
        queue.add(client, job)
    return queue, jobs


@given(CLIENTS)
def test_every_job_comes_once_and_clients_keep_their_order(clients: list[str]) -> None:
    queue, jobs = filled(clients)
    taken = [queue.take() for _ in jobs]
    assert queue.take() is None
    assert len(queue) == 0
    for client in set(clients):
        assert [job for job in taken if job and job[0] == client] == [job for own, job in jobs if own == client]


@given(CLIENTS)
def test_clients_take_turns(clients: list[str]) -> None:
    """While two clients wait, neither is ever two jobs ahead of the other."""
    queue, _ = filled(clients)
    left, served = Counter(clients), Counter()
    while (job := queue.take()) is not None:
        waiting = [client for client in left if left[client]]
        served[job[0]] += 1
        left[job[0]] -= 1
        assert max(served[client] for client in waiting) - min(served[client] for client in waiting) <= 1


@given(CLIENTS, st.lists(st.integers(0, 29)))
def test_a_position_is_the_number_of_jobs_before(clients: list[str], removed: list[int]) -> None:
    queue, jobs = filled(clients)
    for index in removed:
        job = jobs[index][1] if index < len(jobs) else "none"
        there = queue.position(job) is not None
        assert queue.remove(job) is there
    positions = {job: queue.position(job) for _, job in jobs}
    taken = []
    while (job := queue.take()) is not None:
        taken.append(job)
    assert {job: taken.index(job) if job in taken else None for _, job in jobs} == positions


def test_places_are_bounded_while_jobs_are_being_accepted() -> None:
    queue = FairQueue(3, 2)
    with queue.place("a"), queue.place("a"):
        with pytest.raises(QueueFull, match="most of one client"), queue.place("a"):
            pass
        with queue.place("b"):
            with pytest.raises(QueueFull, match="most that this server"), queue.place("c"):
                pass
            queue.add("b", "b1")
        with pytest.raises(QueueFull), queue.place("c"):
            pass
    with queue.place("c"):
        assert len(queue) == 1


KEYED = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([None, "x", "y"])), max_size=30)


@given(KEYED, st.integers(1, 5))
def test_jobs_of_one_key_come_together(jobs: list[tuple[str, str | None]], most: int) -> None:
    """All of them come once, clients keep their order, and each first one is that which would come alone."""
    queue, keys = FairQueue(1000, 1000), dict[str, str | None]()
    for index, (client, key) in enumerate(jobs):
        queue.add(client, name := f"{client}{index}", key)
        keys[name] = key
    taken = []
    while waiting := queue.waiting():
        first = next(job for job in waiting if queue.position(job) == 0)
        together = queue.take_together(most)
        assert together[0] == first
        assert len({keys[job] for job in together}) == 1
        assert len(together) <= (1 if keys[first] is None else most)
        taken += together
    assert sorted(taken) == sorted(keys)
    for client in "abc":
        assert [job for job in taken if job[0] == client] == [job for job in keys if job[0] == client]
    assert queue.take_together(most) == []


def test_all_clients_join_a_batch_before_one_joins_twice() -> None:
    queue = FairQueue(10, 10)
    for client, job, key in (("a", "a0", "x"), ("a", "a1", "x"), ("b", "b0", "y"), ("b", "b1", "x"), ("c", "c0", "x")):
        queue.add(client, job, key)
    assert queue.take_together(3) == ["a0", "c0", "a1"]
    assert queue.take_together(3) == ["b0"]
    assert queue.take_together(3) == ["b1"]
