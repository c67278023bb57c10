import pytest
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.plan import Conditioning, Tokens
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.compile import Compiled
from cloisonne.methods.reco import Vocabulary, normalise, sequence
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

BOX = (0.0, 0.2, 0.5, 1.0)


def compiled(model: Model, *regions: Region, caption: str = "on the beach") -> Compiled:
    return prepare(Scene(caption=caption, regions=regions, method="reco", seed=0), model).compiled


def told(found: Compiled) -> tuple[Tokens, ...]:
    (view,) = found.plan.views
    said = view.branches["cond"]
    assert isinstance(said, Conditioning)
    return said.tokens


def encoded(model: Model, caption: str, *regions: tuple[tuple[float, float, float, float], str]) -> Tensor:
    ids, kept = sequence(model.text.tokenizer, caption, regions)
    assert len(kept) == len(regions)
    return model.text.encode_ids(ids).tokens


def test_published_sequence(tiny: Model) -> None:
    """[BOS] caption [EOS] x0 y0 x1 y1 [BOS] phrase [EOS] ... [EOS] padding; bins are the nearest of 16."""
    tokenizer = tiny.text.tokenizer
    ids, kept = sequence(tokenizer, "on the beach", [(BOX, "a red cat")])
    named = tokenizer.convert_ids_to_tokens(ids)
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = [start, "on</w>", "the</w>", "beach</w>", end, "<bin000>", "<bin003>", "<bin008>", "<bin015>"]
    words += [start, "a</w>", "red</w>", "cat</w>", end]
    assert named == words + [end] * (77 - len(words))
    assert kept == [0]


def test_without_regions_the_sequence_is_the_plain_prompt(tiny: Model) -> None:
    (piece,) = told(compiled(tiny))
    torch.testing.assert_close(piece.value, tiny.text.encode_ids(tiny.text.padded_ids("on the beach")).tokens)
    assert piece.mask is None


def test_regions_come_in_canonical_order(tiny: Model) -> None:
    """Area descending, then name."""
    small = Region(name="a", box=(0.0, 0.0, 0.25, 0.25), phrase="a cat")
    first = Region(name="b", box=BOX, phrase="a dog")
    second = Region(name="c", box=BOX, phrase="a car")
    (piece,) = told(compiled(tiny, second, small, first))
    expected = encoded(tiny, "on the beach", (BOX, "a dog"), (BOX, "a car"), ((0.0, 0.0, 0.25, 0.25), "a cat"))
    torch.testing.assert_close(piece.value, expected)


@pytest.mark.parametrize(
    "shape",
    [
        {"ellipse": BOX},
        {"polygon": [(0.0, 0.2), (0.5, 0.2), (0.5, 1.0), (0.25, 1.0)]},
        {"box": BOX, "feather": 0.4},
    ],
)
def test_shapes_are_said_by_their_boxes(tiny: Model, shape: dict[str, object]) -> None:
    (piece,) = told(compiled(tiny, Region(phrase="a cat", **shape)))
    torch.testing.assert_close(piece.value, encoded(tiny, "on the beach", (BOX, "a cat")))


def test_masks_are_said_by_the_box_of_what_is_half_opaque(tiny: Model) -> None:
    import numpy as np

    mask = np.full((40, 40), 0.1)
    mask[8:, :20] = 0.5
    (piece,) = told(compiled(tiny, Region(phrase="a cat", mask=mask)))
    torch.testing.assert_close(piece.value, encoded(tiny, "on the beach", (BOX, "a cat")))


