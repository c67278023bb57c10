"""The queue by models: what takes the jobs of one model, and what another server has taken."""

from hypothesis import given
from hypothesis import strategies as st

from cloisonne.studio.queue import FairQueue

JOBS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=30)


def filled(jobs: list[tuple[str, str]]) -> tuple[FairQueue, dict[str, tuple[str, str]]]:
    queue, found = FairQueue(1000, 1000), {}
    for index, (client, model) in enumerate(jobs):
        queue.add(client, job := f"{index:02}", None, model)
        found[job] = (client, model)
    return queue, found


@given(JOBS, st.lists(st.sampled_from("xyz"), max_size=40))
def test_each_model_has_its_own_jobs_in_their_order(jobs: list[tuple[str, str]], turns: list[str]) -> None:
    queue, found = filled(jobs)
    taken: list[str] = []
    for model in [*turns, *"xyz" * len(jobs)]:
        (taken.extend(one) if (one := queue.take_together(1, model)) else None)
        assert all(found[job][1] == model for job in one)
    assert sorted(taken) == sorted(found)
    for pair in set(found.values()):
        assert (own := [job for job in taken if found[job] == pair]) == sorted(own)


@given(JOBS)
def test_a_job_taken_elsewhere_is_as_one_taken_here(jobs: list[tuple[str, str]]) -> None:
    here, found = filled(jobs)
    there, _ = filled(jobs)
    taken = []
    while (job := here.take()) is not None:
        there.pass_over(job)
        taken.append(job)
        assert [here.position(one) for one in found] == [there.position(one) for one in found]
        assert job not in there
    assert sorted(taken) == sorted(found)


def test_a_job_that_comes_back_is_the_first_of_its_client() -> None:
    queue, _ = filled([("a", "x"), ("a", "x"), ("b", "x")])
    job = queue.take()
    assert job == "00"
    queue.add("a", job, None, "x", first=True)
    assert [queue.take(), queue.take(), queue.take()] == ["02", "00", "01"]
