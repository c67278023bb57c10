"""Translations without inversion: the concept from an image or learned, masks, and other regions in the same pass."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flux import write_flux
from flux2 import write_flux2
from PIL import Image
from zimage import write_zimage

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.sample import sample
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.vocabulary import Vocabulary
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.starts import start_maker
from cloisonne.pipelines.translation.concept_inputs import candidates
from cloisonne.pipelines.translation.learn_concept import LEVELS
from cloisonne.pipelines.translation.translate import translate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.train.builtin.export import write_index
from cloisonne.world.draw import draw
from cloisonne.world.picture import Recipe
from cloisonne.world.picture import sample as picture_of

STEPS = 5
LEARNED: dict[str, Any] = {"learned": True, "rounds": 2, "content_rounds": 1, "batch": 1}
"""For models without an image encoder."""


@pytest.fixture(scope="module")
def family() -> Model:
    return load("builtin")


def photo(seed: int = 0, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def flow(model: Model, **options: Any) -> Any:
    own = {"steps": STEPS} | ({} if model.exemplar else LEARNED)
    return translate(photo(), photo(1), model, preset="flow", **own | options)


def scene(*others: Region, **fields: Any) -> Scene:
    concept = Region(name="all", box=(0.0, 0.0, 1.0, 1.0), concept=photo(1))
    settings = {"preset": "flow", **LEARNED}
    return Scene(
        regions=(concept, *others), background=photo(), seed=0, steps=STEPS, translating=settings, caption="", **fields
    )


def test_an_image_encoder_s_concept_needs_no_inversion(family: Model) -> None:
    made = flow(family)
    assert (made.report["rows"], made.report["forwards"]) == (3 * STEPS, STEPS)
    late = flow(family, flow_start=0.6)
    assert (late.report["rows"], late.report["forwards"]) == (3 * 3, 3)
    assert not np.array_equal(pixels(made.image), pixels(made.named["source"]))
    assert made.scene.translating == flow(family).scene.translating


def test_a_learned_concept_is_used_from_its_file(tiny: Model) -> None:
    made = flow(tiny)
    again = translate(photo(), photo(1), tiny, preset="flow", steps=STEPS, **LEARNED, concept=made.concept)
    assert np.array_equal(pixels(again.image), pixels(made.image))
    assert again.report["rows"] == 1 + 3 * STEPS == made.report["rows"] - 2
    assert not again.warnings


def test_the_content_is_learned_once_for_a_background(tiny: Model) -> None:
    """The scene has its embeddings, which those of another background replace."""
    made = flow(tiny)
    again = generate(made.scene, tiny)
    assert np.array_equal(pixels(again.image), pixels(made.image))
    assert again.report["rows"] == 3 * STEPS
    other = generate(made.scene.replace(background=photo(2)), tiny)
    assert other.report["rows"] == 1 + 3 * STEPS
    fresh = translate(photo(2), photo(1), tiny, preset="flow", steps=STEPS, **LEARNED, concept=made.concept)
    assert np.array_equal(pixels(other.image), pixels(fresh.image))
    assert generate(made.scene.replace(seed=7), tiny).report["rows"] == 3 * STEPS
    longer = made.scene.replace(translating={**dict(made.scene.translating), "content_rounds": 2})
    assert generate(longer, tiny).report["rows"] == 2 + 3 * STEPS
    without = flow(tiny, content_vectors=0)
    assert without.report["rows"] == made.report["rows"] - 1
    assert not np.array_equal(pixels(without.image), pixels(made.image))


@pytest.mark.parametrize("options", [{"concept_strength": 0.0}, {"keep_structure": 1.0}, {"flow_start": 0.0}])
def test_without_a_concept_or_a_step_the_latents_stay(tiny: Model, options: dict[str, Any]) -> None:
    strength = options.get("concept_strength", 1.0)
    maker = start_maker(_of(flow(tiny).scene, **options), tiny)
    noise = Noise([Seed(0)], (tiny.vae.channels, 8, 8), tiny.device)
    start = maker.start(noise, Plan())
    z = sample(start.plan, start.sampler, start.latents, maker.prepared.steps, noise=noise)
    assert torch.equal(*z)
    assert len(maker.prepared.steps) == (STEPS if strength == 0 else 0)
    if strength:
        assert np.array_equal(pixels(flow(tiny, **options).image), pixels(photo()))


def _of(resolved: Scene, **options: Any) -> Scene:
    """A resolved scene with other options of its concept or its settings."""
    region = resolved.translated
    assert region is not None
    assert region.concept is not None
    own = {name: options.pop(name) for name in tuple(options) if name in ("concept_strength", "keep_structure")}
    changed = region.replace(concept=region.concept.replace(**own))
    return resolved.replace(regions=(changed,), translating={**dict(resolved.translating), **options})


def test_structure_is_kept_by_a_late_start(tiny: Model) -> None:
    one, other = flow(tiny, keep_structure=0.6), flow(tiny, flow_start=0.4)
    assert np.array_equal(pixels(one.image), pixels(other.image))
    assert not np.array_equal(pixels(flow(tiny).image), pixels(other.image))


def test_nothing_changes_outside_of_the_mask(tiny: Model) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 8:40] = 255
    made = flow(tiny, mask=Image.fromarray(mask))
    inside = mask > 0
    assert np.array_equal(pixels(made.image)[~inside], pixels(photo())[~inside])
    assert (pixels(made.image)[inside] != pixels(photo())[inside]).any()


def test_other_regions_are_painted_anew_in_the_same_pass(tiny: Model) -> None:
    cat = Region(name="cat", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
    alone, both = (generate(scene(*others, method="attention"), tiny) for others in ((), (cat,)))
    inside = cat.soft_mask(64, 64) > 0
    assert (pixels(both.image)[inside] != pixels(alone.image)[inside]).mean() > 0.5
    late = {"preset": "flow", "flow_start": 0.6, **LEARNED}
    counts = [
        len(start_maker(scene(*others, method="attention").replace(translating=late), tiny).prepared.steps)
        for others in ((), (cat,))
    ]
    assert counts == [3, STEPS]


def test_the_plan_is_explained(tiny: Model) -> None:
    found = explain(scene(), tiny)
    assert found.steps == STEPS
    assert found.rows - found.setup_rows == 3 * STEPS


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("flow", {"flow_start": 1.5}, r"flow_start is 1\.5; give a fraction of the steps, from 0 to 1"),
        ("flow", {"n_avg": 0}, "n_avg is 0"),
        ("flow", {"pivot": "source"}, 'pivot is "source", but flow reconstructs nothing'),
        ("fast", {"flow_start": 0.5}, 'flow_start is given, but the preset "fast" does not flow'),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tiny: Model, preset: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SceneError, match=message):
        translate(photo(), photo(1), tiny, preset=preset, steps=STEPS, **options)


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(write_flux2(tmp_path_factory.mktemp("klein"), distilled=False))


def test_a_reference_is_the_concept_of_a_network_that_takes_references(klein: Model) -> None:
    """In the mask alone; without a step or with no strength nothing changes."""
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    given: dict[str, Any] = {"width": 64, "height": 64, "mask": Image.fromarray(mask)}
    made, other = (translate(photo(), photo(k, 80), klein, preset="flow", steps=3, **given) for k in (1, 2))
    assert (made.report["rows"], made.report["forwards"]) == (3 * 3, 3)
    assert np.array_equal(pixels(made.image)[:, :32], pixels(photo())[:, :32])
    assert (pixels(made.image)[:, 32:] != pixels(other.image)[:, 32:]).mean() > 0.2
    maker = start_maker(_of(made.scene, concept_strength=0.0), klein)
    noise = Noise([Seed(0)], (klein.vae.channels, 4, 4))
    start = maker.start(noise, Plan())
    assert torch.equal(*sample(start.plan, start.sampler, start.latents, maker.prepared.steps, noise=noise))
    explained = explain(made.scene, klein)
    assert explained.rows - explained.setup_rows == made.report["rows"]


@pytest.mark.parametrize("preset", ["fast", "learned", "vct"])
def test_other_presets_are_refused_on_transformers(klein: Model, preset: str) -> None:
    with pytest.raises(CapabilityError, match=r'\(FLUX.2 klein\) cannot do .*choose the preset "flow"'):
        translate(photo(), photo(1), klein, preset=preset, width=64, height=64)


KONTEXT = partial(write_flux, pipeline="FluxKontextPipeline")


@pytest.mark.parametrize(("write", "title"), [(write_zimage, "Z-Image"), (KONTEXT, r"FLUX\.1 Kontext")])
def test_other_transformers_are_refused(tmp_path: Path, write: Any, title: str) -> None:
    """Z-Image takes no references; Kontext's are images to edit by an instruction, of which a concept has none."""
    model = load(write(tmp_path))
    with pytest.raises(CapabilityError, match=rf"\({title}\) cannot do .*FLUX.2 klein"):
        translate(photo(), photo(1), model, preset="flow", width=64, height=64)


