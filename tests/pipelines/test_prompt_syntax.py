"""What texts ask for besides words is done, refused or warned of, in pictures, reports and files."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_files import lora_weights, peft_file
from methods_of import OF_UNETS
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.sizes import size_warning
from cloisonne.pipelines.attention_maps.overlay import attention_pictures
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FULL, LEFT, RIGHT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
PET = Region(name="pet", box=LEFT, phrase="a cat")
CAR = Region(name="car", box=RIGHT, phrase="a red car", negative="dog", stop=0.7)
SCENE = Scene(caption="on the beach", seed=3, steps=3, method="attention", regions=(PET, CAR))
METHODS_OF_SD = [method for method in OF_UNETS if method != "reco"]


@pytest.fixture(scope="module")
def held(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("held")
    files = {
        name: peft_file(folder / f"{name}.safetensors", lora_weights(tiny_sd, seed, text=False))
        for seed, name in enumerate(("ink", "oil"))
    }
    return {"files": files, "model": load(tiny_sd, regional_lora=files)}


def drawn(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def warned(scene: Scene, model: Model) -> list[str]:
    report = generate(scene, model, output_type="latent").report
    assert list(explain(scene, model).warnings) == report["warnings"]
    return report["warnings"]


@pytest.mark.parametrize("method", METHODS_OF_SD)
def test_a_lora_of_the_caption_is_the_fused_one(tiny_sd: Path, held: dict[str, Any], method: str) -> None:
    scene = SCENE.replace(method=method)
    ours = drawn(scene.replace(caption="on the beach <lora:ink:0.8>"), held["model"])
    fused = load(tiny_sd, lora=(held["files"]["ink"], 0.8))
    torch.testing.assert_close(ours, drawn(scene, fused), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, drawn(scene, held["model"]), atol=1e-2)
    assert torch.equal(ours, drawn(scene.replace(lora={"ink": 0.8}), held["model"]))


@pytest.mark.parametrize("method", METHODS_OF_SD)
def test_a_lora_of_a_phrase_is_the_regions(held: dict[str, Any], method: str) -> None:
    scene = SCENE.replace(method=method)
    tagged = scene.replace(regions=(PET.replace(phrase="a cat, <lora:ink:0.5>", lora={"ink": 0.25}), CAR))
    as_field = scene.replace(regions=(PET.replace(lora={"ink": 0.75}), CAR))
    assert torch.equal(drawn(tagged, held["model"]), drawn(as_field, held["model"]))


def test_both_count_where_both_are_named(tiny_sd: Path, held: dict[str, Any]) -> None:
    """ink everywhere, and oil in all regions, which cover the canvas: both, fused."""
    regions = tuple(r.replace(lora={"oil": 0.5}, stop=1.0) for r in (PET, CAR))
    scene = SCENE.replace(lora="ink", regions=regions)
    plain = SCENE.replace(regions=tuple(r.replace(stop=1.0) for r in (PET, CAR)))
    fused = load(tiny_sd, lora=[held["files"]["ink"], (held["files"]["oil"], 0.5)])
    torch.testing.assert_close(drawn(scene, held["model"]), drawn(plain, fused), atol=1e-4, rtol=1e-4)
    half = scene.replace(regions=(regions[0].replace(lora=()), regions[1]))
    same = SCENE.replace(regions=(regions[0].replace(lora="ink"), regions[1].replace(lora={"ink": 1.0, "oil": 0.5})))
    torch.testing.assert_close(drawn(half, held["model"]), drawn(same, held["model"]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("field", ["caption", "phrase"])
def test_a_lora_that_is_not_held_is_refused_with_those_that_are(held: dict[str, Any], field: str) -> None:
    text = "a cat <lora:wax:1>"
    scene = SCENE.replace(caption=text) if field == "caption" else SCENE.replace(regions=(PET.replace(phrase=text),))
    with pytest.raises(CapabilityError, match='has no LoRA "wax" for regions \\(it has "ink", "oil"\\)') as caught:
        generate(scene, held["model"])
    assert caught.value.region == (None if field == "caption" else "pet")


def test_what_cannot_be_done_is_refused_or_warned_of(held: dict[str, Any]) -> None:
    model = held["model"]
    hat = Region(name="hat", box=LEFT, edit={"kind": "add", "phrase": "a hat <lora:ink:1>"})
    for scene in (SCENE.replace(regions=(hat,)), SCENE.replace(caption="<lora:ink:1>", regions=(hat,))):
        with pytest.raises(SceneError, match='lora names "ink", but edits'):
            edit(scene, model)
    (warning,) = warned(SCENE.replace(negative="blue <lora:ink:1>"), model)
    assert warning == 'The scene\'s negative names the LoRA "ink", which is left out: negative prompts take no LoRAs.'
    bad = SCENE.replace(regions=(PET.replace(phrase="a cat <lora:ink:much>"),))
    with pytest.raises(SceneError, match="write a name and one number") as caught:
        generate(bad, model)
    assert caught.value.region == "pet"


def test_an_embedding_is_its_word(tiny_sd: Path, tmp_path: Path) -> None:
    file = tmp_path / "ink.safetensors"
    save_file({"emb_params": torch.randn(2, 16)}, file)
    model = load(tiny_sd, embeddings=file)
    tagged, plain = (SCENE.replace(caption=f"a cat, {word}") for word in ("embedding:ink", "ink"))
    assert torch.equal(drawn(tagged, model), drawn(plain, model))
    assert warned(tagged, model) == []
    (warning,) = warned(SCENE.replace(caption="a cat, embedding:oil"), model)
    assert warning.startswith('The scene\'s caption holds "embedding:oil", but the model has no such embedding')


@pytest.mark.parametrize("word", ["BREAK", "AND"])
def test_operators_of_other_programs_are_warned_of(tiny: Model, word: str) -> None:
    scene = SCENE.replace(caption=f"a cat {word} a dog", regions=(PET.replace(phrase=f"red {word} blue"),))
    scene_warning, region_warning = warned(scene, tiny)
    assert scene_warning.startswith(f'The scene\'s caption holds "{word}", but prompts are not')
    assert region_warning.startswith(f'Region "pet" holds "{word}", but prompts are not')
    assert all(warning.endswith("its own region.") for warning in (scene_warning, region_warning))


CHOOSING = Scene(
    caption="{a cat|a dog|stars} on the beach",
    steps=2,
    regions=(Region(name="car", box=RIGHT, phrase="a {red|blue|orange} car", negative="{dog|cat}"),),
)


def test_a_choice_is_made_by_the_seed_and_kept(tiny: Model, workdir: Path) -> None:
    texts = set()
    for seed in range(6):
        made = generate(CHOOSING, tiny, seed=seed)
        region = made.scene.regions[0]
        texts.add((made.scene.caption, region.phrase, region.negative))
        assert "{" not in json.dumps([made.report["scene"]["caption"], made.report["scene"]["regions"][0]["phrase"]])
        assert np.array_equal(np.asarray(made.image), np.asarray(generate(CHOOSING, tiny, seed=seed).image))
        assert np.array_equal(np.asarray(made.image), np.asarray(generate(made.scene, tiny).image))
        made.save("one.png", overwrite=True)
        generate(Scene.load("one.png"), tiny).save("two.png", overwrite=True)
        assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert len(texts) > 3


def test_without_a_seed_all_parts_of_a_run_choose_alike(tiny: Model) -> None:
    choosing = CHOOSING.replace(caption="a {red car|blue car|cat|dog|doughnut|beach|sky|star}")
    looked = attention_pictures(choosing, tiny)
    assert set(looked.maps) == {"car"}
    hat = Region(name="hat", box=LEFT, edit={"kind": "change", "from": "a {red|blue} hat", "to": "a {cat|dog}"})
    made = edit(CHOOSING.replace(regions=(hat,)), tiny)
    region = made.scene.regions[0]
    assert region.edit is not None
    assert "{" not in made.scene.caption + region.edit.before + region.edit.after
    again = edit(made.scene, tiny)
    assert made.image.tobytes() == again.image.tobytes()


def test_several_pictures_share_a_choice_and_say_so(tiny: Model) -> None:
    made = generate(CHOOSING.replace(seed=1), tiny, num_images=2)
    assert made.report["warnings"] == [
        "All images of a run share the choice of each {a|b}, made by the first seed; generate each seed alone."
    ]
    alone = generate(made.scene.replace(seed=2), tiny)
    assert made.images[1].tobytes() == alone.image.tobytes()


@pytest.fixture(scope="module")
def knowing(tiny_family: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A family that carries a list of words."""
    folder = tmp_path_factory.mktemp("knowing") / "family"
    shutil.copytree(tiny_family, folder)
    groups = {"things": [["cat", "kitten"], ["whale"], ["palm tree"]], "colours": [["red"]]}
    words = {"version": 1, "groups": groups, "grammar": ["a", "the", "on", "red", "beach"]}
    (folder / "words.json").write_text(json.dumps(words))
    return load(folder)


