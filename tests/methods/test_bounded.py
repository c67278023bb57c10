"""What a bias bounds a phrase to, and where there is nothing to bound."""

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_checkpoint
from torch import Tensor

from cloisonne.core.attention.joint import JointLayout, Segment
from cloisonne.core.attention.regional import gathered
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import Conditioning, Plan, Site, Tokens
from cloisonne.core.predict import predict
from cloisonne.errors import SceneError
from cloisonne.methods import METHODS
from cloisonne.methods.bounded import BOOST, Bounded
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import Prepared, prepare
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
    """The text of the canvas: the caption, or its parts, and the regions' phrases."""
    (view,) = prepared(model, *regions, **fields).compiled.plan.views
    cond = view.branches["cond"]
    assert isinstance(cond, Conditioning)
    return cond.tokens


def encoded(model: Model, text: str) -> Tensor:
    return model.text.encode(model.text.ids(text))


def words(model: Model, text: str) -> int:
    return len(model.text.words(text))


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
    weighted = scene.replace(regions=(region.replace(weight=2.0),))
    assert not torch.equal(generate(weighted, models[line], output_type="latent").latents, latents[0])


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_tokens_are_of_texts_that_know_no_other_region(models: dict[str, Model], line: str) -> None:
    model = models[line]
    caption, dog, cat = pieces(model, CAT, DOG)  # the larger region first
    if dog.region == "cat":
        dog, cat = cat, dog
    assert torch.equal(caption.value, encoded(model, "on the beach"))
    assert caption.bias_mask is None
    for piece, phrase in ((cat, "a cat"), (dog, "a red dog")):
        text = f"on the beach, {phrase}"
        end = 1 + words(model, text)
        assert torch.equal(piece.value, encoded(model, text)[end - words(model, phrase) : end + 1])
        assert piece.ids == tuple(model.text.ids(text)[end - words(model, phrase) : end + 1])
        assert piece.mask is None


def test_a_token_counts_boost_times_weight_times_mask(tiny: Model) -> None:
    for region in (CAT, DOG):
        _, piece = pieces(tiny, region)
        (placed,) = prepared(tiny, region).placed
        expected = torch.from_numpy(placed.mask) * BOOST * region.weight
        assert piece.bias_mask is not None
        torch.testing.assert_close(piece.bias_mask, expected, check_dtype=False)


def test_overlap_rules_are_those_of_the_scene(tiny: Model) -> None:
    back = Region(name="back", box=WHOLE, phrase="a cat", weight=3.0)
    front = Region(name="front", box=LEFT, phrase="a dog", priority=1)

    def counts(overlap: str) -> list[Tensor]:
        return [p.bias_mask / BOOST for p in pieces(tiny, back, front, overlap=overlap) if p.bias_mask is not None]

    for overlap, (left, right) in {"blend": (3.0, 3.0), "priority": (0.0, 3.0), "union": (1.0, 1.0)}.items():
        cat, dog = counts(overlap)
        torch.testing.assert_close(cat, torch.tensor([left] * 4 + [right] * 4).expand(8, 8))
        torch.testing.assert_close(dog, torch.tensor([1.0] * 4 + [0.0] * 4).expand(8, 8))


def test_attention_is_one_softmax_that_counts_tokens(tiny: Model) -> None:
    """Against a softmax written out, on random queries: of exp(logit) times how often each token counts."""
    torch.manual_seed(0)
    found = pieces(tiny, CAT, DOG, Region(name="sky", box=(0.0, 0.0, 1.0, 0.3), phrase="stars"))
    width, heads = tiny.text.width, 2
    to_k, to_v = torch.randn(2, width, 12)
    q = torch.randn(1, 64, 12)
    ends = torch.tensor([len(p.value) for p in found]).cumsum(0).tolist()
    biases = tuple(
        (end - len(p.value), end, p.bias_mask) for p, end in zip(found, ends, strict=True) if p.bias_mask is not None
    )
    value = torch.cat([p.value for p in found])
    texts = TextSequences([TextSequence(0, value, None, biases)], 1)

    def project(tokens: Tensor, loras: object = ()) -> tuple[Tensor, Tensor]:
        return tokens @ to_k, tokens @ to_v

    out = gathered(q, heads, project, Site("layer", (8, 8), "cross"), texts)
    ones = torch.ones(8, 8)
    masks = [(ones if p.bias_mask is None else p.bias_mask).flatten()[:, None].expand(-1, len(p.value)) for p in found]
    counts = torch.cat(masks, dim=1)
    for head in range(heads):
        own = slice(6 * head, 6 * head + 6)
        amounts = counts * (q[0][:, own] @ (value @ to_k)[:, own].T / 6**0.5).exp()
        expected = amounts @ (value @ to_v)[:, own] / amounts.sum(1, keepdim=True)
        torch.testing.assert_close(out[0][:, own], expected, atol=1e-4, rtol=1e-4)


def test_a_boost_bounds_what_a_pixel_attends_to(tiny: Model) -> None:
    """No token of a phrase counts outside its region, whatever the boost."""
    _, piece = pieces(tiny, CAT)
    bias = TextSequence(0, piece.value, None, ((0, len(piece.value), piece.bias_mask),)).bias((8, 8))  # type: ignore[arg-type]
    assert bias is not None
    bias = bias.view(8, 8, -1)
    assert (bias[:, :4] == torch.tensor(BOOST).log()).all()
    assert (bias[:, 4:].exp() < 1e-30).all()


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
    assert torch.equal(first.value, prepared(tiny, caption=left).ctx.encode(left).tokens)
    for piece, phrase in zip(own, phrases, strict=True):
        assert piece.ids is not None
        assert list(piece.ids[:-1]) == model_words(tiny, phrase)


