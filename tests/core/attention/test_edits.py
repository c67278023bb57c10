"""Attention control by values equals attention control by maps, and costs no map."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cloisonne.core.attention.edits import Fading, ShareSelf, ShareWords, Until, aligned, by_position
from cloisonne.core.attention.regional import gathered, self_attention, text_attention
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.attention.token_maps import TokenMaps
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Call, Conditioning, Interval, Plan, Row, Site, Step, View
from cloisonne.core.run import AttentionReadings, Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim
from cloisonne.core.schedule import Schedule
from cloisonne.errors import CapabilityError

HEADS, WIDTH, GRID = 4, 8, (6, 5)
ROWS = (
    Row("canvas", "before", "cond"),
    Row("canvas", "before", "null"),
    Row("canvas", "after", "cond"),
    Row("canvas", "after", "null"),
    Row("other", "after", "cond"),
)
SOURCE, TARGET, UNEDITED = 0, 2, (0, 1, 3, 4)


def step(progress: float = 0.0) -> Step:
    return Step(index=int(progress * 10), count=10, t=500, alpha=0.6, s=0.8, t_next=400, alpha_next=0.7, s_next=0.7)


def queries() -> Tensor:
    return torch.randn(len(ROWS), GRID[0] * GRID[1], HEADS * WIDTH, generator=torch.Generator().manual_seed(0))


def texts(words: Callable[..., Tensor], count: int = 7) -> TextSequences:
    return TextSequences([TextSequence(i, words(i, count)) for i in range(len(ROWS))], len(ROWS))


def call_of(edits: Sequence[Any], said: TextSequences, at: Step) -> Call:
    return Call(z=torch.zeros(len(ROWS), 4, 6, 5), step=at, rows=ROWS, texts=said, edits=tuple(edits))


def project(tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tokens @ torch.linspace(-1, 1, 32 * 32).view(32, 32), tokens @ torch.linspace(1, -0.5, 32 * 32).view(32, 32)


def cross(edits: Sequence[Any], words: Callable[..., Tensor], progress: float = 0.0) -> Tensor:
    call = call_of(edits, texts(words), step(progress))
    return text_attention(queries(), HEADS, project, Site("layer", GRID, "cross"), call, gathered)


def split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, WIDTH)).transpose(-3, -2)


def maps(words: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """p [R, heads, Q, T] and v [R, heads, T, d] of the unedited layer, in full."""
    k, v = (split(x) for x in project(torch.stack([words(i) for i in range(len(ROWS))])))
    return (split(queries()) @ k.transpose(-1, -2) * WIDTH**-0.5).softmax(-1), v


def heard(p: Tensor, v: Tensor) -> Tensor:
    return (p @ v).transpose(-3, -2).flatten(-2)


PLACES = ((0, 0), (0, 10), (1, 0))
"""Row and step."""
MAPPING = torch.zeros(7, 7)
MAPPING[[0, 1, 2, 5], [0, 1, 3, 6]] = 1
"""Words 2, 4 and 5 of the target have no counterpart."""


def test_replacing_is_the_source_s_map(words: Callable[..., Tensor]) -> None:
    mapping = torch.eye(7)
    mapping[:, 3] = 0
    mapping[2, 3] = mapping[3, 3] = 0.5
    edited = cross([ShareWords(source="before", target="after", mapping=mapping)], words)
    p, v = maps(words)
    p[TARGET] = p[SOURCE] @ mapping
    torch.testing.assert_close(edited[TARGET], heard(p, v)[TARGET], atol=1e-5, rtol=0)
    torch.testing.assert_close(edited[list(UNEDITED)], cross([], words)[list(UNEDITED)], atol=1e-5, rtol=0)


@pytest.mark.parametrize("progress", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("reweighted", [False, True])
def test_refining_keeps_new_words_and_reweighting_scales_them(
    progress: float, reweighted: bool, words: Callable[..., Tensor]
) -> None:
    weights = torch.tensor([1, 1, 2, 0.5, 1, -1, 1.0]) if reweighted else None
    edit = ShareWords(source="before", target="after", mapping=MAPPING, weights=weights, ramp=Fading(0.5))
    p, v = maps(words)
    a = (1 - progress / 0.5) * (MAPPING.sum(0) > 0).float()
    p[TARGET] = a * (p[SOURCE] @ MAPPING) + (1 - a) * p[TARGET]
    p[TARGET] *= 1 if weights is None else weights
    torch.testing.assert_close(cross([edit], words, progress)[TARGET], heard(p, v)[TARGET], atol=1e-5, rtol=0)


def test_after_its_window_only_weights_are_left(words: Callable[..., Tensor]) -> None:
    edit = ShareWords(source="before", target="after", mapping=MAPPING, ramp=Until(0.3))
    assert torch.equal(cross([edit], words, 0.3), cross([], words))
    weighed = ShareWords(source="before", target="after", mapping=MAPPING, weights=torch.full((7,), 2.0), ramp=Until(0))
    torch.testing.assert_close(cross([weighed], words)[TARGET], 2 * cross([], words)[TARGET], atol=1e-5, rtol=0)


@pytest.mark.parametrize("with_others", [False, True])
def test_sharing_self_attention_is_copying_the_map(with_others: bool) -> None:
    q = queries()
    k, v, site = q.flip(1), q.roll(3, 1), Site("layer", GRID, "self")
    more = [ShareSelf(source="before", target="after", branches=("null",))] if with_others else []
    edits = [ShareSelf(source="before", target="after"), *more]
    edited = self_attention(q, k, v, HEADS, site, call_of(edits, TextSequences([], 5), step()))
    p = (split(q) @ split(k).transpose(-1, -2) * WIDTH**-0.5).softmax(-1)
    p[TARGET] = p[SOURCE]
    if with_others:
        p[3] = p[1]
    torch.testing.assert_close(edited, heard(p, split(v)), atol=1e-5, rtol=0)


def test_sharing_stops_with_its_interval_and_above_its_size() -> None:
    site, said = Site("layer", GRID, "self"), TextSequences([], 5)
    for edit, at in (
        (ShareSelf(source="before", target="after", when=Interval(0, 0.5)), 0.5),
        (ShareSelf(source="before", target="after", most=29), 0.0),
        (ShareSelf(source="elsewhere", target="after"), 0.0),
        (ShareSelf(source="before", target="after", view="nothing"), 0.0),
    ):
        assert not edit.touches(site, call_of([], said, step(at)))


def test_word_maps_are_the_probabilities(words: Callable[..., Tensor]) -> None:
    # More words than a head is wide, so that they are read in two parts.
    said, many = tuple(range(11)), 12
    reader = TokenMaps(stream="after", words=said, grid=GRID, view="canvas")
    call = call_of([reader], texts(words, many), step())
    for _ in range(2):
        text_attention(queries(), HEADS, project, Site("layer", GRID, "cross"), call, gathered)
    k = split(project(words(TARGET, many))[0])
    p = (split(queries()[TARGET]) @ k.transpose(-1, -2) * WIDTH**-0.5).softmax(-1)
    expected = p.mean(0)[:, list(said)].T.unflatten(1, GRID)
    torch.testing.assert_close(reader.mean(call.run), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(reader.mean(call.run, 0), expected, atol=1e-5, rtol=0)
    assert call.run.maps[reader].steps == (0,)
    assert reader.mean(call.run, 1) is None


def test_word_maps_of_a_region_s_own_text(words: Callable[..., Tensor]) -> None:
    # The target hears two texts, the second one on the left; words are counted through both.
    left = torch.zeros(*GRID)
    left[:, :2] = 1
    heard = [TextSequence(i, words(i, 7)) for i in range(len(ROWS)) if i != TARGET]
    both = [TextSequence(TARGET, words(20, 5), mask=1 - left), TextSequence(TARGET, words(21, 6), mask=left)]
    reader = TokenMaps(stream="after", words=(7, 8), grid=GRID, view="canvas")
    call = call_of([reader], TextSequences([*heard, *both], len(ROWS)), step())
    text_attention(queries(), HEADS, project, Site("layer", GRID, "cross"), call, gathered)
    k = split(project(words(21, 6))[0])
    p = (split(queries()[TARGET]) @ k.transpose(-1, -2) * WIDTH**-0.5).softmax(-1)
    expected = p.mean(0)[:, [2, 3]].T.unflatten(1, GRID) * left
    torch.testing.assert_close(reader.mean(call.run), expected, atol=1e-5, rtol=0)


def test_reading_changes_nothing(words: Callable[..., Tensor]) -> None:
    reader = TokenMaps(stream="after", words=(1, 2), grid=GRID)
    torch.testing.assert_close(cross([reader], words), cross([], words), atol=1e-5, rtol=0)
    assert TokenMaps(stream="a", words=(1,), grid=GRID).mean(Run()) is None


def test_maps_are_the_mean_over_rows_of_the_mean_over_readings() -> None:
    read = AttentionReadings()
    maps = {(row, at): torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(row + at)) for row, at in PLACES}
    for (row, at), own in maps.items():
        read.add(row, at, own)
    expected = torch.stack([torch.stack([maps[0, 0], maps[0, 10]]).mean(0), maps[1, 0]]).mean(0)
    torch.testing.assert_close(read.mean(), expected)
    torch.testing.assert_close(read.mean(10), maps[0, 10])
    assert read.steps == (0, 10)
    assert AttentionReadings().mean() is None


def test_alignment_follows_equal_words() -> None:
    mapping = aligned([9, 1, 2, 3, 8], [9, 1, 7, 2, 8])
    assert mapping.nonzero().tolist() == [[0, 0], [1, 1], [2, 3], [4, 4]]
    assert torch.equal(aligned([1, 2], [1, 2]), torch.eye(2))


def test_a_word_may_stand_for_several() -> None:
    mapping = by_position({2: (2, 3)}, 5, 4)
    assert mapping[:, 2].tolist() == [0, 0, 0.5, 0.5, 0]
    assert torch.equal(mapping[:, 3], torch.tensor([0, 0, 0, 1.0, 0]))


def test_regions_that_share_a_canvas_s_words_are_refused(words: Callable[..., Tensor]) -> None:
    left = torch.zeros(6, 5)
    left[:, :2] = 1
    said = TextSequences(
        [TextSequence(i, words(i + k), where) for i in range(5) for k, where in enumerate((left, 1 - left))], 5
    )
    edit = ShareWords(source="before", target="after", mapping=MAPPING)
    with pytest.raises(CapabilityError, match="multidiffusion"):
        text_attention(queries(), HEADS, project, Site("layer", GRID, "cross"), call_of([edit], said, step()), gathered)


def test_a_walk_of_two_canvases_reaches_all_layers_and_keeps_the_source(
    view: Callable[..., View], say: Callable[..., Conditioning], schedule: Schedule, words: Callable[..., Tensor]
) -> None:
    before = view("canvas", say(1), say(0), stream="before")
    after = view("canvas", say(2), say(0), stream="after")
    touched: set[str] = set()

    class Counting(ShareSelf):
        def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
            touched.add(site.layer)
            return super().qkv(q, k, v, site, call)

    edits = (
        Counting(source="before", target="after", when=Interval(0, 0.5)),
        ShareWords(source="before", target="after", mapping=torch.eye(7)),
    )
    steps = schedule.steps(6, ends_clean=False)
    noise = Noise([Seed(1)], (4, 16, 16))()
    z = torch.cat([noise, noise])
    run = Run()
    out = sample(Plan(views=(before, after), edits=edits), Ddim(), z, steps, noise=lambda: torch.zeros(0), run=run)
    free = sample(Plan(views=(before, after)), Ddim(), z, steps, noise=lambda: torch.zeros(0))
    source, target = (Plan(views=(before, after)).streams.index(name) for name in ("before", "after"))
    torch.testing.assert_close(out[source], free[source], atol=1e-4, rtol=1e-4)
    assert (out[target] - free[target]).abs().max() > 0.01
    assert run.rows == 6 * 4
    assert len(touched) == len([name for name in before.net.unet.attn_processors if "attn1" in name])  # type: ignore[attr-defined]
