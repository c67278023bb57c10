"""Text attention by region: the gathered form is the dense definition, and without regions it is stock attention."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from cloisonne.core.attention.regional import dense, gathered, self_attention, text_attention
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import AttentionEdit, Call, Conditioning, Plan, Row, Site, Step, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.models.unet.denoiser import UNetDenoiser

HEADS, GRID = 2, (16, 16)
SITE = Site("layer", GRID, "cross")
STEP = Step(index=0, count=1, t=500, alpha=0.6, s=0.8, t_next=0, alpha_next=1, s_next=0)


def project(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer with 32 channels for tokens of width 32."""
    generator = torch.Generator().manual_seed(8)
    to_k, to_v = torch.randn(2, 32, 32, generator=generator) / 4
    return tokens @ to_k, tokens @ to_v


def queries(rows: int, grid: tuple[int, int] = GRID) -> Tensor:
    return torch.randn(rows, grid[0] * grid[1], 32, generator=torch.Generator().manual_seed(2))


def columns(count: int) -> Tensor:
    """[count, 16, 16] disjoint hard masks: vertical stripes."""
    return F.one_hot(torch.arange(16) * count // 16, count).T[:, None, :].expand(-1, 16, -1).float()


def attention_flops(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(q, k, v)


CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
"""What torch's counter leaves out."""

Words = Callable[..., Tensor]


def soft_texts(words: Words, soft: Tensor) -> list[TextSequence]:
    return [TextSequence(0, words(i, 5 + i % 3), mask) for i, mask in enumerate(soft)] + [TextSequence(1, words(9, 11))]


def striped_texts(words: Words, soft: Tensor) -> list[TextSequence]:
    return [TextSequence(row, words(i), mask) for row in (0, 1) for i, mask in enumerate(columns(4 + row))]


def mixed_texts(words: Words, soft: Tensor) -> list[TextSequence]:
    return [
        TextSequence(0, words(0, 20)),
        TextSequence(0, words(1), soft[1]),
        TextSequence(1, words(2), soft[2]),
        TextSequence(1, words(3)),
    ]


def strict_texts(words: Words, soft: Tensor) -> list[TextSequence]:
    within = ((3, 6, soft[0]), (6, 9, soft[1] / 2))
    return [
        TextSequence(0, words(0, 12), None, within),
        TextSequence(1, words(1), soft[0], within),
        TextSequence(1, words(2, 12)),
    ]


def strict_rows(words: Words, soft: Tensor) -> list[TextSequence]:
    return [TextSequence(row, words(row, 12), None, ((3, 6, soft[row]),)) for row in (0, 1)]


def counted_texts(words: Words, soft: Tensor) -> list[TextSequence]:
    return [
        TextSequence(0, words(0, 12), soft[0], counts=((3, 6, 20.0), (9, 12, 0.5))),
        TextSequence(0, words(1)),
        TextSequence(1, words(2, 12), None, ((4, 6, soft[2]),), ((0, 1, 300.0), (5, 6, 3.0))),
    ]


def counted_stripes(words: Words, soft: Tensor) -> list[TextSequence]:
    """Counts alone, and next to a mask of the same launch."""
    own = [TextSequence(0, words(i), mask, counts=((2, 2 + i, 300.0),)) for i, mask in enumerate(columns(4), 1)]
    return [
        *own,
        *(replace(text, row=1, bias_masks=((0, 2, soft[1]),)) for text in own[:1]),
        *(replace(text, row=1) for text in own[1:]),
    ]


CASES = [soft_texts, striped_texts, mixed_texts, strict_texts, strict_rows, counted_texts, counted_stripes]


@pytest.mark.parametrize("grid", [(16, 16), (4, 4), (3, 5), (1, 1)])
def test_a_small_region_with_a_peak_has_a_cell_of_its_own(grid: tuple[int, int], words: Words) -> None:
    small, large = torch.zeros(2, 16, 16)
    small[1:3, 6:9] = 1
    large[8:, :8] = 1
    texts = [
        TextSequence(0, words(0), 1 - small - large),
        TextSequence(0, words(1), small, peak=True),
        TextSequence(0, words(2), large, peak=True),
    ]
    plain = [replace(text, peak=False) for text in texts]
    shares, means = (TextSequences(own, 1).shares(grid) for own in (texts, plain))
    torch.testing.assert_close(shares.sum(0), torch.ones(grid[0] * grid[1]))
    if grid == (1, 1):
        torch.testing.assert_close(shares.flatten(), torch.tensor([0.0, 0.5, 0.5]))
    else:
        assert shares[1].max() == shares[2].max() == 1
        assert (shares[0] <= means[0] + 1e-6).all()
        assert (shares[1][means[1] == 0] == 0).all()
    if grid == (16, 16):
        assert torch.equal(shares, means)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("grid", [(16, 16), (8, 8), (4, 4), (3, 5), (1, 1)])
def test_gathered_is_dense(
    case: Callable[..., list[TextSequence]], grid: tuple[int, int], words: Words, soft: Tensor
) -> None:
    q, site = queries(2, grid), Site("layer", grid, "cross")
    texts = TextSequences(case(words, soft), 2)
    out = [form(q, HEADS, project, site, texts) for form in (gathered, dense)]
    torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_dense_is_the_written_definition(case: Callable[..., list[TextSequence]], words: Words, soft: Tensor) -> None:
    """out(p) = sum_r w_r(p) Attn(q_p; K_r, V_r) / sum_r w_r(p), pixel by pixel."""
    q, texts = queries(2), case(words, soft)
    out = dense(q, HEADS, project, SITE, TextSequences(texts, 2))
    for row, p in [(0, 0), (0, 77), (1, 130), (1, 255)]:
        total, weight = torch.zeros(32), 0.0
        for text in (text for text in texts if text.row == row):
            w = 1.0 if text.mask is None else text.mask.flatten()[p].item()
            bias = torch.zeros(len(text.value))
            for start, stop, mask in text.bias_masks:
                bias[start:stop] += mask.flatten()[p].log()
            for start, stop, times in text.counts:
                bias[start:stop] += math.log(times)
            k, v = (x.view(-1, HEADS, 16) for x in project(text.value))
            own = q[row, p].view(HEADS, 16)
            attention = ((own * k).sum(-1).T / 4 + bias).softmax(-1)
            total += w * torch.einsum("hn,nhd->hd", attention, v).flatten()
            weight += w
        torch.testing.assert_close(out[row, p], total / weight, atol=1e-5, rtol=0)


def test_order_of_texts_is_irrelevant(words: Words, soft: Tensor) -> None:
    texts = soft_texts(words, soft)
    out = [gathered(queries(2), HEADS, project, SITE, TextSequences(t, 2)) for t in (texts, texts[::-1])]
    torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=0)


def test_text_is_heard_only_inside_its_mask(words: Words) -> None:
    stripes = columns(4)
    texts = [TextSequence(0, words(i), mask) for i, mask in enumerate(stripes)]
    other = [*texts[:2], TextSequence(0, words(99), stripes[2]), texts[3]]
    before, after = (gathered(queries(1), HEADS, project, SITE, TextSequences(t, 1)) for t in (texts, other))
    outside = stripes[2].flatten() == 0
    assert torch.equal(before[:, outside], after[:, outside])
    assert ((before - after).abs().amax(-1)[:, ~outside] > 0).all()


def test_strict_tokens_are_not_seen_from_outside(words: Words) -> None:
    left = columns(2)[0]
    own = words(0, 12)
    other = torch.cat([own[:4], words(5, 4), own[8:]])
    before, after = (
        gathered(queries(1), HEADS, project, SITE, TextSequences([TextSequence(0, value, None, ((4, 8, left),))], 1))
        for value in (own, other)
    )
    outside = left.flatten() == 0
    torch.testing.assert_close(before[:, outside], after[:, outside], atol=1e-6, rtol=0)
    assert (before - after).abs()[:, ~outside].max() > 0.01


def test_strict_everywhere_is_not_strict(words: Words) -> None:
    texts = [[TextSequence(0, words(0, 12), None, within)] for within in ((), ((4, 8, torch.ones(16, 16)),))]
    out = [gathered(queries(1), HEADS, project, SITE, TextSequences(t, 1)) for t in texts]
    torch.testing.assert_close(out[0], out[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("counts", [(), ((2, 4, 300.0),)])
@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_attention_work_does_not_grow_with_disjoint_regions(
    count: int, counts: tuple[tuple[int, int, float], ...], words: Words
) -> None:
    def flops(texts: list[TextSequence], form: Any) -> int:
        together = TextSequences(texts, 1)
        form(queries(1), HEADS, project, SITE, together)
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            form(queries(1), HEADS, project, SITE, together)
        return counter.get_total_flops()

    texts = [TextSequence(0, words(i), mask, counts=counts) for i, mask in enumerate(columns(count))]
    biases = [block.bias for block in TextSequences(texts, 1).gathering(GRID).blocks]
    assert all(bias is None if not counts else bias is not None and bias.shape[2] == 1 for bias in biases)
    one = flops([TextSequence(0, words(0))], gathered)
    assert one == 4 * 16 * 16 * 7 * 32
    assert flops(texts, gathered) == one
    assert flops(texts, dense) == count * one


def test_regions_of_like_size_share_a_launch(words: Words) -> None:
    """Small grids would otherwise spend their time in launching kernels; large ones in attending to padding."""
    widths = [1, 1, 1, 1, 2, 2, 2, 2, 4]
    masks = F.one_hot(torch.repeat_interleave(torch.arange(9), torch.tensor(widths)), 9).T[:, None, :]
    texts = TextSequences([TextSequence(0, words(i), mask.float().expand(16, 16)) for i, mask in enumerate(masks)], 1)
    assert [len(block.texts) for block in texts.gathering((4, 4)).blocks] == [9]
    wide = TextSequences(
        [TextSequence(0, words(i, 77), mask.float().expand(16, 16)) for i, mask in enumerate(masks)], 1
    )
    assert [block.queries for block in wide.gathering((16, 16)).blocks] == [64, 32, 16]


# The whole network.


def call_of(z: Tensor, texts: Sequence[TextSequence], edits: tuple[Any, ...] = ()) -> Call:
    rows = tuple(Row("canvas", "image", f"branch {i}") for i in range(len(z)))
    return Call(z=z, step=STEP, rows=rows, texts=TextSequences(texts, len(z)), edits=edits)


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (8, 24), (15, 13)])
def test_seam_is_bit_identical_to_stock_attention(
    size: tuple[int, int], stock: UNet2DConditionModel, nets: Mapping[str, UNetDenoiser], words: Words
) -> None:
    z = torch.randn(2, 4, *size)
    expected = stock(z, 500, torch.stack([words(0), words(1)])).sample
    assert torch.equal(nets["sample"](call_of(z, [TextSequence(0, words(0)), TextSequence(1, words(1))])), expected)


@torch.no_grad()
def test_full_canvas_text_is_the_plain_prompt(nets: Mapping[str, UNetDenoiser], words: Words) -> None:
    z = torch.randn(2, 4, 16, 16)
    full = [TextSequence(0, words(0), torch.full((16, 16), 0.7)), TextSequence(1, words(1), torch.ones(16, 16))]
    plain = [TextSequence(0, words(0)), TextSequence(1, words(1))]
    assert torch.equal(nets["sample"](call_of(z, full)), nets["sample"](call_of(z, plain)))


@torch.no_grad()
def test_network_is_the_same_gathered_and_dense(nets: Mapping[str, UNetDenoiser], words: Words, soft: Tensor) -> None:
    z = torch.randn(2, 4, 16, 16)
    call = call_of(z, soft_texts(words, soft))
    oracle = UNetDenoiser(deepcopy(nets["sample"].unet), nets["sample"].spec, dense)
    torch.testing.assert_close(nets["sample"](call), oracle(call), atol=1e-5, rtol=0)


@torch.no_grad()
def test_text_is_projected_once_a_run_and_the_cache_changes_no_bit(
    net: UNetDenoiser, view: Callable[..., View], say: Callable[..., Conditioning], left: Tensor
) -> None:
    cond, null = say(1, mask=left) + say(2, mask=1 - left, count=9), say(0)
    plan = Plan(views=(view("canvas", cond, null), view("second", cond, null)))
    projections: list[str] = []
    layers = [(n, m) for n, m in net.unet.named_modules() if n.endswith(("attn2.to_k", "attn2.to_v"))]
    handles = [m.register_forward_hook(lambda *_, n=n: projections.append(n)) for n, m in layers]
    run, z = Run(), torch.randn(1, 4, 16, 16)
    kept = [predict(plan, z, STEP, run) for _ in range(3)]
    once = len(projections)
    fresh = predict(plan, z, STEP)
    for handle in handles:
        handle.remove()
    assert len(projections) == 2 * once, "three steps of a run project as often as one step without a run"
    assert all(torch.equal(x0, fresh) for x0 in kept)


@torch.no_grad()
def test_branch_that_speaks_anew_is_heard_anew(view: Callable[..., View], say: Callable[..., Conditioning]) -> None:
    """Null text fitted by step: what is kept of the step before must not be used."""
    spoken = iter([say(3), say(4)])
    plan = Plan(views=(view("canvas", say(1), lambda z, step: next(spoken)),))
    run, z = Run(), torch.randn(1, 4, 16, 16)
    for seed in (3, 4):
        expected = predict(Plan(views=(view("canvas", say(1), say(seed)),)), z, STEP)
        assert torch.equal(predict(plan, z, STEP, run), expected)


# Edits.


@dataclass(frozen=True)
class Nothing(AttentionEdit):
    """An edit that changes nothing, on the way it is told to go."""

    cross: bool
    reads: bool

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross == self.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return self.reads

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]))
        return p

    def in_scene(self, scene: str) -> Self:
        return self


