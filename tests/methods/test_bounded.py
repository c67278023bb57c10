"""What a bias bounds a phrase to, and where there is nothing to bound."""

from pathlib import Path
from typing import Any

import pytest
import torch
from methods_of import OF_UNETS
from tiny import write_checkpoint
from torch import Tensor

from cloisonne.core.attention.regional import dense, gathered
from cloisonne.core.plan import Conditioning, Plan, Site, Tokens
from cloisonne.core.predict import Run, collate, passes, predict
from cloisonne.errors import SceneError
from cloisonne.methods import METHODS
from cloisonne.methods.bounded import BOOST, Bounded
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
from cloisonne.scene.prompt import pieces as pieces_of
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT, RIGHT, WHOLE = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1.0)
CAT = Region(name="cat", box=LEFT, phrase="a cat")
DOG = Region(name="dog", ellipse=(0.3, 0.2, 0.9, 0.9), phrase="a red dog", weight=2.0, feather=0.2)


@pytest.fixture(scope="module")
def models(tiny: Model, tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    sd2 = write_checkpoint(tmp_path_factory.mktemp("sd2"), unet={"use_linear_projection": True})
    return {"family": tiny, "sd": load(sd2), "xl": load(tiny_xl)}


def prepared(model: Model, *regions: Region, caption: str = "on the beach", **fields: Any) -> Prepared:
    scene = Scene(caption=caption, regions=regions, seed=0, **{"method": "bounded"} | fields)
    return prepare(scene, model)


def pieces(model: Model, *regions: Region, **fields: Any) -> tuple[Tokens, ...]:
    """The texts of the canvas: the caption, and one for each region."""
    (view,) = prepared(model, *regions, **fields).compiled.plan.views
    cond = view.branches["cond"]
    assert isinstance(cond, Conditioning)
    return cond.tokens


def phrase_of(piece: Tokens) -> list[int]:
    """The ids of the tokens that a text counts several times; where these stand twice, the same both times."""
    assert piece.ids is not None
    assert {times for _, _, times in piece.counts} == {BOOST}
    first, *others = (list(piece.ids[start:stop]) for start, stop, _ in piece.counts)
    assert others == [first] * (len(piece.counts) - 1)
    return first


def latents_of(scene: Scene, model: Model) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def encoded(model: Model, text: str) -> Tensor:
    return model.text.encode(pieces_of(text)).tokens


def words(model: Model, text: str) -> int:
    return model.text.count(text)


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
@pytest.mark.parametrize("caption", ["on the beach", ""])
def test_a_full_region_that_counts_once_is_the_plain_prompt(
    models: dict[str, Model], line: str, caption: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "bounded", Bounded(boost=1.0))
    region = Region(box=WHOLE, phrase="a red car", negative="dog", guidance=3.0)
    scene = Scene(seed=3, steps=2, method="bounded", caption=caption, regions=(region,))
    text = "on the beach, a red car" if caption else "a red car"
    plain = Scene(seed=3, steps=2, method="caption", caption=text, negative="dog", guidance=3.0)
    latents = [generate(one, models[line], output_type="latent").latents for one in (scene, plain)]
    assert torch.equal(*latents)
    monkeypatch.setitem(METHODS, "bounded", Bounded())
    assert not torch.equal(generate(scene, models[line], output_type="latent").latents, latents[0])


def test_the_boost_of_a_scene_is_that_of_the_method(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(seed=3, steps=2, method="bounded", caption="on the beach", regions=(CAT, DOG))
    found = [latents_of(scene.replace(region_boost=boost), tiny) for boost in (None, BOOST, 20, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    monkeypatch.setitem(METHODS, "bounded", Bounded(boost=20.0))
    assert torch.equal(latents_of(scene, tiny), found[2])
    monkeypatch.setitem(METHODS, "bounded", Bounded(boost=1.0))
    assert torch.equal(latents_of(scene, tiny), found[3])


@pytest.mark.parametrize("method", OF_UNETS)
def test_a_boost_that_changes_nothing_is_warned_of(tiny: Model, method: str) -> None:
    warned = [text for text in prepared(tiny, CAT, method=method, region_boost=2).compiled.warnings if "boost" in text]
    assert bool(warned) == (not method.startswith("bounded"))
    assert not any("boost" in text for text in prepared(tiny, CAT, method=method).compiled.warnings)


@pytest.mark.parametrize("overlap", ["blend", "priority", "union"])
@pytest.mark.parametrize("method", ["bounded", "bounded-words"])
def test_every_option_equals_the_dense_oracle(
    tiny: Model, overlap: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soft masks, weights, priorities, negatives, guidance, intervals and prompt weights, through the network."""
    regions = (
        CAT.replace(negative="dog", guidance=7.0, priority=1, phrase="a (red:1.4) cat"),
        DOG.replace(stop=0.5, seed=7),
        Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.6)], phrase="stars", weight=0.5, feather=0.5),
    )
    scene = Scene(caption="on the beach", seed=3, steps=3, method=method, overlap=overlap, regions=regions)
    found = [latents_of(scene, tiny)]
    monkeypatch.setattr(tiny.net, "text_attention", dense)
    found.append(latents_of(scene, tiny))
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)
    for changed in (DOG, DOG.replace(stop=0.5), DOG.replace(stop=0.5, seed=7, weight=0)):
        other = scene.replace(regions=(regions[0], changed, regions[2]))
        assert not torch.allclose(latents_of(other, tiny), found[0], atol=1e-4)


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_a_boost_of_1_is_attention(models: dict[str, Model], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "bounded", Bounded(boost=1.0))
    corner = Region(name="dog", box=(0.5, 0.0, 1.0, 0.5), phrase="a red dog", weight=2.0)  # whole cells of all grids
    scene = Scene(seed=3, steps=2, method="bounded", caption="on the beach", regions=(CAT, corner))
    found = [
        generate(scene.replace(method=name), models[line], output_type="latent").latents
        for name in ("bounded", "attention")
    ]
    # The pooled text of Stable Diffusion XL has the phrases too.
    assert torch.equal(*found) == (line != "xl")


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_texts_know_no_other_region(models: dict[str, Model], line: str) -> None:
    model = models[line]
    caption, *own = pieces(model, CAT, DOG)
    assert torch.equal(caption.value, encoded(model, "on the beach"))
    assert caption.counts == ()
    assert {piece.region for piece in own} == {"cat", "dog"}
    for piece in own:
        phrase = {"cat": "a cat", "dog": "a red dog"}[piece.region or ""]
        assert torch.equal(piece.value, encoded(model, f"on the beach, {phrase}, {phrase}"))
        assert phrase_of(piece) == model.text.token_ids(phrase)


def test_texts_share_the_canvas_by_mask_weight_and_overlap(tiny: Model) -> None:
    back = Region(name="back", box=WHOLE, phrase="a cat", weight=3.0)
    front = Region(name="front", box=LEFT, phrase="a dog", priority=1)
    for overlap, expected in {"blend": 0.75, "priority": 0.0, "union": 0.5}.items():
        rest, cat, dog = (piece.mask for piece in pieces(tiny, back, front, overlap=overlap))
        assert rest is not None
        assert cat is not None
        assert rest.eq(0).all()
        torch.testing.assert_close(cat, torch.tensor([expected] * 4 + [1.0] * 4).expand(8, 8))
        torch.testing.assert_close(dog, 1 - cat)


def test_attention_is_the_mean_of_softmaxes_that_count_tokens(tiny: Model) -> None:
    """Against softmaxes written out, on random queries: of exp(logit) times how often each token counts."""
    torch.manual_seed(0)
    scene = prepared(tiny, CAT, DOG, Region(name="sky", box=(0.0, 0.0, 1.0, 0.3), phrase="stars"), guidance=1.0)
    (view,), step = scene.compiled.plan.views, scene.steps[0]
    found = view.branches["cond"].tokens  # type: ignore[union-attr]
    to_k, to_v = torch.randn(2, tiny.text.width, 12)
    q = torch.randn(1, 64, 12)
    (asks,) = passes([view], step, per_scene=True)
    call = collate(asks, [torch.randn(4, 8, 8)], step, (), Run())

    def project(tokens: Tensor, loras: object = ()) -> tuple[Tensor, Tensor]:
        return tokens @ to_k, tokens @ to_v

    out = gathered(q, 2, project, Site("layer", (8, 8), "cross"), call.texts)
    expected = torch.zeros(64, 12)
    for piece in found:
        counts = torch.ones(len(piece.value))
        for start, stop, times in piece.counts:
            counts[start:stop] = times
        for own in (slice(0, 6), slice(6, 12)):
            amounts = counts * (q[0][:, own] @ (piece.value @ to_k)[:, own].T / 6**0.5).exp()
            attended = amounts @ (piece.value @ to_v)[:, own] / amounts.sum(1, keepdim=True)
            assert piece.mask is not None
            expected[:, own] += piece.mask.flatten()[:, None] * attended
    torch.testing.assert_close(out[0], expected, atol=1e-4, rtol=1e-4)


def test_merged_scenes_are_separate_scenes(tiny: Model) -> None:
    plans = [prepared(tiny, CAT).compiled.plan, prepared(tiny, DOG, CAT, caption="at night").compiled.plan]
    step = prepared(tiny, CAT).steps[0]
    z = torch.randn(2, 4, 8, 8)
    alone = [predict(plan, own[None], step)[0] for plan, own in zip(plans, z, strict=True)]
    merged = sum((plan.in_scene(str(k)) for k, plan in enumerate(plans)), Plan())
    assert torch.equal(predict(merged, z, step), torch.stack(alone))


@pytest.mark.parametrize(
    ("caption", "phrases", "left"),
    [
        ("a cat and a dog on the beach", ["a cat", "a dog"], "on the beach"),
        ("a cat and a dog on the beach", ["the cat"], "a dog on the beach"),
        ("a cat, a dog and a car at night", ["a car", "a dog", "a cat"], "at night"),
        ("The beach with a Cat", ["cat"], "The beach"),
        ("a photo of a red car", ["red car"], "a photo of"),
        ("a car and a red car", ["a car", "a red car"], ""),
        ("a cat and a cat at night", ["a cat"], "a cat at night"),
        ("a cat and a cat at night", ["a cat", "a cat"], "at night"),
        ("a (red:1.2) car on the beach", ["car"], "a (red:1.2) on the beach"),
        ("a red (car:1.2) on the beach", ["a car"], "a red on the beach"),
        ("cats on the sand, or not", ["a cat"], "cats on the sand, or not"),
        ("", ["a cat"], ""),
    ],
)
def test_the_caption_leaves_out_words_that_name_a_region(
    tiny: Model, caption: str, phrases: list[str], left: str
) -> None:
    regions = [CAT.replace(name=f"{k}", box=(k / 8, 0.0, 1.0, 1.0 - k / 8), phrase=p) for k, p in enumerate(phrases)]
    first, *own = pieces(tiny, *regions, caption=caption)
    assert torch.equal(first.value, prepared(tiny, caption=left).ctx.encoder.text(left).tokens)
    assert [phrase_of(piece) for piece in own] == [tiny.text.token_ids(phrase) for phrase in phrases]


def test_place_words_are_read_and_not_boosted(tiny: Model) -> None:
    caption, cat = pieces(tiny, CAT, method="bounded-words")
    assert torch.equal(caption.value, encoded(tiny, "on the beach"))
    assert torch.equal(cat.value, encoded(tiny, "on the beach, large square in the left, a cat, a cat"))
    assert phrase_of(cat) == tiny.text.token_ids("a cat")


def test_phrases_need_no_room_in_each_other_s_text(tiny: Model) -> None:
    regions = [CAT.replace(name=f"{k}", phrase=" ".join(["car"] * 60)) for k in range(4)]
    assert prepared(tiny, *regions).compiled.dropped == ()
    with pytest.raises(SceneError, match=r'^Region "cat": "on the beach, .*" takes 704 tokens, .* at most 600'):
        pieces(tiny, CAT.replace(phrase=" ".join(["car"] * 700)))


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_a_phrase_that_does_not_fit_its_text_is_whole_in_a_chunk_of_its_own(
    models: dict[str, Model], line: str
) -> None:
    model = models[line]
    long = "on the beach, " + " ".join(["night"] * 72)
    caption, cat = pieces(model, CAT, caption=long)
    assert caption.value.shape[0] == 2 * 77
    assert phrase_of(cat) == model.text.token_ids("a cat")
    assert cat.counts == ((77 + 3, 77 + 5, BOOST),)  # behind the start token, "night" and a comma
    assert torch.equal(cat.value[:77], caption.value[:77])
    huge = CAT.replace(phrase=", ".join(["a red car"] * 25))
    _, car = pieces(model, huge)
    assert car.counts == ((5, 5 + 68, BOOST), (78, 78 + 31, BOOST))  # cut behind the 17th comma
    found = [i for start, stop, _ in car.counts for i in (car.ids or ())[start:stop]]
    assert found == model.text.token_ids(huge.phrase)


def test_pooled_text_is_of_the_caption_and_the_phrases_that_fit(models: dict[str, Model]) -> None:
    xl = models["xl"]
    long = CAT.replace(name="long", box=(0.5, 0.0, 0.7, 0.5), phrase=" ".join(["car"] * 70))

    def pooled(*regions: Region) -> Tensor:
        (view,) = prepared(xl, *regions).compiled.plan.views
        cond = view.branches["cond"]
        assert isinstance(cond, Conditioning)
        assert cond.pooled is not None
        return cond.pooled

    encoder: Any = xl.text
    expected = encoder.encode(pieces_of("on the beach, a cat")).pooled
    assert torch.equal(pooled(CAT), expected)
    assert torch.equal(pooled(CAT, long), expected)


def test_a_schedule_changes_the_boosted_tokens(tiny: Model) -> None:
    views = prepared(tiny, CAT.replace(phrase="a [cat:red dog:0.5]"), steps=4).compiled.plan.views
    found = [view.branches["cond"] for view in views]
    assert [phrase_of(cond.tokens[1]) for cond in found] == [tiny.text.token_ids(t) for t in ("a cat", "a red dog")]  # type: ignore[union-attr]


def test_weighted_words_are_boosted_with_their_phrase(tiny: Model) -> None:
    _, cat = pieces(tiny, CAT.replace(phrase="a (red:1.3) cat"))
    assert phrase_of(cat) == tiny.text.token_ids("a red cat")


@pytest.mark.parametrize("count", [1, 4, 16])
def test_rows_are_those_of_the_caption(tiny: Model, count: int) -> None:
    regions = [Region(name=f"{k}", box=(k / 16, 0.0, (k + 1) / 16, 1.0), phrase="a cat") for k in range(count)]
    scene = Scene(caption="on the beach", regions=tuple(regions), method="bounded", seed=0, steps=2)
    assert generate(scene, tiny, output_type="latent").report["rows"] == 4
