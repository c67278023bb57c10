import pytest
import torch
from methods_of import OF_UNETS
from torch import Tensor

from cloisonne.core.plan import Conditioning, View
from cloisonne.errors import SceneError
from cloisonne.methods.compile import Compiled
from cloisonne.models.model import Model
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.place_words import described_place, place

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def compiled(model: Model, method: str, *regions: Region, caption: str = "on the beach", **fields: object) -> Compiled:
    scene = Scene(caption=caption, regions=regions, method=method, seed=0, **fields)
    return prepare(scene, model).compiled


def said(view: View, branch: str = "cond") -> Conditioning:
    told = view.branches[branch]
    assert isinstance(told, Conditioning)
    return told


def plain(model: Model, text: str) -> Tensor:
    return model.text.encode_ids(model.text.padded_ids(text)).tokens


def test_caption_hears_no_region(tiny: Model) -> None:
    region = Region(box=LEFT, phrase="a cat", negative="dog", guidance=9.0)
    with_it, without = compiled(tiny, "caption", region), compiled(tiny, "caption")
    assert repr(with_it.plan) == repr(without.plan)
    torch.testing.assert_close(said(with_it.plan.views[0]).tokens[0].value, plain(tiny, "on the beach"))
    assert with_it.warnings == (
        'Region "region-0": the method "caption" does not use its phrase and negative and guidance.',
    )


def test_words_say_size_aspect_and_place(tiny: Model) -> None:
    small = Region(name="a", box=(0.0, 0.0, 0.25, 0.25), phrase="a cat")
    large = Region(name="b", box=RIGHT, phrase="a dog")
    found = compiled(tiny, "words", small, large)
    text = "on the beach, large square in the right, a dog, small square in the top left, a cat"
    assert described_place(RIGHT) == "large square in the right"
    torch.testing.assert_close(said(found.plan.views[0]).tokens[0].value, plain(tiny, text))
    text = "large square in the right, a dog"
    (view,) = compiled(tiny, "words", large, caption="").plan.views
    torch.testing.assert_close(said(view).tokens[0].value, plain(tiny, text))


def test_words_drop_whole_regions(tiny: Model) -> None:
    regions = [Region(name=n, box=LEFT, phrase=" ".join(["cat"] * 20), priority=i) for i, n in enumerate("abc")]
    found = compiled(tiny, "words", *regions)
    assert found.dropped == ("a",)
    kept = compiled(tiny, "words", *regions[1:])
    torch.testing.assert_close(said(found.plan.views[0]).tokens[0].value, said(kept.plan.views[0]).tokens[0].value)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.0, 0.0, 0.2, 0.2), "small square in the top left"),
        ((0.4, 0.4, 0.6, 0.6), "small square in the center"),
        ((0.3, 0.7, 0.6, 1.0), "medium square in the bottom"),
        ((0.0, 0.3, 1.0, 0.7), "large long in the center"),
        ((0.9, 0.0, 1.0, 0.3), "small tall in the top right"),
    ],
)
def test_places_in_words(box: tuple[float, float, float, float], words: str) -> None:
    assert described_place(box) == words
    assert words.endswith(place(box))


def test_attention_hears_caption_and_phrase_in_a_region_and_the_caption_elsewhere(tiny: Model) -> None:
    (view,) = compiled(tiny, "attention", Region(box=LEFT, phrase="a cat")).plan.views
    caption, cat = said(view).tokens
    torch.testing.assert_close(caption.value, plain(tiny, "on the beach"))
    torch.testing.assert_close(cat.value, plain(tiny, "on the beach, a cat"))
    assert caption.mask is not None
    assert cat.mask is not None
    assert torch.equal(cat.mask, 1 - caption.mask)
    assert cat.mask[:, :4].eq(1).all()
    assert cat.mask[:, 4:].eq(0).all()
    (view,) = compiled(tiny, "attention", Region(box=LEFT, phrase="a cat"), caption="").plan.views
    torch.testing.assert_close(said(view).tokens[1].value, plain(tiny, "a cat"))


def test_overlap_shares_pixels_by_weight_or_priority(tiny: Model) -> None:
    a = Region(name="a", box=(0.0, 0.0, 1.0, 1.0), phrase="a cat", weight=3.0)
    b = Region(name="b", box=LEFT, phrase="a dog", priority=1)

    def shares(overlap: str) -> list[Tensor]:
        (view,) = compiled(tiny, "attention", a, b, overlap=overlap).plan.views
        return [tokens.mask for tokens in said(view).tokens if tokens.mask is not None]

    for overlap, expected in {"blend": 0.75, "priority": 0.0, "union": 0.5}.items():
        rest, cat, dog = shares(overlap)
        assert rest.eq(0).all()
        torch.testing.assert_close(cat[:, :4], torch.full((8, 4), expected))
        torch.testing.assert_close(cat[:, 4:], torch.ones(8, 4))
        torch.testing.assert_close(dog, 1 - cat)


