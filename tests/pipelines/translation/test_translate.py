"""Translations: a source's structure, a reference's subject or style, by learned concepts or one pass of an encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from cloisonne.cli.main import app
from cloisonne.core.attention.edits import ShareFeatures, ShareSelf, ShareWords
from cloisonne.errors import Cancelled, CapabilityError, CheckpointError, ImageError, OutputError, SceneError
from cloisonne.methods.vct import PRESETS, sharing
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept, encode_concept, table_of
from cloisonne.pipelines.progress import Progress
from cloisonne.pipelines.translation.learn_concept import fit
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.pipelines.translation.translate import translate

FEW: dict[str, Any] = {"steps": 3, "rounds": 2, "batch": 1}


@pytest.fixture(scope="module")
def family() -> Model:
    return load("builtin")


def photo(seed: int = 0, width: int = 97, height: int = 61, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, bands), np.uint8)
    return Image.fromarray(pixels if bands > 1 else pixels[..., 0], mode)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("preset", ["learned", "vct", "vct-code"])
def test_learned_presets_run_and_are_repeated_by_their_concept(tiny: Model, preset: str, tmp_path: Path) -> None:
    events: list[Progress] = []
    made = translate(photo(), photo(1), tiny, preset=preset, on_step=events.append, **FEW)
    assert made.image.size == (97, 61)
    fitted = {"learned": set(), "vct": {"pivot"}, "vct-code": {"null text"}}[preset]
    assert {event.stage for event in events} == {"learning", "inversion", "sampling"} | fitted
    assert {event.stage for event in events if event.loss is not None} == {"learning"} | fitted
    assert {event.verb for event in events} == {"translate"}
    assert made.concept is not None
    assert made.concept.vectors.shape[0] == 3
    made.concept.save(tmp_path / "concept.safetensors")
    known = Concept.load(tmp_path / "concept.safetensors")
    assert torch.equal(known.vectors, made.concept.vectors)
    again = translate(photo(), photo(1), tiny, preset=preset, concept=known, **FEW)
    assert np.array_equal(pixels(again.image), pixels(made.image))
    assert again.report["rows"] < made.report["rows"]


def test_fast_learns_nothing_and_follows_the_reference(family: Model) -> None:
    one, other = (translate(photo(), photo(seed), family, steps=4) for seed in (1, 2))
    assert one.concept is None
    assert one.report["rows"] == 4 + 4 * (1 + 2)
    assert not np.array_equal(pixels(one.image), pixels(other.image))


def test_no_strength_is_the_source(family: Model) -> None:
    source = Image.fromarray(np.full((128, 128, 3), 120, np.uint8))
    red = Image.new("RGB", (64, 64), (220, 20, 20))
    weak = translate(source, red, family, concept_strength=0.0, steps=10, self_attention_share=1.0)
    full = translate(source, red, family, steps=10)
    errors = [np.abs(pixels(made.image) - 120).mean() for made in (weak, full)]
    assert errors[0] < 8
    assert errors[1] > 2 * errors[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_outside_of_a_mask_every_byte_stays(family: Model, mode: str) -> None:
    source, mask = photo(mode=mode), np.zeros((61, 97), np.uint8)
    mask[10:50, 20:70] = 255
    made = translate(source, photo(1), family, mask=mask, steps=3)
    assert (made.image.mode, made.image.size) == (source.mode, source.size)
    assert np.array_equal(pixels(made.image)[mask == 0], pixels(source)[mask == 0])
    assert not np.array_equal(pixels(made.image)[mask > 0], pixels(source)[mask > 0])
    assert made.report["identical_outside"] is True


def test_learning_lowers_the_loss(family: Model) -> None:
    known = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.5 + 1
    losses: list[float] = []
    settings = translating_of("vct", None, {"rounds": 24, "batch": 2, "rate": 2e-2})
    fit(known, family, settings, watch=lambda at, count, loss: losses.append(loss))
    assert np.mean(losses[-8:]) < np.mean(losses[:8])


def test_learning_begins_at_a_word_and_changes_no_weight(family: Model) -> None:
    before = table_of(family.text).weight.clone()
    settings = translating_of("vct", None, {"rounds": 1, "batch": 1, "rate": 0.0})
    found = fit(torch.zeros(8, 16, 16), family, settings, word="cat").concept
    (token,) = family.text.tokenizer("cat", add_special_tokens=False).input_ids
    assert torch.equal(found.vectors, before[[token] * 3].float())
    assert torch.equal(table_of(family.text).weight, before)


def test_a_concept_of_a_words_own_vectors_says_the_word(family: Model) -> None:
    text: Any = family.text
    ids = text.tokenizer("cat", add_special_tokens=False).input_ids
    encoded, places = encode_concept(text, table_of(text).weight[ids].float())
    assert places == (1,)
    assert torch.allclose(encoded, text.encode_ids(text.padded_ids("cat")).tokens, atol=1e-5)
    content = table_of(text).weight[text.token_ids("a beach")].float()
    after, places = encode_concept(text, table_of(text).weight[ids].float(), content)
    assert places == (len(content) + 1,)
    assert torch.allclose(after, text.encode_ids(text.padded_ids("a beach cat")).tokens, atol=1e-5)


def test_what_is_shared_follows_the_settings() -> None:
    source, target = [1, 2, 2, 2], [1, -1, 2, 2]
    edits = sharing(PRESETS["vct"], source, target)
    assert [type(edit) for edit in edits] == [ShareSelf, ShareWords]
    mapping = edits[1].mapping  # type: ignore[attr-defined]
    assert mapping.sum(0).tolist() == [1, 0, 1, 1]
    assert sharing(translating_of("vct", 0.0, {}), source, target) == ()
    scaled = translating_of("vct", 0.45, {})
    assert (scaled.self_attention_share, scaled.cross_attention_share, scaled.features) == (
        0.45,
        pytest.approx(0.1),
        0.0,
    )
    assert [type(edit) for edit in sharing(PRESETS["learned"], source, target)] == [
        ShareFeatures,
        ShareSelf,
        ShareWords,
    ]
    assert translating_of("learned", 0.45, {}).features == pytest.approx(0.4)
    assert sharing(translating_of("learned", 0.0, {}), source, target) == ()
    with pytest.raises(SceneError, match="features is 2"):
        translating_of("learned", None, {"features": 2})


@pytest.mark.parametrize(
    ("shape", "said_so"), [((3, 7), "7 numbers"), ((90, None), "90 vectors")], ids=["width", "count"]
)
def test_a_concept_that_does_not_fit_is_refused(tiny: Model, shape: tuple[int, int | None], said_so: str) -> None:
    width = shape[1] or table_of(tiny.text).weight.shape[1]
    with pytest.raises(CheckpointError, match=said_so):
        translate(photo(), photo(1), tiny, preset="vct", concept=Concept(torch.zeros(shape[0], width)), **FEW)


def test_files_that_are_no_concept_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "two.safetensors")
    for name, said_so in (("none.safetensors", "no concept"), ("two.safetensors", "2 tensors")):
        with pytest.raises(CheckpointError, match=said_so):
            Concept.load(tmp_path / name)
    save_file({"emb_params": torch.zeros(1, 1, 5)}, tmp_path / "a1111.safetensors")
    assert Concept.load(tmp_path / "a1111.safetensors").vectors.shape == (1, 5)


def test_what_cannot_be_translated_is_said(tiny: Model, family: Model, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r'no preset "slow".*fast'):
        translate(photo(), photo(1), tiny, preset="slow")
    with pytest.raises(SceneError, match="keep_structure is 2"):
        translate(photo(), photo(1), tiny, keep_structure=2.0)
    with pytest.raises(SceneError, match="concept_strength is -1"):
        translate(photo(), photo(1), family, concept_strength=-1.0)
    with pytest.raises(SceneError, match='has no "colour"'):
        translate(photo(), photo(1), family, colour=1)
    with pytest.raises(CapabilityError, match=r'choose the preset "vct" of translating.*load\(\.\.\., exemplar=PATH\)'):
        translate(photo(), photo(1), tiny, preset="fast")
    with pytest.raises(ImageError, match=r"none\.png"):
        translate(photo(), tmp_path / "none.png", family)
    assert any("is the source" in w for w in translate(photo(), photo(), family, steps=2).report["warnings"])


def test_cancelling_leaves_the_model_usable(tiny: Model) -> None:
    def stop(event: Progress) -> None:
        if event.stage == "null text":
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        translate(photo(), photo(1), tiny, preset="vct-code", on_step=stop, **FEW)
    assert translate(photo(), photo(1), tiny, preset="vct-code", **FEW).image.size == (97, 61)


def test_the_command_writes_the_picture_and_refuses_to_overwrite(workdir: Path) -> None:
    photo().save("a.png")
    photo(1).save("b.png")
    arguments = ["translate", "a.png", "--reference", "b.png", "-o", "out.png", "--steps", "2", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    with Image.open("out.png") as made:
        assert made.size == (97, 61)
    with pytest.raises(OutputError, match="exists"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_guidance_is_that_of_the_concept(family: Model) -> None:
    weak, strong = (translate(photo(), photo(1), family, guidance=g, steps=4) for g in (1.5, 6.0))
    assert not np.array_equal(pixels(weak.image), pixels(strong.image))
