"""Stage of the base: a batch does not depend on the number of threads; each option has its effect."""

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloisonne.methods.reco import Vocabulary
from cloisonne.models.builtin import BUILTIN
from cloisonne.train.base.batches import Batches
from cloisonne.train.base.latents import LatentStore, cells_inside
from cloisonne.train.base.networks import build_text, build_unet, load_tokenizer
from cloisonne.train.base.recipe import BaseRecipe
from cloisonne.train.base.stage import stage
from cloisonne.train.data import TRAINING_SEEDS
from cloisonne.train.loop import Stage
from cloisonne.train.prefetch import Prefetch
from cloisonne.world.draw import draw
from cloisonne.world.glyphs import CORE
from cloisonne.world.picture import Recipe, sample

WORLD = Recipe(counts=(1, 1, 2))
COUNT = 24
WORDS = load_tokenizer(BUILTIN / "tokenizer")
SMALL = BaseRecipe(batch=4, half=0.0)


def filled(folder: Path, side: int) -> LatentStore:
    store = LatentStore(folder, WORLD, (8, side, side), COUNT)
    drawn = [draw(sample(TRAINING_SEEDS + k, WORLD), 8 * side, 8 * side) for k in range(COUNT)]
    store.append(drawn, torch.randn(COUNT, 8, side, side, generator=torch.Generator().manual_seed(side)))
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[LatentStore, LatentStore]:
    folder = tmp_path_factory.mktemp("latents")
    return filled(folder / "whole", 16), filled(folder / "half", 8)


def made(stores: tuple[LatentStore, LatentStore], recipe: BaseRecipe = SMALL, parts: int | None = 1) -> Stage:
    torch.manual_seed(0)
    text, unet = build_text(WORDS, sines=recipe.sines), build_unet()
    return stage(text, unet, WORDS, stores[0], 1.0, recipe=recipe, half=stores[1], parts=parts)


def test_threads_share_the_batch_that_one_would_see(stores) -> None:
    whole = made(stores).losses[0](5, 0.0)[1]
    parts = [loss(5, 0.0)[1] for loss in made(stores, parts=2).losses]
    assert len(parts) == 2
    assert np.mean([part["v"] for part in parts]) == pytest.approx(whole["v"], rel=1e-2)
    assert parts[0]["v"] != parts[1]["v"]


def test_steps_repeat_and_differ(stores) -> None:
    (loss,) = made(stores).losses
    torch.manual_seed(1)
    first = loss(2, 0.0)[0].item()
    torch.manual_seed(2)
    assert loss(2, 0.0)[0].item() == first
    assert loss(3, 0.0)[0].item() != first


@pytest.mark.parametrize(("batch", "threads", "parts"), [(32, 2, 2), (32, 3, 2), (6, 4, 3), (4, 16, 4), (7, 4, 1)])
def test_parts_are_equal_and_not_more_than_threads(stores, batch: int, threads: int, parts: int) -> None:
    assert len(made(stores, replace(SMALL, batch=batch), threads).losses) == parts


def seen(monkeypatch: pytest.MonkeyPatch, stores: tuple[LatentStore, LatentStore]) -> dict[str, Any]:
    """The store and the image indices of a step."""
    taken: dict[str, Any] = {}
    for store in stores:
        chosen = store.batch

        def noted(indices: np.ndarray, store: LatentStore = store, chosen: Any = chosen) -> Any:
            taken.update(store=store, indices=indices)
            return chosen(indices)

        monkeypatch.setattr(store, "batch", noted)
    return taken


def test_half_the_canvas_comes_first(stores, monkeypatch) -> None:
    taken = seen(monkeypatch, stores)
    (loss,) = made(stores, replace(SMALL, half=0.5)).losses
    for progress, store in ((0.0, stores[1]), (0.49, stores[1]), (0.5, stores[0]), (0.9, stores[0])):
        loss(1, progress)
        assert taken["store"] is store


def test_simple_pictures_come_first(stores, monkeypatch) -> None:
    taken = seen(monkeypatch, stores)
    (loss,) = made(stores, replace(SMALL, simple=0.3, batch=16)).losses
    first = {core.char for core in CORE[: len(CORE) // 2]}

    def simple(index: int) -> bool:
        items = stores[0].picture(index).items
        return len(items) == 1 and items[0].char in first

    loss(1, 0.29)
    assert all(simple(k) for k in taken["indices"])
    loss(1, 0.3)
    assert not all(simple(k) for k in taken["indices"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": 0.0}, "less"),
        ({"grounding": 0.0}, "less"),
        ({"weighting": "min-snr"}, "less"),
        ({"noisy": 0.0}, "other"),
    ],
)
def test_choices_change_the_loss(stores, change: dict[str, Any], expected: str) -> None:
    recipe = made(stores).losses[0](1, 0.0)[0].item()
    other = made(stores, replace(SMALL, **change)).losses[0](1, 0.0)[0].item()
    assert other < recipe if expected == "less" else other != recipe


def test_bins_start_as_sinusoids_by_default() -> None:
    def bins(sines: bool) -> torch.Tensor:
        torch.manual_seed(0)
        table: Any = build_text(WORDS, sines=sines).get_input_embeddings()
        v = Vocabulary.of(WORDS)
        return table.weight.detach()[v.first_bin : v.first_bin + v.bins]

    near, far = (bins(True)[0] @ bins(True)[k] for k in (1, 64))
    assert near > 2 * far, "neighbours are similar"
    near, far = (bins(False)[0] @ bins(False)[k] for k in (1, 64))
    assert near < 0.5 * bins(False)[0].square().sum()


def test_half_the_canvas_needs_its_pictures(stores) -> None:
    with pytest.raises(ValueError, match="half-sized"):
        stage(build_text(WORDS), build_unet(), WORDS, stores[0], 1.0, recipe=replace(SMALL, half=0.5))


def test_boxes_weigh_more_where_the_text_states_them(stores, monkeypatch) -> None:
    taken = seen(monkeypatch, stores)
    recipe = replace(SMALL, batch=COUNT, boxes=8.0)
    batch = Batches(store=stores[0], half=None, tokenizer=WORDS, recipe=recipe).rows(slice(None), False, False, 1)
    assert {0.0, 1.0} == set(batch.placed.tolist())
    torch.testing.assert_close(batch.weights.mean((1, 2, 3)), torch.ones(COUNT))
    for row, index in enumerate(taken["indices"]):
        boxes = stores[0].boxes(int(index))
        weights = batch.weights[row, 0]
        if not batch.placed[row]:
            assert (weights == 1).all()
        elif len(boxes) == 1:
            inside = torch.from_numpy(cells_inside(boxes[0], 16, 16))
            expected = 1 + 8 / inside.sum().sqrt()
            torch.testing.assert_close(weights[inside] / weights[~inside].max(), expected.expand(int(inside.sum())))


def test_v_is_reported_without_the_weights_of_boxes(stores) -> None:
    (plain, before), (weighted, after) = (
        made(stores, replace(SMALL, boxes=boxes)).losses[0](1, 0.0) for boxes in (0.0, 8.0)
    )
    assert after["v"] == before["v"]
    assert weighted.item() != plain.item()


@pytest.mark.slow
def test_batches_can_be_made_by_other_processes(stores) -> None:
    batches = Batches(store=stores[0], half=stores[1], tokenizer=WORDS, recipe=SMALL)
    of = partial(batches.rows, slice(None), False, False)
    here, there = of(3), Prefetch(of, workers=1)(3)
    assert all(torch.equal(getattr(here, field.name), getattr(there, field.name)) for field in fields(here))
