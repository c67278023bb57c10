"""Sequences have complete regions, sampled by the square root of their area; some are empty."""

import numpy as np
import pytest
from tiny import tiny_tokenizer

from cloisonne.methods.reco import Vocabulary, sequence
from cloisonne.scene.shapes.geometry import Box
from cloisonne.train.datasets.training_image import TrainingImage
from cloisonne.train.reco.captions import sampled_regions, sequence_ids

TOKENIZER = tiny_tokenizer(16)
V = Vocabulary.of(TOKENIZER)
PIXELS = np.zeros((8, 8, 3), np.uint8)


def boxes(count: int) -> tuple[tuple[Box, str], ...]:
    return tuple(((0.0, 0.0, (k + 1) / count, 0.5), f"{'cat ' * (k % 3)}dog") for k in range(count))


def ids_of(image: TrainingImage, seed: int = 0, *, max_regions: int = 20, empty: float = 0.0) -> list[int]:
    return sequence_ids(TOKENIZER, V, image, np.random.default_rng(seed), max_regions=max_regions, empty=empty)


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_a_sequence_is_whole_regions(count: int) -> None:
    for seed in range(10):
        ids = ids_of(TrainingImage(PIXELS, "on the beach", boxes(count)), seed)
        assert len(ids) == V.length
        positions = [V.first_bin <= i < V.first_bin + V.bins for i in ids]
        assert sum(positions) % 4 == 0
        for k in [k for k in range(4, V.length) if positions[k - 1] and not positions[k]]:
            assert ids[k] == V.start
            assert V.end in ids[k:]
            assert all(positions[k - 4 : k])
        # 77 tokens hold the caption and eight of the shortest.
        assert sum(positions) // 4 == count if count < 4 else sum(positions) // 4 >= 6


def test_at_most_so_many_regions_and_none_twice() -> None:
    regions = boxes(12)
    for seed in range(20):
        some = sampled_regions(regions, np.random.default_rng(seed), 5)
        assert len(set(some)) == len(some) == 5
        assert set(some) <= set(regions)
    assert set(sampled_regions(regions, np.random.default_rng(0), 20)) == set(regions)


def test_the_first_is_drawn_by_the_root_of_its_area() -> None:
    regions = (((0.0, 0.0, 0.9, 0.9), "large"), ((0.0, 0.0, 0.3, 0.3), "small"))
    rng = np.random.default_rng(0)
    large = [sampled_regions(regions, rng, 1)[0][1] == "large" for _ in range(4000)]
    assert np.mean(large) == pytest.approx(0.75, abs=0.02)


def test_text_is_dropped_for_each_picture_on_its_own() -> None:
    nothing, _ = sequence(TOKENIZER, "", ())
    silent = [
        ids_of(TrainingImage(PIXELS, "on the beach", boxes(2)), seed, empty=0.1) == nothing for seed in range(2000)
    ]
    assert np.mean(silent) == pytest.approx(0.1, abs=0.02)
    assert ids_of(TrainingImage(PIXELS, "on the beach", boxes(2)), empty=1.0) == nothing


def test_a_caption_that_is_too_long_loses_its_last_words() -> None:
    ids = ids_of(TrainingImage(PIXELS, "beach " * 200, boxes(1)))
    assert ids == sequence(TOKENIZER, "beach " * (V.length - 2), ())[0]
