"""What all functions share: one result, one kind of progress, equal names in Python, JSON and on the command line."""

import json
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cloisonne as cl
from cloisonne.cli.main import app
from cloisonne.scene.values import ALIASES

pytestmark = pytest.mark.filterwarnings("ignore::cloisonne.errors.CloisonneWarning")

PET = {"name": "pet", "box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}
SCENE = cl.Scene(caption="on the beach", seed=3, steps=3, regions=[PET])
HAT = {"name": "hat", "box": [0.3, 0.2, 0.9, 0.8], "edit": {"kind": "change", "from": "a red hat", "to": "a hat"}}
LEARNED = {"preset": "vct", "rounds": 2, "batch": 1, "steps": 3}


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 80, 3), np.uint8))


def mask() -> Image.Image:
    pixels = np.zeros((64, 80), np.uint8)
    pixels[16:48, 20:60] = 255
    return Image.fromarray(pixels)


EDIT = cl.Scene(caption="on the beach", seed=2, steps=3, regions=[HAT])
VERBS: dict[str, Callable[..., list[cl.Result]]] = {
    "generate": lambda model, **own: [cl.generate(SCENE, model, **own)],
    "background": lambda model, **own: [cl.generate(SCENE.replace(background=photo()), model, **own)],
    "several": lambda model, **own: [cl.generate(SCENE, model, num_images=2, **own)],
    "inpaint": lambda model, **own: [cl.inpaint(photo(), mask(), model, phrase="a cat", seed=1, steps=3, **own)],
    "edit": lambda model, **own: [cl.edit(EDIT, model, preset="p2p", **own)],
    "edit of an image": lambda model, **own: [cl.edit(EDIT.replace(background=photo()), model, preset="p2p", **own)],
    "translate": lambda model, **own: [cl.translate(photo(), photo(1), model, **LEARNED, **own)],
    "sweep": lambda model, **own: cl.sweep(SCENE, model, "seed", [4, 5], **own),
    "many": lambda model, **own: cl.generate_many([SCENE, SCENE.replace(seed=9)], model, **own),
}
NAMED = {
    "background": {"source", "raw"},
    "inpaint": {"source", "raw"},
    "edit": {"before", "after", "difference", "raw"},
    "edit of an image": {"before", "after", "difference", "raw"},
    "translate": {"source", "reference", "raw"},
}
LABEL = {"background": "generate", "several": "generate", "many": "generate", "edit of an image": "edit"}


def image_bytes(results: list[cl.Result]) -> list[bytes]:
    return [image.tobytes() for result in results for image in result.images]


@pytest.mark.parametrize("verb", VERBS)
def test_every_function_returns_one_kind_of_result(tiny: cl.Model, verb: str, tmp_path: Path) -> None:
    for index, result in enumerate(VERBS[verb](tiny)):
        assert isinstance(result, cl.Result)
        assert set(result.named) == NAMED.get(verb, set())
        assert len(result.images) == len(result.latents)
        assert result.image is result.images[0]
        assert "\n" not in repr(result)
        assert all(f"{name}" in repr(result) for name in result.named)
        assert result.report["scene"] == result.scene.to_dict(complete=True)
        assert set(result.warnings) >= set(result.report["warnings"])
        if "source" in result.named:
            assert result.named["source"].tobytes() == photo().tobytes()
        if len(result.images) == 1:
            (path,) = result.save(tmp_path / f"{index}.png")
            assert cl.Scene.from_png(path) == result.scene.replace(**embedded(path))
            with Image.open(path) as written:
                assert written.tobytes() == result.image.tobytes()


def embedded(path: Path) -> dict[str, Any]:
    """The images that a PNG carries, which are references by path or data in its scene."""
    scene = cl.Scene.from_png(path)
    return {"background": scene.background, "regions": scene.regions}


@pytest.mark.parametrize("verb", VERBS)
def test_progress_counts_every_step_of_every_stage(tiny: cl.Model, verb: str) -> None:
    events: list[cl.Progress] = []
    results = VERBS[verb](tiny, on_step=events.append)
    assert image_bytes(results) == image_bytes(VERBS[verb](tiny))
    assert {event.verb for event in events} == {LABEL.get(verb, verb)}
    for _, stage in groupby(events, lambda event: (event.stage, event.image, event.step - events.index(event))):
        own = list(stage)
        assert [event.step for event in own] == list(range(1, own[0].total + 1))
    for event in events:
        learns = event.stage in ("learning", "pivot", "null text")
        assert (event.loss is not None, event.x0 is None, event.latents is None) == (learns, learns, learns)
        assert (event.preview() is None) == learns
        assert 0 <= event.image < event.num_images
        assert "\n" not in repr(event)
    count = sum(len(result.images) for result in results)
    assert {(event.image, event.num_images) for event in events if event.stage == "sampling"} == {
        (index, count) for index in range(count)
    }
    last = events[-1].latents
    assert last is not None
    assert torch.equal(last, results[-1].latents[-1])


