"""ReCo's published strings give the ids of our own sequence."""

import pytest
from tiny import tiny_tokenizer

from cloisonne.errors import SceneError
from cloisonne.methods.reco import sequence
from cloisonne.scene import Scene, from_reco, hub_string
from cloisonne.scene.shapes.geometry import Box

REGIONS: list[tuple[Box, str]] = [
    ((k / 40, k / 50, 0.5 + k / 41, 0.5 + k / 42), word)
    for k, word in enumerate(["a cat", "a red car", "a dog", "stars"] * 5)
]


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("length", [616, 120])
def test_hub_string_gives_the_same_ids(count: int, length: int) -> None:
    """Over the budget too: then whole regions are left out of both."""
    tokenizer = tiny_tokenizer(1000)
    tokenizer.model_max_length = length
    regions = REGIONS[:count]
    ids, kept = sequence(tokenizer, "on the beach", regions)
    text = hub_string("on the beach", [regions[k] for k in kept])
    assert (len(kept) < count) == (length == 120 and count == 20)
    assert tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids == ids


def test_official_string_gives_the_same_ids() -> None:
    tokenizer = tiny_tokenizer(1000)
    tokenizer.model_max_length = 616
    scene = from_reco("on the beach <546> <621> <885> <861> a red car <000> <0> <999> <42> stars")
    assert (scene.caption, [region.phrase for region in scene.regions]) == ("on the beach", ["a red car", "stars"])
    boxes = [region.box for region in scene.regions]
    regions = [(box, region.phrase) for box, region in zip(boxes, scene.regions, strict=True) if box]
    written = (
        "on the beach <|endoftext|> <bin546> <bin621> <bin885> <bin861> <|startoftext|> a red car "
        "<|endoftext|> <bin000> <bin000> <bin999> <bin042> <|startoftext|> stars"
    )
    assert hub_string("on the beach", regions) == written
    ids = sequence(tokenizer, "on the beach", regions)[0]
    assert tokenizer(written, padding="max_length", max_length=616).input_ids == ids


def test_shift_of_the_official_script_is_there_when_asked_for() -> None:
    asked = "a <546> <0> <1000> <500> cat"
    first = from_reco(asked, official_bins=True).regions[0].box
    assert first is not None
    assert hub_string("a", [(first, "cat")]).split()[2:6] == ["<bin545>", "<bin000>", "<bin999>", "<bin500>"]
    plain = from_reco("a <546> <0> <999> <500> cat").regions[0].box
    assert plain is not None
    assert hub_string("a", [(plain, "cat")]).split()[2:6] == ["<bin546>", "<bin000>", "<bin999>", "<bin500>"]


def test_without_regions_it_is_the_caption() -> None:
    assert from_reco("a red cat") == Scene(caption="a red cat")
    assert hub_string("a red cat", []) == "a red cat"


@pytest.mark.parametrize("text", ["a <1> <2> <3> cat", "a <1> <2> <30> <40> cat <5> dog", "<1> <2> <3> <4> <5> cat"])
def test_positions_come_in_fours(text: str) -> None:
    with pytest.raises(SceneError, match="without exactly four positions"):
        from_reco(text)


def test_positions_lie_on_the_canvas() -> None:
    with pytest.raises(SceneError, match=r'^Region "region-0": .*outside the canvas'):
        from_reco("a <1> <2> <1000> <40> cat")