ONE_ROUND: dict[str, Any] = {"content_rounds": 1, "batch": 1}


@pytest.mark.parametrize("by_clip", [True, False])
@pytest.mark.parametrize(("background", "place"), [("snow", "in the snow"), ("ocean", "under the ocean")])
def test_the_words_that_explain_the_reference_are_its_concept(
    family: Model, background: str, place: str, by_clip: bool
) -> None:
    model = family if by_clip else replace(family, segmenter=None)
    ground = next(seed for seed in range(200) if picture_of(seed, Recipe(counts=(1,))).background == background)
    reference = Image.fromarray(draw(picture_of(ground, Recipe(counts=(1,)))).rgb)
    word = " under the ocean |in the snow"
    made = translate(photo(), reference, model, preset="interrogate", word=word, steps=STEPS, **ONE_ROUND)
    region = made.scene.translated
    assert region is not None
    assert region.concept is not None
    assert region.concept.word == place
    found = explain(made.scene.replace(regions=(region.replace(concept={"image": reference, "word": word}),)), model)
    assert made.report["rows"] == found.rows == (0 if by_clip else 2 * LEVELS) + 1 + 3 * STEPS
    again = generate(made.scene, model)
    assert again.report["rows"] == 3 * STEPS
    assert np.array_equal(pixels(again.image), pixels(made.image))
    given = translate(photo(), photo(3), model, preset="interrogate", word=place, steps=STEPS, **ONE_ROUND)
    assert given.report["rows"] == 1 + 3 * STEPS
    assert np.array_equal(pixels(given.image), pixels(made.image))


def test_without_alternatives_the_styles_of_the_model_are_read(family: Model, tiny: Model, tmp_path: Path) -> None:
    write_index(tmp_path, ("blueprint", "watercolour"))
    styled = replace(family, vocabulary=Vocabulary.read(tmp_path))
    phrases = {name: f"in the style of a {name}" for name in ("blueprint", "watercolour")}
    assert candidates(styled, " | ") == phrases
    write_index(tmp_path, ())
    plain = replace(family, vocabulary=Vocabulary.read(tmp_path))
    for model in (plain, tiny):
        with pytest.raises(SceneError, match='"interrogate" needs words, but the model'):
            translate(photo(), photo(1), model, preset="interrogate", steps=STEPS)
    made = translate(
        photo(), photo(1), family, preset="interrogate", word="in the style of a woodcut", steps=1, **ONE_ROUND
    )
    assert [warning for warning in made.warnings if 'does not know "woodcut"' in warning]
    with pytest.raises(SceneError, match='interrogate is true, but the preset "fast" takes no words'):
        translate(photo(), photo(1), tiny, preset="fast", interrogate=True, steps=STEPS)