@pytest.mark.parametrize("verb", VERBS)
def test_a_callback_cancels_every_function_and_the_model_stays_usable(tiny: cl.Model, verb: str) -> None:
    def stop(event: cl.Progress) -> None:
        if event.stage == "sampling" and event.step == 2:
            raise cl.Cancelled("enough")

    before = image_bytes(VERBS[verb](tiny))
    with pytest.raises(cl.Cancelled, match="enough"):
        VERBS[verb](tiny, on_step=stop)
    assert image_bytes(VERBS[verb](tiny)) == before


@pytest.mark.parametrize("verb", VERBS)
def test_progress_is_a_switch(tiny: cl.Model, verb: str) -> None:
    with pytest.raises(TypeError, match=r"progress is .*; give True or False, and a function as on_step\."):
        VERBS[verb](tiny, progress=print)
    with pytest.raises(TypeError, match=r'has no keyword "callback_on_step_end"; did you mean "on_step"\?'):
        VERBS[verb](tiny, callback_on_step_end=print)


def test_several_scenes_are_each_what_generate_makes(tiny: cl.Model) -> None:
    scenes = [
        SCENE,
        SCENE.replace(seed=9, caption="at night"),
        SCENE.replace(steps=2),
        SCENE.replace(sampler="euler-ancestral"),
        SCENE.replace(background=photo()),
        SCENE.replace(width=72, regions=()),
        SCENE.replace(method="multidiffusion"),
    ]
    together, alone = cl.generate_many(scenes, tiny), [cl.generate(scene, tiny) for scene in scenes]
    assert image_bytes(together) == image_bytes(alone)
    assert [torch.equal(a.latents, b.latents) for a, b in zip(together, alone, strict=True)] == [True] * len(scenes)
    counts = [[(one.report["forwards"], one.report["rows"]) for one in results] for results in (together, alone)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("command", "option"), [("fill", "--mask"), ("fill", "--box"), ("paint", "--mask")])
def test_fill_and_paint_write_what_inpaint_writes(workdir: Path, command: str, option: str) -> None:
    photo().save("source.png")
    photo(1).save("exemplar.png")
    mask().save("mask.png")
    box = (0.25, 0.25, 0.75, 0.75)
    given = {"fill": {"phrase": "a cat"}, "paint": {"exemplar": "exemplar.png", "similarity": 3.0}}[command]
    place = "mask.png" if option == "--mask" else box
    made = cl.inpaint("source.png", place, "builtin", seed=1, steps=2, feather=0.1, strength=1.0, **given)
    (path,) = made.save("python.png")
    flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    where = [option, "mask.png" if option == "--mask" else ",".join(map(str, box))]
    arguments = [command, "source.png", *where, *flags, "--seed", "1", "--steps", "2", "--feather", "0.1"]
    ran = CliRunner().invoke(app, [*arguments, "-o", "command.png"])
    assert ran.exit_code == 0, ran.output
    assert Path("command.png").read_bytes() == path.read_bytes()


def test_inpaint_takes_a_phrase_an_exemplar_or_a_box(tiny: cl.Model) -> None:
    with pytest.raises(cl.SceneError, match="nothing to generate under the mask; give phrase, exemplar or both"):
        cl.inpaint(photo(), mask(), tiny)
    with pytest.raises(cl.SceneError, match="the region has no exemplar"):
        cl.inpaint(photo(), mask(), tiny, phrase="a cat", similarity=3.0)
    box = (0.25, 0.25, 0.75, 0.75)
    made = cl.inpaint(photo(), box, tiny, phrase="a cat", seed=1, steps=2)
    region = cl.Region(name="fill", box=box, phrase="a cat")
    alone = cl.generate(cl.Scene(background=photo(), regions=[region], seed=1, steps=2), tiny)
    assert made.image.tobytes() == alone.image.tobytes()


@pytest.mark.parametrize(("alias", "field"), ALIASES.items())
def test_names_of_diffusers_in_python_json_and_on_the_command_line(
    tiny: cl.Model, tiny_family: Path, workdir: Path, alias: str, field: str
) -> None:
    value = {"steps": 2, "guidance": 2.0, "negative": "a dog"}[field]
    plain = cl.Scene(caption="on the beach", seed=3, regions=[PET])
    expected = cl.generate(plain.replace(**{field: value}), tiny)
    data = plain.to_dict()
    Path("plain.json").write_text(json.dumps(data))
    Path("alias.json").write_text(json.dumps(data | {alias: value}))
    assert image_bytes([cl.generate(plain, tiny, **{alias: value})]) == image_bytes([expected])
    assert image_bytes([cl.generate("alias.json", tiny)]) == image_bytes([expected])
    model = ["--model", str(tiny_family)]
    for flag in (f"--{alias}", f"--{alias.replace('_', '-')}", f"--{field}"):
        arguments = ["generate", "plain.json", "-o", "out.png", flag, str(value), "--overwrite", *model]
        ran = CliRunner().invoke(app, arguments)
        assert ran.exit_code == 0, ran.output
        with Image.open("out.png") as image:
            assert image.tobytes() == expected.image.tobytes()
