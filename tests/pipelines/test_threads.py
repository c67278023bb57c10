"""Threads on one model give the bytes that each gives alone, whatever the others do."""

import copy
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import pytest
import torch
from controlled import SD1, beside, photo
from lora_files import lora_weights, peft_file
from meeting import Meeting
from tiny import write_checkpoint, write_exemplar

from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.errors import Cancelled
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.cache import TextCache
from cloisonne.models.text.clip import ClipTextEncoder
from cloisonne.models.text.learned_concept import encode_concept
from cloisonne.pipelines.attention_maps.overlay import attention_pictures
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.sweep import sweep
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

Work = Callable[[Model], bytes]
builtin = pytest.mark.skipif(not (BUILTIN / "model_index.json").is_file(), reason="the built-in family is not there")
CAT = Region(name="cat", box=(0.0, 0.1, 0.6, 0.9), phrase="a cat", stop=0.5)
CAR = Region(name="car", ellipse=(0.3, 0.2, 1.0, 0.8), phrase="a red car", strict=True)
HAT = Region(name="hat", box=(0.3, 0.2, 0.9, 0.8), edit={"kind": "change", "from": "a red hat", "to": "a hat"})
ALL = (0.0, 0.0, 1.0, 1.0)


def scene(seed: int, **fields: Any) -> Scene:
    return Scene(**{"caption": "on the beach", "seed": seed, "steps": 3, "regions": (CAT, CAR)} | fields)


def drawn(seed: int, **fields: Any) -> Work:
    return lambda model: generate(scene(seed, **fields), model, output_type="latent").latents.numpy().tobytes()


def translated(seed: int, **way: Any) -> Work:
    region = Region(name="all", box=ALL, concept=photo(1))
    return drawn(seed, background=photo(0), regions=(region,), caption="", translating=way)


def edited(seed: int, preset: str, *, background: Any = None, steps: int = 3, **changes: Any) -> Work:
    def work(model: Model) -> bytes:
        given = scene(seed, background=background, regions=(HAT,), steps=steps)
        made = edit(given, model, preset=preset, **changes)
        return made.named["before"].tobytes() + made.image.tobytes()

    return work


def explained(model: Model) -> bytes:
    return str(explain(scene(5), model)).encode()


def swept(model: Model) -> bytes:
    return b"".join(result.image.tobytes() for result in sweep(scene(6), model, "guidance", [2.0, 5.0]))


def attention_maps(model: Model) -> bytes:
    read = attention_pictures(scene(7), model)
    maps = [one.numpy().tobytes() for own in read.maps.values() for one in own.values()]
    return read.result.latents.numpy().tobytes() + b"".join(maps)


def inpainted(model: Model) -> bytes:
    return generate(scene(8, background=photo(2)), model).image.tobytes()


PLAIN: Mapping[str, Work] = {
    "reco": drawn(1, method="reco"),
    "multidiffusion": drawn(2, method="multidiffusion", sampler="euler-ancestral"),
    "attention maps": attention_maps,
    "inpaint": inpainted,
    "edit": edited(3, "p2p"),
    "edit of an image": edited(4, "p2p", background=photo(3)),
    "translate": translated(5, preset="learned", rounds=2, batch=1),
    "explain": explained,
}
FITTED = {"null text": edited(9, "p2p", background=photo(3), inversion="null-text")}
EXTENDED: Mapping[str, Work] = {
    "exemplar": drawn(1, regions=(Region(name="pet", box=CAT.box, exemplar=photo(4)), CAR), method="attention"),
    "control": drawn(2, regions=(CAT.replace(control={"kind": "canny", "image": photo(5)}), CAR)),
    "lora": drawn(3, regions=(CAT.replace(lora={"ink": 0.7}), CAR), method="attention"),
    "plain": drawn(3, method="attention"),
    "paint": drawn(4, background=photo(6), regions=(Region(name="pet", box=CAT.box, exemplar=photo(7)),), caption=""),
    "translate": translated(5, preset="fast"),
    "sweep": swept,
    "explain": explained,
}
EDITED: Mapping[str, Work] = {
    "mrgd": edited(1, "mrgd"),
    "official": edited(2, "official", steps=4),
    "mrgd of an image": edited(3, "mrgd", background=photo(8)),
    "exemplar": drawn(4, regions=(Region(name="pet", box=CAT.box, exemplar=photo(9)), CAR)),
}
"""By the segmenter's losses, on the built-in family."""


