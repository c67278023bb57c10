"""Progress of a batch: counts, rate and time left."""

import time
from collections import deque
from dataclasses import dataclass

WINDOW = 200
"""Images over which the rate is measured."""


@dataclass(frozen=True, kw_only=True)
class BatchProgress:
    """The state of a batch after an image.

    Attributes:
        done: Images that are finished, those of earlier calls included.
        failed: Images of scenes that could not be generated.
        total: Images of all scenes.
        name: Scene of the image.
        error: Why it could not be generated; None for an image that was.
        warnings: What the image does not honour, one sentence each.
        rate: Images a second, of this call, lately; None before there are two.
        seconds_left: At that rate; None where it is not known.
    """

    done: int
    failed: int
    total: int
    name: str
    error: str | None = None
    warnings: tuple[str, ...] = ()
    rate: float | None = None
    seconds_left: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.done:,} of {self.total:,} images"]
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.rate is not None:
            parts.append(f"{self.rate:.1f} a second" if self.rate >= 1 else f"{60 * self.rate:.1f} a minute")
        if self.seconds_left is not None:
            parts.append(f"{duration(self.seconds_left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Such as "2 h 05 min", "3 min 20 s" or "12 s"."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


class Counter:
    """Counts the images of a batch.

    Attributes:
        present: images of earlier calls, which are skipped.
        generated: images of this call.
        failed: images of scenes that could not be generated.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._times: deque[float] = deque(maxlen=WINDOW)
        self.present = self.generated = self.failed = 0

    def count(
        self, name: str, *, error: str | None = None, images: int = 1, warnings: tuple[str, ...] = ()
    ) -> BatchProgress:
        """Count an image, or the ``images`` of a scene that failed."""
        if error is None:
            self.generated += 1
            self._times.append(time.monotonic())
        else:
            self.failed += images
        done = self.present + self.generated
        taken = self._times[-1] - self._times[0] if self._times else 0.0
        rate = (len(self._times) - 1) / taken if taken > 0 else None
        left = None if rate is None else max(self._total - done - self.failed, 0) / rate
        return BatchProgress(
            done=done,
            failed=self.failed,
            total=self._total,
            name=name,
            error=error,
            warnings=warnings,
            rate=rate,
            seconds_left=left,
        )
