"""Several workers, each watched by a thread, that share one queue of requests."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator

from cloisonne.pipelines.batches.manifest import Maker
from cloisonne.pipelines.batches.requests import Failure, Generated, ImageRequest, Worker, WorkerEnded

ATTEMPTS = 3
"""Workers that may end with a request, or at their start, before it is given up."""

GROUP = 8
"""Requests that a worker on a GPU takes at once; as many as share forward passes."""

Outcome = Generated | Failure
Wanted = Callable[[Maker], Iterator[ImageRequest | Failure]]
"""Makes the iterator of requests once it is known what answers them."""


class WorkersEnded(RuntimeError):
    """Workers end whenever they are started."""


class Pool:
    """Workers and the requests that they share.

    Args:
        workers: closed when the pool is.
        wanted: gives the requests, when the first model is loaded. Its iterator is used by one thread at a time.
    """

    def __init__(self, workers: list[Worker], wanted: Wanted) -> None:
        self._workers = workers
        self._wanted = wanted
        self._requests: Iterator[ImageRequest | Failure] | None = None
        self._taking = threading.Lock()
        self._stopped = threading.Event()
        self._opening: set[Worker] = set()
        self._drained = False
        self._returned: deque[ImageRequest] = deque()
        self._ended: WorkersEnded | None = None
        self._outcomes: queue.Queue[Outcome | BaseException | None] = queue.Queue(2 * len(workers))

    def outcomes(self) -> Generator[Outcome]:
        """What becomes of each request, in the order in which they finish; ends the workers when it is closed.

        Raises CloisonneError where a model is refused or the requests cannot be made, WorkersEnded where no worker
        starts any more.
        """
        threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in self._workers]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running:
                outcome = self._outcomes.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome is None:
                    running -= 1
                else:
                    yield outcome
            if self._ended is not None and (self._returned or not self._drained):
                raise self._ended
        finally:
            self._stopped.set()
            while any(thread.is_alive() for thread in threads):
                for worker in self._workers:
                    worker.kill()
                while not self._outcomes.empty():
                    self._outcomes.get_nowait()
                for thread in threads:
                    thread.join(0.02)

    def _run(self, worker: Worker) -> None:
        """Answer requests with a worker until there are none."""
        try:
            if (maker := self._first(worker)) is None:
                return
            while not self._stopped.is_set() and (group := self._take(maker)):
                maker = self._answer(worker, maker, group)
        except WorkersEnded as ended:
            self._ended = ended  # the others go on
        except BaseException as error:
            self._outcomes.put(error)
        finally:
            worker.close()
            self._outcomes.put(None)

    def _first(self, worker: Worker) -> Maker | None:
        """Open a worker; None where no requests are left when it is ready, or before."""
        self._opening.add(worker)
        try:
            return self._open(worker)
        except WorkersEnded:
            if not self._drained:
                raise
            return None
        finally:
            self._opening.discard(worker)

    def _open(self, worker: Worker) -> Maker:
        for attempt in range(ATTEMPTS):
            if self._stopped.is_set() or (self._drained and worker in self._opening):
                break
            try:
                return worker.open()
            except WorkerEnded as ended:
                if attempt == ATTEMPTS - 1:
                    raise WorkersEnded(
                        f"A worker ended {ATTEMPTS} times while it loaded the model ({ended}); it may need more memory "
                        "than there is."
                    ) from None
        raise WorkersEnded("The run was stopped.")

    def _take(self, maker: Maker) -> list[ImageRequest]:
        """The next requests: on a CPU one, on a GPU those that may share forward passes."""
        with self._taking:
            if self._requests is None:
                self._requests = self._wanted(maker)
            group: list[ImageRequest] = []
            while len(group) < (1 if maker.on_cpu else GROUP):
                found = self._returned.popleft() if self._returned else next(self._requests, None)
                if found is None:
                    self._drained = True
                    for other in tuple(self._opening):
                        other.kill()
                if found is None or self._stopped.is_set():
                    break
                if isinstance(found, Failure):
                    self._outcomes.put(found)
                else:
                    group.append(found)
            return group

    def _answer(self, worker: Worker, maker: Maker, group: list[ImageRequest]) -> Maker:
        """Answer a group; requests during which the worker ended are repeated alone. Returns what now answers."""
        left = group
        for attempt in range(ATTEMPTS):
            parts = [left] if attempt == 0 else [[one] for one in left]
            left = []
            for place, part in enumerate(parts):
                answered = 0
                try:
                    for request, (message, png) in zip(part, worker.generate(part), strict=True):
                        self._outcomes.put(_outcome(request, maker, message, png))
                        answered += 1
                except WorkerEnded as ended:
                    if self._stopped.is_set():
                        return maker
                    left += part[answered:]
                    reason = str(ended)
                    try:
                        maker = self._open(worker)
                    except WorkersEnded:
                        self._returned.extend([*left, *(one for other in parts[place + 1 :] for one in other)])
                        raise
            if not left:
                return maker
        for request in left:
            error = f"The process that generated it ended {ATTEMPTS} times ({reason}); it may need more memory."
            self._outcomes.put(Failure(name=request.name, error=error))
        return maker


def _outcome(request: ImageRequest, maker: Maker, message: dict[str, object], png: bytes) -> Outcome:
    if "error" in message:
        return Failure(name=request.name, error=str(message["error"]))
    return Generated(request=request, maker=maker, about=message, png=png)
