"""Two threads on one model give the bytes that each gives alone, whatever either of them does."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cloisonne.models.model import Model
from cloisonne.models.text.encoder import TextEncoder
from cloisonne.models.text.learned_concept import encode_concept
from cloisonne.pipelines.attention_maps.overlay import attention_pictures
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


class Meeting:
    """Two threads wait for each other before and after every forward of some modules, until one is done or waits for
    the other elsewhere."""

    def __init__(self, *modules: nn.Module) -> None:
        self._barrier = threading.Barrier(2)
        self._modules = modules

    def _meet(self, *_: Any) -> None:
        try:
            self._barrier.wait(timeout=2)
        except threading.BrokenBarrierError:
            return

    def of(self, *works: Callable[[], bytes]) -> list[bytes]:
        """What two pieces of work give side by side."""
        with ExitStack() as hooks, ThreadPoolExecutor(2) as threads:
            for module in self._modules:
                for register in (module.register_forward_pre_hook, module.register_forward_hook):
                    hooks.callback(register(self._meet).remove)
            return [done.result() for done in [threads.submit(self._done, work) for work in works]]

    def _done(self, work: Callable[[], bytes]) -> bytes:
        try:
            return work()
        finally:
            self._barrier.abort()


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


def drawn(model: Model, seed: int, **fields: Any) -> bytes:
    regions = (
        Region(name="cat", box=(0.0, 0.1, 0.6, 0.9), phrase="a cat", stop=0.5),
        Region(name="car", ellipse=(0.3, 0.2, 1.0, 0.8), phrase="a red car", strict=True),
    )
    defaults = {"caption": "on the beach", "seed": seed, "steps": 4, "regions": regions}
    return generate(Scene(**{**defaults, **fields}), model, output_type="latent").latents.numpy().tobytes()


def translated(model: Model) -> bytes:
    region = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), concept=photo(1))
    way = {"preset": "learned", "rounds": 3, "batch": 1}
    return drawn(model, 1, background=photo(0), regions=(region,), caption="", translating=way)


def edited(model: Model) -> bytes:
    hat = Region(name="hat", box=(0.3, 0.2, 0.9, 0.8), edit={"kind": "change", "from": "a red hat", "to": "a hat"})
    made = edit(Scene(caption="on the beach", seed=2, steps=4, regions=(hat,)), model, preset="p2p")
    return made.named["before"].tobytes() + made.image.tobytes()


def explained(model: Model) -> bytes:
    return str(explain(Scene(caption="on the beach", seed=5, steps=3), model)).encode()


def looked(model: Model) -> bytes:
    cat = Region(name="cat", box=(0.0, 0.1, 0.6, 0.9), phrase="a cat")
    seen = attention_pictures(Scene(caption="on the beach", seed=6, steps=4, regions=(cat,)), model)
    return seen.result.latents.numpy().tobytes() + b"".join(m.numpy().tobytes() for m in seen.maps["cat"].values())


WORKS: dict[str, Callable[[Model], bytes]] = {
    "translate": translated,
    "edit": edited,
    "explain": explained,
    "attention": looked,
    "reco": lambda model: drawn(model, 3, method="reco"),
    "multidiffusion": lambda model: drawn(model, 4, method="multidiffusion"),
}


@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(WORKS, 2)))
def test_side_by_side_is_one_after_the_other(tiny: Model, one: str, other: str) -> None:
    works = [lambda: WORKS[one](tiny), lambda: WORKS[other](tiny)]
    serial = [work() for work in works]
    modules = [tiny.net.unet.up_blocks[0], tiny.text.modules[0].get_input_embeddings()]
    for met in ([module] for module in modules):
        assert Meeting(*met).of(*works) == serial


def test_a_concept_stands_in_its_own_text_alone(tiny: Model) -> None:
    text: Any = tiny.text
    vectors = torch.randn(3, text.width)

    def learned() -> bytes:
        with torch.no_grad():
            return encode_concept(text, vectors)[0].numpy().tobytes()

    def words() -> bytes:
        return text.encode(text.ids("a red car")).numpy().tobytes()

    serial = [learned(), words()]
    assert serial == Meeting(text.module).of(learned, words)
    assert words() == serial[1]


@pytest.mark.parametrize("words", ["", "a cat", "a cat on the beach"])
def test_reading_words_leaves_the_tokenizer_as_it_was(tiny: Model, words: str) -> None:
    """A tokenizer that every call sets anew breaks off or misreads what another thread tokenizes meanwhile."""
    text = tiny.text
    assert isinstance(text, TextEncoder)
    state: Any = text.tokenizer.backend_tokenizer
    before = (state.padding, state.truncation)
    ids = text.ids(words)
    assert (state.padding, state.truncation) == before
    other = copy.deepcopy(text.tokenizer)
    assert ids == other(words, padding="max_length", max_length=text.length).input_ids
    text.words(words)
    assert (state.padding, state.truncation) == before
