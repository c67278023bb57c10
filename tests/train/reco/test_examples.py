"""An example follows from the seed and its position, whoever makes it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_tokenizer

from cloisonne.errors import ImageError
from cloisonne.train.datasets.coco import CocoDataset
from cloisonne.train.datasets.training_image import ImageDataset
from cloisonne.train.datasets.world import WorldDataset
from cloisonne.train.engine.examples import Batch, Canvas, PositionSampler, batches
from cloisonne.train.reco.examples import ReCoExamples
from cloisonne.train.reco.settings import Settings

CPU = torch.device("cpu")
CANVAS = Canvas(size=64, latent=(4, 8, 8), levels=1000)
Quick = Callable[..., Settings]


def examples(settings: Settings, dataset: ImageDataset | None = None) -> ReCoExamples:
    return ReCoExamples(dataset or CocoDataset(Path(settings.data)), settings, tiny_tokenizer(16), CANVAS)


def equal(a: object, b: object) -> bool:
    assert isinstance(a, dict)
    assert isinstance(b, dict)
    return all(torch.equal(a[name], b[name]) for name in a)


def test_shapes_and_ranges(quick: Quick) -> None:
    example = examples(quick())[3]
    assert isinstance(example, dict)
    shapes = {name: tuple(values.shape) for name, values in example.items()}
    assert shapes == {"pixels": (3, 64, 64), "ids": (77,), "t": (), "noise": (4, 8, 8), "posterior": (4, 8, 8)}
    assert -1 <= float(example["pixels"].min()) < float(example["pixels"].max()) <= 1


def test_an_example_is_its_position(quick: Quick) -> None:
    first, again = examples(quick()), examples(quick(train_batch_size=7))
    torch.manual_seed(5)
    for position in (0, 5, 6, 100):
        assert equal(first[position], again[position])
    other = examples(quick(seed=1))
    assert not equal(first[5], other[5])
    assert not equal(first[5], first[6])


def test_levels_are_uniform(quick: Quick) -> None:
    made = examples(quick())
    t = torch.stack([made[k]["t"] for k in range(400)]).float()  # type: ignore[index]
    assert float(t.mean()) == pytest.approx(500, abs=50)
    assert float(t.max()) > 970
    assert float(t.min()) < 30


def test_every_epoch_shows_every_picture_once_in_another_order(quick: Quick) -> None:
    made = examples(quick())
    assert len(made) == 6
    orders = [tuple(made.index(6 * epoch + k) for k in range(6)) for epoch in range(5)]
    assert all(sorted(order) == list(range(6)) for order in orders)
    assert len(set(orders)) > 2


def test_some_of_the_pictures(quick: Quick) -> None:
    made = examples(quick(max_train_samples=2))
    counts = Counter(made.index(k) for k in range(20))
    assert sorted(counts.values()) == [10, 10]
    assert len(examples(quick(max_train_samples=50))) == 6


def test_processes_share_out_what_one_would_do(quick: Quick) -> None:
    one = quick(train_batch_size=4, gradient_accumulation_steps=2)
    two = quick(train_batch_size=2, gradient_accumulation_steps=2)
    whole = [p for batch in PositionSampler(one, rank=0, world=1, first=3, last=5) for p in batch]
    shares = [list(PositionSampler(two, rank=rank, world=2, first=3, last=5)) for rank in (0, 1)]
    assert whole == list(range(24, 40))
    assert [p for pair in zip(*shares, strict=True) for batch in pair for p in batch] == whole
    assert len(PositionSampler(two, rank=0, world=2, first=3, last=5)) == 4


def test_batches_are_stacked(quick: Quick) -> None:
    settings = quick()
    made = examples(settings)
    stream: list[Batch] = list(batches(made, PositionSampler(settings, rank=0, world=1, first=0, last=2), 0, CPU))
    assert [tuple(batch["pixels"].shape) for batch in stream] == [(2, 3, 64, 64)] * 2
    example = made[3]
    assert isinstance(example, dict)
    assert torch.equal(stream[1]["ids"][1], example["ids"])


def test_a_picture_that_cannot_be_read_is_a_sentence(quick: Quick, tmp_path: Path, pictures: Path) -> None:
    for file in pictures.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes() if file.suffix == ".json" else b"")
    settings = quick(data=str(tmp_path))
    with pytest.raises(ImageError, match="training image"):
        list(batches(examples(settings), PositionSampler(settings, rank=0, world=1, first=0, last=1), 0, CPU))


def test_pictures_of_the_world(quick: Quick) -> None:
    made = examples(quick(data="world"), WorldDataset(64))
    assert len(made) == 40_000
    assert equal(made[7], made[7])
    example = made[7]
    assert isinstance(example, dict)
    assert tuple(example["pixels"].shape) == (3, 64, 64)
