"""The queue of waiting jobs: bounded, fair by client, and with those together that share their forward passes."""

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from cloisonne.studio.storage.store import Job

FIELDS = ("width", "height", "steps", "sampler", "spacing", "eta", "background")
"""Fields of a scene whose equality makes equal latent sizes, steps and samplers likely."""
ALONE = ("edit", "concept")
"""Conditions of a region that start from an inversion."""


class QueueFull(Exception):
    """No more jobs are accepted at the moment."""


class FairQueue:
    """Ids of waiting jobs. Clients take turns; the jobs of one client keep their order.

    Args:
        limit: largest number of jobs.
        per_client: largest number of jobs of one client.
    """

    def __init__(self, limit: int, per_client: int) -> None:
        self._limit = limit
        self._per_client = per_client
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()
        self._client_of: dict[str, str] = {}
        self._keys: dict[str, Hashable] = {}
        self._models: dict[str, str | None] = {}
        self._reserved: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._client_of)

    def __contains__(self, job: str) -> bool:
        return job in self._client_of

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold a place for a job that is being accepted; :meth:`add` it before the context ends. Raises QueueFull."""
        if len(self) + self._reserved.total() >= self._limit:
            raise QueueFull(f"{len(self)} jobs are waiting, the most that this server accepts; try again later.")
        if len(self._lines.get(client, ())) + self._reserved[client] >= self._per_client:
            raise QueueFull(f"You have {self._per_client} waiting jobs, the most of one client; try again later.")
        self._reserved[client] += 1
        try:
            yield
        finally:
            self._reserved[client] -= 1
            self._reserved += Counter()  # without clients that hold none

    def add(
        self, client: str, job: str, key: Hashable = None, model: str | None = None, *, first: bool = False
    ) -> None:
        """Append a job to its client's, or put it before them.

        key: equal for jobs that may be drawn together; None for one drawn alone. model: name of its model.
        """
        line = self._lines.setdefault(client, deque())
        line.appendleft(job) if first else line.append(job)
        self._client_of[job] = client
        self._keys[job] = key
        self._models[job] = model

    def take(self) -> str | None:
        """Remove and return the next job, or None if there is none."""
        jobs = self.take_together(1)
        return jobs[0] if jobs else None

    def take_together(self, most: int, model: str | None = None) -> list[str]:
        """Remove and return the next job, and up to ``most`` - 1 others of its key, or nothing if there is none.

        Clients take turns here too, and no job overtakes another one of its client. With ``model``, only the jobs of
        that model count.
        """
        taken: list[str] = []
        wanted: Hashable = None
        clients = deque(self._lines)
        while clients and len(taken) < most:
            client = clients.popleft()
            job = next((one for one in self._lines[client] if model in (None, self._models[one])), None)
            if job is None:
                continue
            key = self._keys[job]
            if not taken:
                wanted = key
            elif key is None or key != wanted:
                continue
            taken.append(job)
            self.pass_over(job)
            if client in self._lines:
                clients.append(client)
            if wanted is None:
                break
        return taken

    def pass_over(self, job: str) -> None:
        """Remove a job that is taken, here or by another server; its client's turn is the last then."""
        client = self._client_of[job]
        self.remove(job)
        if client in self._lines:
            self._lines.move_to_end(client)

    def remove(self, job: str) -> bool:
        """Remove a job; False if it is not waiting."""
        client = self._client_of.pop(job, None)
        if client is None:
            return False
        del self._keys[job], self._models[job]
        line = self._lines[client]
        line.remove(job)
        if not line:
            del self._lines[client]
        return True

    def position(self, job: str) -> int | None:
        """Number of jobs that are taken before this one, if no others come; None if it is not waiting."""
        client = self._client_of.get(job)
        if client is None:
            return None
        own, clients = self._lines[client].index(job), list(self._lines)
        turn = clients.index(client)
        return own + sum(
            min(len(self._lines[other]), own + (index < turn)) for index, other in enumerate(clients) if other != client
        )

    def waiting(self) -> list[str]:
        """All waiting jobs, in no particular order."""
        return list(self._client_of)


def batch_key(job: Job) -> Hashable:
    """Equal for jobs that may share their forward passes; None for a job that is drawn alone.

    The worker groups the scenes of such jobs once more, by what they are resolved to.
    """
    scene = job.request.get("scene") or {}
    if job.verb not in ("generate", "inpaint") or any(_is_alone(region) for region in scene.get("regions") or ()):
        return None
    count = job.request.get("options", {}).get("num_images", 1)
    return (job.model, count, *(repr(scene.get(name)) for name in FIELDS))


def _is_alone(region: Any) -> bool:
    return isinstance(region, Mapping) and any(region.get(name) for name in ALONE)