def test_strict_tokens_are_looked_at_from_inside_only(tiny: Model) -> None:
    strict = Region(name="a", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", strict=True)
    loose = Region(name="b", box=(0.5, 0.0, 1.0, 0.5), phrase="a dog")
    pieces = told(compiled(tiny, strict, loose))
    plain = encoded(tiny, "on the beach", ((0.0, 0.0, 0.5, 1.0), "a cat"), ((0.5, 0.0, 1.0, 0.5), "a dog"))
    torch.testing.assert_close(torch.cat([piece.value for piece in pieces]), plain)
    assert [len(piece.value) for piece in pieces] == [5, 8, 8, 56]
    assert [piece.bias_mask is not None for piece in pieces] == [False, True, False, False]
    assert all(piece.mask is None for piece in pieces)
    within = pieces[1].bias_mask
    assert within is not None
    assert within[:, :4].eq(1).all()
    assert within[:, 4:].eq(0).all()


def region(name: str, words: int, *, side: float = 0.5, priority: int = 0) -> Region:
    """A region that takes words + 6 tokens."""
    return Region(name=name, box=(0.0, 0.0, side, side), phrase=" ".join(["cat"] * words), priority=priority)


def test_control_without_words_says_the_caption_beside_words() -> None:
    model = load("builtin")
    drawing = {"kind": "canny", "image": Image.new("L", (128, 128))}
    edges = Region(name="b", box=(0.5, 0.0, 1.0, 1.0), control=drawing)
    loose = Region(name="a", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
    (piece,) = told(compiled(model, edges, loose))
    torch.testing.assert_close(
        piece.value, encoded(model, "on the beach", (edges.box, "on the beach"), (loose.box, "a cat"))
    )
    (piece,) = told(compiled(model, edges))
    torch.testing.assert_close(piece.value, encoded(model, "on the beach"))
    long = " ".join(["beach"] * (model.text.length // 2))
    (piece,) = told(compiled(model, edges, loose, caption=long))
    torch.testing.assert_close(piece.value, encoded(model, long, (loose.box, "a cat")))


def test_whole_regions_are_dropped_lowest_priority_first_then_smallest(tiny: Model) -> None:
    """The caption takes 5 of 77 tokens: 72 are left, four regions of 18."""
    fits = [region(name, 12) for name in "abcd"]
    assert compiled(tiny, *fits).dropped == ()
    assert compiled(tiny, *fits, region("small", 12, side=0.25)).dropped == ("small",)
    assert compiled(tiny, *fits, region("small", 12, side=0.25, priority=1)).dropped == ("d",)
    found = compiled(tiny, region("low", 12, side=1.0, priority=-1), *fits)
    assert found.dropped == ("low",)
    (piece,) = told(found)
    box = (0.0, 0.0, 0.5, 0.5)
    torch.testing.assert_close(piece.value, encoded(tiny, "on the beach", *[(box, r.phrase) for r in fits]))


@pytest.mark.parametrize("order", ["abcde", "edcba", "cadbe"])
def test_of_equal_regions_the_scenes_last_ones_are_dropped(tiny: Model, order: str) -> None:
    found = compiled(tiny, *(region(name, 12) for name in order))
    assert found.dropped == (order[-1],)


def test_dropped_regions_change_nothing_else(tiny: Model) -> None:
    fits = [region(name, 12) for name in "abcd"]
    low = region("low", 12, priority=-1).replace(seed=5, guidance=9.0, negative="dog")
    without, with_it = compiled(tiny, *fits), compiled(tiny, *fits, low)
    assert with_it.seeds == ()
    assert repr(with_it.plan) == repr(without.plan)


def test_phrase_that_never_fits_is_an_error(tiny: Model) -> None:
    with pytest.raises(SceneError, match=r'^Region "pet": Its phrase takes 76 tokens .* at most 72; shorten'):
        compiled(tiny, region("pet", 70))


def test_caption_that_does_not_fit_is_an_error(tiny: Model) -> None:
    with pytest.raises(
        SceneError, match=r"^The caption takes 80 tokens, but the model reads at most 77; shorten it\.$"
    ):
        compiled(tiny, caption=" ".join(["cat"] * 78))


def test_position_tokens_are_needed(tiny_sd: object) -> None:
    with pytest.raises(CapabilityError, match=r"position tokens .* choose the method bounded"):
        compiled(load(str(tiny_sd)), region("pet", 1))


def test_weight_is_how_often_a_token_counts(tiny: Model) -> None:
    """In the softmax of its sequence; a region of weight 2 counts as if its tokens were there twice."""
    pieces = told(compiled(tiny, region("pet", 1).replace(weight=2.0)))
    within = [piece.bias_mask for piece in pieces]
    assert [mask is not None for mask in within] == [False, True, False]
    assert within[1] is not None
    assert within[1].eq(2).all()
    assert len(told(compiled(tiny, region("pet", 1)))) == 1


def test_higher_priority_hides_the_tokens_below(tiny: Model) -> None:
    above = Region(name="a", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", priority=1)
    below = Region(name="b", box=(0.0, 0.0, 1.0, 1.0), phrase="a dog")
    hidden, seen = (
        told(prepare(Scene(caption="x", regions=(above, below), overlap=overlap), tiny).compiled)
        for overlap in ("priority", "blend")
    )
    within = hidden[1].bias_mask
    assert within is not None
    assert within[:, :4].eq(0).all()
    assert within[:, 4:].eq(1).all()
    assert [piece.bias_mask is None for piece in hidden] == [True, False, True, True]
    assert len(seen) == 1


def test_vocabulary_must_be_consecutive(tiny: Model) -> None:
    class Tokenizer:
        bos_token_id = eos_token_id = 0
        model_max_length = 77

        def get_vocab(self) -> dict[str, int]:
            return {"<bin000>": 5, "<bin001>": 9}

    with pytest.raises(CapabilityError, match="2 position tokens are not consecutive"):
        Vocabulary.of(Tokenizer())


@pytest.mark.parametrize("bins", [16, 128, 1000])
def test_positions_round_trip_within_half_a_bin(bins: int) -> None:
    v = Vocabulary(start=0, end=1, first_bin=7, bins=bins, length=77)
    values = [i / 4096 for i in range(4097)]
    ids = [v.position(value) for value in values]
    assert ids == sorted(ids)
    assert (ids[0], ids[-1]) == (7, 7 + bins - 1)
    worst = max(abs((i - 7) / (bins - 1) - value) for i, value in zip(ids, values, strict=True))
    assert worst <= 0.5 / (bins - 1) + 1e-12


def test_published_text_clean_up() -> None:
    assert normalise("..A  Red-haired/blond  cat ") == "a red haired blond cat"
