"""The rate is that of images: scenes that fail at once do not make it faster."""

import pytest

from cloisonne.pipelines.batches.progress import Counter


def test_only_images_have_a_rate() -> None:
    counter = Counter(100)
    counter.present = 10
    for _ in range(5):
        event = counter.count("bad", error="It is refused.", images=2)
    assert (event.done, event.failed, event.rate, event.seconds_left) == (10, 10, None, None)
    assert str(event) == "10 of 100 images, 10 failed"
    assert counter.count("a").rate is None, "one image has none"
    second = counter.count("b")
    assert second.rate is not None
    assert second.seconds_left == pytest.approx((100 - 12 - 10) / second.rate)
    failed = counter.count("worse", error="It is refused.")
    assert (failed.rate, failed.done, failed.failed) == (second.rate, 12, 11)