def test_unknown_words_are_warned_of_by_name(knowing: Model) -> None:
    known = SCENE.replace(caption="a red cat on the beach", regions=(PET,))
    assert warned(known, knowing) == []
    asked = SCENE.replace(
        caption="[a cat:a (whale:1.2) shark:0.5] on the beach",
        regions=(PET.replace(phrase="a zebra", negative="palm"),),
    )
    assert warned(asked, knowing) == [
        'The scene\'s caption: the built-in family does not know "whale shark" (it knows "whale").',
        'Region "pet": the built-in family does not know "zebra".',
        'The negative of region "pet": the built-in family does not know "palm" (it knows "palm tree").',
    ]


def test_a_model_without_a_list_or_with_a_lora_is_not_asked(tiny: Model, tiny_sd: Path, tmp_path: Path) -> None:
    file = peft_file(tmp_path / "x.safetensors", lora_weights(tiny_sd, text=False))
    assert tiny.vocabulary is None
    folder = tmp_path / "sd"
    shutil.copytree(tiny_sd, folder)
    (folder / "words.json").write_text('{"version": 1, "groups": {"things": [["cat"]]}, "grammar": ["a"]}')
    (warning,) = warned(SCENE.replace(caption="a zebra", regions=()), load(folder))
    assert warning == 'The scene\'s caption: the model "sd" does not know "zebra".'
    assert load(folder, lora=file).vocabulary is None
    assert load(folder, regional_lora={"ink": file}).vocabulary is None