@pytest.fixture(scope="module")
def models(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    @cache
    def model_of(name: str) -> Model:
        if name == "plain":
            return tiny
        if name == "edited":
            return load("builtin")
        folder = tmp_path_factory.mktemp("extended")
        base, exemplar = write_checkpoint(folder / "sd1", unet=SD1), write_exemplar(folder / "pbe")
        beside(base, 5).save_pretrained(folder / "canny")
        file = peft_file(folder / "ink.safetensors", lora_weights(base, text=False))
        return load(base, exemplar=exemplar, adapters={"canny": folder / "canny"}, regional_lora={"ink": file})

    return model_of


@pytest.fixture(scope="module")
def serial(models: Callable[[str], Model]) -> Callable[[str, str], bytes]:
    """The bytes of a piece of work alone."""
    return cache(lambda name, work: WORKS[name][work](models(name)))


WORKS = {"plain": {**PLAIN, **FITTED}, "extended": EXTENDED, "edited": EDITED}


@pytest.mark.parametrize("name", ["plain", "extended", pytest.param("edited", marks=builtin)])
def test_all_at_once_is_one_after_the_other(
    name: str, models: Callable[[str], Model], serial: Callable[[str, str], bytes]
) -> None:
    """Every verb in a thread of its own; all of them are inside a forward at once."""
    model, meeting = models(name), Meeting()
    expected = {work: serial(name, work) for work in WORKS[name]}
    found = meeting.of([lambda work=work: WORKS[name][work](model) for work in WORKS[name]])
    assert meeting.most == len(expected)
    assert dict(zip(expected, found, strict=True)) == expected


@pytest.mark.parametrize(("one", "other"), list(combinations_with_replacement(PLAIN, 2)))
def test_side_by_side_is_one_after_the_other(
    one: str, other: str, tiny: Model, serial: Callable[[str, str], bytes]
) -> None:
    meeting = Meeting()
    found = meeting.of([lambda: PLAIN[one](tiny), lambda: PLAIN[other](tiny)])
    assert found == [serial("plain", one), serial("plain", other)]
    assert meeting.most == 2


def test_one_plan_serves_several_threads(tiny: Model) -> None:
    prepared = prepare(scene(3), tiny)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    def sampled() -> bytes:
        z = sample(prepared.plan, prepared.sampler, start, prepared.steps, noise=lambda: start, run=Run())
        return z.numpy().tobytes()

    alone, meeting = sampled(), Meeting()
    assert meeting.of([sampled] * 4) == [alone] * 4
    assert meeting.most == 4


def test_a_cancelled_thread_leaves_the_others_alone(tiny: Model, serial: Callable[[str, str], bytes]) -> None:
    def stop(end: Any) -> None:
        if end.step == 2:
            raise Cancelled("stopped after two steps")

    others = ("reco", "edit", "translate")
    works = [lambda: generate(scene(1, method="reco"), tiny, on_step=stop)]
    works += [lambda work=work: PLAIN[work](tiny) for work in others]
    cancelled, *found = Meeting().of(works)
    assert isinstance(cancelled, Cancelled)
    assert found == [serial("plain", work) for work in others]
    assert PLAIN["reco"](tiny) == serial("plain", "reco")


def test_offloaded_networks_run_one_at_a_time(tiny_family: Path, serial: Callable[[str, str], bytes]) -> None:
    """Each network that runs moves another one off the device, where a second thread would still use it."""
    model = load(tiny_family, offload=True)
    inside: set[int] = set()
    crowded: list[int] = []

    def enter(*_: Any) -> None:
        inside.add(threading.get_ident())
        crowded.append(len(inside))

    unet, text, decoder = model.net.unet, model.text.modules[0], model.vae.module.decoder
    for module in (unet.conv_in, text.get_input_embeddings(), decoder):
        module.register_forward_pre_hook(enter)
    for module in (unet.conv_out, text.get_submodule("final_layer_norm"), decoder):
        module.register_forward_hook(lambda *_: inside.discard(threading.get_ident()))
    names = ("reco", "inpaint", "multidiffusion", "edit")
    meeting = Meeting(calls=1)
    assert meeting.of([lambda work=work: PLAIN[work](model) for work in names]) == [serial("plain", n) for n in names]
    assert max(crowded) == meeting.most == 1


@builtin
def test_a_segmenter_that_several_threads_ask_for_is_read_once() -> None:
    model, barrier = load("builtin"), threading.Barrier(4)
    assert model.segmenter is not None
    read = model.segmenter

    def ask() -> Any:
        barrier.wait()
        return read()

    found = Meeting().of([ask] * 4)
    assert len({id(segmenter) for segmenter in found}) == 1


def test_a_concept_replaces_the_embeddings_of_its_own_text_alone(tiny: Model) -> None:
    text: Any = tiny.text
    text._cache = TextCache(text.modules, bound=0)  # so that both run the network
    vectors = torch.randn(3, text.width)

    def concept() -> bytes:
        with torch.no_grad():
            return encode_concept(text, vectors)[0].numpy().tobytes()

    def words() -> bytes:
        return text.encode_ids(text.padded_ids("a red car")).tokens.numpy().tobytes()

    serial, meeting = [concept(), words()], Meeting(lambda module: module is text.module.get_input_embeddings())
    assert serial == meeting.of([concept, words])
    assert meeting.most == 2
    assert words() == serial[1]


@pytest.mark.parametrize("words", ["", "a cat", "a cat on the beach"])
def test_reading_words_leaves_the_tokenizer_as_it_was(tiny: Model, words: str) -> None:
    """A tokenizer that every call sets anew breaks off or misreads what another thread tokenizes meanwhile."""
    text = tiny.text
    assert isinstance(text, ClipTextEncoder)
    state: Any = text.tokenizer.backend_tokenizer
    before = (state.padding, state.truncation)
    ids = text.padded_ids(words)
    assert (state.padding, state.truncation) == before
    other = copy.deepcopy(text.tokenizer)
    assert ids == other(words, padding="max_length", max_length=text.length).input_ids
    text.token_ids(words)
    assert (state.padding, state.truncation) == before


def test_two_threads_that_open_images_restore_the_warning_filters() -> None:
    before = list(warnings.filters)
    entered, release, second = threading.Event(), threading.Event(), threading.Event()

    def first_in() -> None:
        with without_warnings():
            entered.set()
            release.wait(5)

    def second_in() -> None:
        with without_warnings():
            second.set()

    threads = [threading.Thread(target=target) for target in (first_in, second_in)]
    threads[0].start()
    assert entered.wait(5)
    threads[1].start()
    assert not second.wait(0.2)
    release.set()
    for thread in threads:
        thread.join(5)
    assert second.is_set()
    assert list(warnings.filters) == before
