"""Encoded texts are kept across calls, within a bound, and never outlive the weights they came from."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch

from cloisonne.core.plan import Conditioning
from cloisonne.methods.encoder import encode_together
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.cache import TextCache
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.models.text.encoder import EncodedText
from cloisonne.models.text.replaced_embeddings import replacing_embeddings
from cloisonne.pipelines.api import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.scene import Scene


@pytest.fixture
def model(tiny_sd: Path) -> Model:
    return load(tiny_sd)


@contextmanager
def counted(model: Model) -> Iterator[list[int]]:
    """The batch rows of each forward of the first text encoder."""
    rows: list[int] = []
    module: Any = model.text.modules[0]
    handle = module.register_forward_hook(lambda module, args, out: rows.append(len(out.last_hidden_state)))
    yield rows
    handle.remove()


def scene(*phrases: str) -> dict[str, Any]:
    regions = [{"phrase": phrase, "box": [i / 4, 0, (i + 1) / 4, 1]} for i, phrase in enumerate(phrases)]
    return {"caption": "a table", "regions": regions, "steps": 1, "seed": 1, "method": "attention"}


def test_a_second_call_encodes_only_what_changed(model: Model) -> None:
    with counted(model) as rows:
        generate(scene("a cat", "a dog"), model)
        assert sum(rows) > 0
        rows.clear()
        generate(scene("a cat", "a dog"), model)
        assert sum(rows) == 0
        generate(scene("a cat", "a cup"), model)
        assert sum(rows) == 1


def test_a_kept_text_is_what_the_encoder_returns(model: Model, tiny_sd: Path) -> None:
    text = pieces("a (red:1.3) cat")
    first, again = model.text.encode(text), model.text.encode(text)
    fresh = load(tiny_sd).text.encode(text)
    assert torch.equal(first.tokens, again.tokens)
    assert torch.equal(first.tokens, fresh.tokens)


def test_changed_weights_encode_anew(model: Model) -> None:
    before = model.text.encode(pieces("a cat")).tokens
    with torch.no_grad():
        next(model.text.modules[0].parameters()).add_(1.0)
    assert not torch.equal(model.text.encode(pieces("a cat")).tokens, before)


def test_replaced_embeddings_are_not_kept(model: Model) -> None:
    plain = model.text.encode(pieces("a cat")).tokens
    assert isinstance(model.text, ClipTextEncoder)
    with replacing_embeddings(torch.ones(1, model.text.module.config.hidden_size)):
        replaced = model.text.encode(pieces("a cat")).tokens
    assert not torch.equal(replaced, plain)
    assert torch.equal(model.text.encode(pieces("a cat")).tokens, plain)


def text_of(size: int) -> EncodedText:
    return EncodedText(tokens=torch.zeros(size, 1))


def test_the_least_recently_used_leave_first() -> None:
    cache = TextCache((), bound=3 * 40)
    for key in "abc":
        cache.get(key, lambda: text_of(10))
    cache.get("a", lambda: pytest.fail("it is kept"))
    cache.get("d", lambda: text_of(10))
    assert len(cache) == 3
    cache.get("a", lambda: pytest.fail("it is kept"))
    made: list[str] = []
    cache.get("b", lambda: made.append("b") or text_of(10))  # type: ignore[func-returns-value]
    assert made == ["b"]


def test_a_text_above_the_bound_is_returned_and_not_kept() -> None:
    cache = TextCache((), bound=8)
    assert len(cache.get("a", lambda: text_of(10)).tokens) == 10
    assert len(cache) == 0


def test_threads_share_a_cache_within_its_bound() -> None:
    cache = TextCache((), bound=200)

    def use(offset: int) -> None:
        for i in range(500):
            number = (i * 7 + offset) % 20
            assert cache.get(number, lambda number=number: text_of(number + 1)).tokens.shape[0] == number + 1

    threads = [Thread(target=use, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(text.tokens) * 4 for text in cache._kept.values()) == cache._size <= 200


@pytest.mark.parametrize("method", ["attention", "bounded"])
@pytest.mark.parametrize("family", ["tiny_sd", "tiny_xl"])
def test_the_texts_of_a_scene_are_one_batch_each_as_alone(
    request: pytest.FixtureRequest, family: str, method: str
) -> None:
    folder: Path = request.getfixturevalue(family)
    together, alone = load(folder), load(folder)
    asked = Scene(**{**scene("a cat", "a (red:1.3) dog"), "negative": "a cup", "guidance": 3.0, "method": method})
    with counted(together) as rows:
        encode_together(asked, together, lambda: prepare(asked, together, blank=True))
        assert len(rows) == 1
        prepared = prepare(asked, together)
        encode_together(asked, together, lambda: pytest.fail("the scene was collected before"))
        assert len(rows) == 1
    with counted(alone) as rows:
        expected = prepare(asked, alone)
        assert rows == [1] * len(rows)
    for found, own in zip(prepared.compiled.plan.views, expected.compiled.plan.views, strict=True):
        for branch in ("cond", "null"):
            one, other = found.branches[branch], own.branches[branch]
            assert isinstance(one, Conditioning)
            assert isinstance(other, Conditioning)
            for piece, same in zip(one.tokens, other.tokens, strict=True):
                torch.testing.assert_close(piece.value, same.value, atol=1e-5, rtol=1e-5)