@torch.no_grad()
@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_edit_that_reads_probabilities_and_changes_nothing(
    case: Callable[..., list[TextSequence]], cross: bool, nets: Mapping[str, UNetDenoiser], words: Words, soft: Tensor
) -> None:
    z, texts = torch.randn(2, 4, 16, 16), case(words, soft)
    out = [nets["sample"](call_of(z, texts, edits)) for edits in ((), (Nothing(cross, reads=True),))]
    torch.testing.assert_close(out[0], out[1], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("cross", [False, True])
def test_edit_without_probabilities_keeps_the_fused_kernel(
    cross: bool, nets: Mapping[str, UNetDenoiser], words: Words
) -> None:
    z, texts = torch.randn(2, 4, 16, 16), [TextSequence(0, words(0)), TextSequence(1, words(1))]
    out = [nets["sample"](call_of(z, texts, edits)) for edits in ((), (Nothing(cross, reads=False),))]
    assert torch.equal(out[0], out[1])


@dataclass(frozen=True)
class Replace(Nothing):
    """Row 1 attends with the map of row 0, by probabilities or by queries and keys."""

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        if self.reads:
            return q, k, v
        return torch.stack([q[0], q[0]]), torch.stack([k[0], k[0]]), v

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        return torch.stack([p[0], p[0]])


@pytest.mark.parametrize("cross", [False, True])
def test_copying_queries_and_keys_is_replacing_the_map(cross: bool, words: Words) -> None:
    q, site = queries(2), Site("layer", GRID, "cross" if cross else "self")

    def attend(*edits: Replace) -> Tensor:
        call = call_of(torch.zeros(2, 4, 16, 16), [TextSequence(0, words(0)), TextSequence(1, words(1))], edits)
        if cross:
            return text_attention(q, HEADS, project, site, call, gathered)
        return self_attention(q, q.flip(1), q.roll(3, 1), HEADS, site, call)

    plain, copied, replaced = attend(), attend(Replace(cross, reads=False)), attend(Replace(cross, reads=True))
    torch.testing.assert_close(copied, replaced, atol=1e-5, rtol=0)
    torch.testing.assert_close(copied[0], plain[0], atol=1e-5, rtol=0)
    assert (copied[1] - plain[1]).abs().max() > 0.01


def test_spans_follow_each_other_in_their_row(words: Words, soft: Tensor) -> None:
    texts = TextSequences(soft_texts(words, soft), 2)
    spans = [span for text, span in zip(texts.texts, texts.spans(), strict=True) if text.row == 0]
    assert spans[0][0] == 0
    assert all(a[1] == b[0] for a, b in pairwise(spans))