@pytest.mark.parametrize(("width", "height"), [(64, 64), (80, 64), (64, 80)])
def test_sizes_in_reach_are_not_warned_of(tiny: Model, width: int, height: int) -> None:
    assert warned(SCENE.replace(width=width, height=height), tiny) == []


@pytest.mark.parametrize(("width", "height"), [(256, 256), (64, 96), (96, 72)])
def test_sizes_beyond_reach_name_the_native_one(tiny: Model, width: int, height: int) -> None:
    (warning,) = explain(SCENE.replace(width=width, height=height), tiny).warnings
    assert warning.startswith(f"The image is {width} x {height} pixels, but this model (built-in family) was trained")
    assert "64 x 64; beyond 1.25 times that" in warning


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_has_its_reach(tiny: Model, family: Any) -> None:
    reach = FAMILIES[family].reach
    model = replace(tiny, family=family, native=replace(tiny.native, width=512, height=512))
    for side in (512, int(512 * reach), math.ceil(512 / reach)):
        assert size_warning(side, 512, model) is None
        assert size_warning(512, side, model) is None
    more, less = (size_warning(side, 512, model) or "" for side in (int(512 * reach) + 1, math.ceil(512 / reach) - 1))
    assert "repeats or loses objects" in more
    assert "hardly recognisable" in less


def test_a_given_picture_has_any_size(tiny: Model) -> None:
    photo = Image.fromarray(np.zeros((200, 300, 3), np.uint8))
    assert not any("was trained at" in text for text in explain(SCENE.replace(background=photo), tiny).warnings)