def test_multidiffusion_has_a_view_a_region(tiny: Model) -> None:
    region = Region(name="pet", box=LEFT, phrase="a cat", negative="dog", guidance=9.0)
    canvas, pet = sorted(
        compiled(tiny, "multidiffusion", region, negative="blue").plan.views, key=lambda view: view.name
    )
    assert (canvas.name, pet.name) == ("canvas", "region pet")
    torch.testing.assert_close(said(canvas).tokens[0].value, plain(tiny, "on the beach"))
    torch.testing.assert_close(said(canvas, "null").tokens[0].value, plain(tiny, "blue"))
    torch.testing.assert_close(said(pet).tokens[0].value, plain(tiny, "on the beach, a cat"))
    torch.testing.assert_close(said(pet, "null").tokens[0].value, plain(tiny, "blue, dog"))
    assert (canvas.guide.scale, pet.guide.scale) == (4.0, 9.0)  # type: ignore[attr-defined]
    assert torch.equal(pet.weight, 1 - canvas.weight)


@pytest.mark.parametrize("method", ["attention", "multidiffusion"])
def test_text_that_is_too_long_names_its_region(tiny: Model, method: str) -> None:
    region = Region(name="pet", box=LEFT, phrase=" ".join(["cat"] * 599))
    with pytest.raises(SceneError, match=r'^Region "pet": "on the beach, .*" takes 603 tokens, .* at most 600'):
        compiled(tiny, method, region)


@pytest.mark.parametrize("method", ["reco", "bounded", "attention", "multidiffusion", "words"])
def test_negative_that_is_too_long_names_its_region(tiny: Model, method: str) -> None:
    region = Region(name="pet", box=LEFT, phrase="a cat", negative=" ".join(["dog"] * 601))
    with pytest.raises(SceneError, match=r'^Region "pet": "dog .*" takes 601 tokens'):
        compiled(tiny, method, region)


@pytest.mark.parametrize("method", ["reco", "bounded", "attention", "words"])
def test_negatives_share_the_null_row_as_their_regions_share_the_canvas(tiny: Model, method: str) -> None:
    left = Region(name="a", box=LEFT, phrase="a cat", negative="dog")
    right = Region(name="b", box=(0.5, 0.0, 1.0, 0.5), phrase="a car")
    (view,) = compiled(tiny, method, left, right, negative="blue").plan.views
    own = {tuple(t.value.flatten().tolist()): t.mask for t in said(view, "null").tokens}
    assert len(own) == 2
    dog, everywhere_else = (own[tuple(plain(tiny, text).flatten().tolist())] for text in ("blue, dog", "blue"))
    assert dog is not None
    assert everywhere_else is not None
    assert dog[:, :4].eq(1).all()
    assert dog[:, 4:].eq(0).all()
    assert torch.equal(everywhere_else, 1 - dog)
    (view,) = compiled(tiny, method, right, negative="blue").plan.views
    (piece,) = said(view, "null").tokens
    assert piece.mask is None


@pytest.mark.parametrize("method", ["reco", "bounded", "attention", "words"])
def test_guidance_of_regions_is_a_map(tiny: Model, method: str) -> None:
    half = Region(name="a", box=LEFT, phrase="a cat", guidance=8.0)
    other = Region(name="b", box=(0.25, 0.0, 0.75, 1.0), phrase="a car", guidance=2.0)
    (view,) = compiled(tiny, method, half, other, guidance=4.0).plan.views
    scale = view.guide.scale  # type: ignore[attr-defined]
    torch.testing.assert_close(scale, torch.tensor([8.0, 8, 5, 5, 2, 2, 4, 4]).expand(8, 8))
    (view,) = compiled(tiny, method, half, guidance=8.0).plan.views
    assert view.guide.scale == 8.0  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", OF_UNETS)
def test_rescale_and_interval_of_guidance_are_the_scene_s(tiny: Model, method: str) -> None:
    found = compiled(tiny, method, Region(box=LEFT, phrase="a cat"), guidance_rescale=0.5, guidance_interval=(0.2, 0.7))
    for view in found.plan.views:
        guide = view.guide
        assert (guide.interval.start, guide.interval.stop) == (0.2, 0.7)  # type: ignore[attr-defined]
        assert (guide.rescale.amount, guide.rescale.prediction) == (0.5, "v_prediction")  # type: ignore[attr-defined]