def model_words(model: Model, text: str) -> list[int]:
    return model.text.words(text)


def test_place_words_bound_the_phrases_where_they_stand(tiny: Model) -> None:
    right = Region(name="dog", box=(0.5, 0.0, 0.9, 1.0), phrase="a red dog")
    found = pieces(tiny, CAT, right, method="bounded-words")
    text = "on the beach, large square in the left, a cat, large tall in the right, a red dog"
    assert torch.equal(torch.cat([p.value for p in found]), encoded(tiny, text))
    assert [p.region for p in found if p.bias_mask is not None] == ["cat", "dog"]
    for piece, phrase, region in zip(found[1::2], ("a cat", "a red dog"), (CAT, right), strict=False):
        assert piece.ids == tuple(tiny.text.words(phrase))
        assert piece.bias_mask is not None
        torch.testing.assert_close(
            piece.bias_mask, BOOST * torch.from_numpy(prepared(tiny, region).placed[0].mask), check_dtype=False
        )


def test_place_words_without_room_are_of_a_text_of_their_own(tiny: Model) -> None:
    long = CAT.replace(name="long", box=(0.5, 0.0, 0.7, 0.5), phrase=" ".join(["car"] * 40))
    caption = " ".join(["night"] * 20)
    *shared, last = pieces(tiny, CAT, long, caption=caption, method="bounded-words")
    assert sum(len(p.value) for p in shared) == tiny.text.length
    assert [p.region for p in shared if p.region] == ["cat"]
    assert last.ids is not None
    assert list(last.ids[:-1]) == tiny.text.words(long.phrase)


def test_joint_attention_takes_the_same_biases(tiny: Model) -> None:
    """As segments of one sequence with the image: a pixel's row of the mask is its bias in cross-attention."""
    found = pieces(tiny, CAT, DOG)
    ends = list(accumulate(len(p.value) for p in found))
    spans = [(end - len(p.value), end, p.bias_mask) for p, end in zip(found, ends, strict=True)]
    segments = tuple(Segment(a, b, None if mask is None else mask.flatten()) for a, b, mask in spans)
    joint = JointLayout(segments, (ends[-1], ends[-1] + 64)).bias()[ends[-1] :, : ends[-1]]
    value = torch.cat([p.value for p in found])
    biased = tuple((a, b, mask) for a, b, mask in spans if mask is not None)
    cross = TextSequence(0, value, None, biased).bias((8, 8))
    assert cross is not None
    torch.testing.assert_close(joint.softmax(-1), cross.softmax(-1))


def test_phrases_need_no_room_in_each_other_s_text(tiny: Model) -> None:
    regions = [CAT.replace(name=f"{k}", phrase=" ".join(["car"] * 60)) for k in range(4)]
    found = prepared(tiny, *regions)
    assert found.compiled.dropped == ()
    with pytest.raises(SceneError, match=r'^Region "cat": "on the beach, .*" takes 79 tokens, .* at most 75'):
        pieces(tiny, CAT.replace(phrase=" ".join(["car"] * 75)))


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
    expected = encoder.say(encoder.ids("on the beach, a cat")).pooled
    assert torch.equal(pooled(CAT), expected)
    assert torch.equal(pooled(CAT, long), expected)


def test_a_schedule_changes_the_phrase_and_its_tokens(tiny: Model) -> None:
    region = CAT.replace(phrase="a [cat:dog:0.5]")
    views = prepared(tiny, region, steps=4).compiled.plan.views
    for view, phrase in zip(views, ("a cat", "a dog"), strict=True):
        cond = view.branches["cond"]
        assert isinstance(cond, Conditioning)
        text = f"on the beach, {phrase}"
        end = 1 + words(tiny, text)
        assert torch.equal(cond.tokens[-1].value, encoded(tiny, text)[end - words(tiny, phrase) : end + 1])


@pytest.mark.parametrize("count", [1, 4, 16])
def test_attention_grows_by_the_phrases_alone(tiny: Model, count: int) -> None:
    """Rows of a batch are those of the caption; its keys are a sequence and the tokens of each phrase."""
    regions = [Region(name=f"{k}", box=(k / 16, 0.0, (k + 1) / 16, 1.0), phrase="a cat") for k in range(count)]
    found = pieces(tiny, *regions)
    assert sum(len(p.value) for p in found) == tiny.text.length + count * (words(tiny, "a cat") + 1)
    assert all(p.mask is None for p in found)
    scene = Scene(caption="on the beach", regions=tuple(regions), method="bounded", seed=0, steps=2)
    assert generate(scene, tiny, output_type="latent").report["rows"] == 4


def test_the_null_branch_is_plain(tiny: Model) -> None:
    (view,) = prepared(tiny, CAT, DOG, negative="blue").compiled.plan.views
    null = view.branches["null"]
    assert isinstance(null, Conditioning)
    (piece,) = null.tokens
    assert torch.equal(piece.value, encoded(tiny, "blue"))
    assert piece.bias_mask is None
