"""The queue of waiting jobs: bounded, and fair by client."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager


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
        self._reserved: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._client_of)

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

    def add(self, client: str, job: str) -> None:
        """Append a job to its client's."""
        self._lines.setdefault(client, deque()).append(job)
        self._client_of[job] = client

    def take(self) -> str | None:
        """Remove and return the next job, or None if there is none."""
        if not self._lines:
            return None
        client, line = next(iter(self._lines.items()))
        job = line.popleft()
        del self._client_of[job]
        del self._lines[client]
        if line:
            self._lines[client] = line  # to the end
        return job

    def remove(self, job: str) -> bool:
        """Remove a job; False if it is not waiting."""
        client = self._client_of.pop(job, None)
        if client is None:
            return False
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
