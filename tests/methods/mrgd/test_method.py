"""MRGD's windows, policies, losses, and what it reads off the attention."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.core.attention.edits import ShareSelf, ShareWords
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import Box, Call, Row, Site
from cloisonne.core.run import Run
from cloisonne.core.step import Step
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods.mrgd.attention import BOOST, Boosted, ClearWords, histogram_entropy, spans_of
from cloisonne.methods.mrgd.losses import LATENT, PUBLISHED, Losses, RegionEnergy, Wanted, contrast, preserved_loss
from cloisonne.methods.mrgd.method import AFTER, BEFORE, PRESETS, latent_box, whole_from, window_feather
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit, editing_of
from cloisonne.pipelines.editing.losses import _wanted
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.editing.plan import half_plan, joining
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAR = Region(name="car", box=(0.0, 0.0, 0.5, 0.6), edit={"kind": "change", "from": "red car", "to": "blue car"})
SAME = CAR.replace(edit={"kind": "change", "from": "red car", "to": "red car"})
CAT = Region(name="cat", box=(0.5, 0.3, 1.0, 1.0), phrase="cat")
BALLOON = Region(name="sky", box=(0.2, 0.05, 0.9, 0.6), edit={"kind": "add", "phrase": "a red balloon"})
HAT = Region(name="hat", box=(0.3, 0.3, 0.8, 0.9), edit={"kind": "add", "phrase": "dog"})


def scene(*regions: Region, **fields: Any) -> Scene:
    return Scene(caption="on the beach", seed=3, steps=4, regions=regions, **fields)


def step(index: int = 0, count: int = 20, alpha: float = 0.6) -> Step:
    s = math.sqrt(1 - alpha**2)
    return Step(index=index, count=count, t=500, alpha=alpha, s=s, t_next=400, alpha_next=0.7, s_next=math.sqrt(0.51))


class Colours:
    """Finds a text where the picture has its colour: red, green or blue by its length."""

    def encode_texts(self, texts: list[str]) -> Tensor:
        return torch.eye(3)[[len(text) % 3 for text in texts]]

    def image_features(self, pictures: Tensor, *, normalise: bool = True) -> Tensor:
        return pictures

    def logits(self, image_features: Tensor, text_embeddings: Tensor) -> Tensor:
        return 4 * torch.einsum("chw,nc->nhw", image_features[0], text_embeddings)


def energy(**changes: Any) -> RegionEnergy:
    box = torch.zeros(8, 8)
    box[:, :4] = 1
    wanted = [
        Wanted(name="a", box=box, home=box, before="red", after="red"),
        Wanted(name="b", box=1 - box, home=1 - box, before="", after="bluer"),
    ]
    given: Any = {"loss_rs": 1000.0} | changes
    weights = Losses(**given)
    return RegionEnergy(
        source=BEFORE,
        target=AFTER,
        wanted=wanted,
        preserved=torch.ones(8, 8),
        weights=weights,
        segmenter=Colours(),
        decode=lambda latents: latents[:, :3].repeat_interleave(2, -1).repeat_interleave(2, -2),
    )


def test_windows_are_cut_as_published() -> None:
    assert latent_box((0.0, 0.1, 0.51, 0.62), (64, 64)) == Box(6, 0, 40, 33)
    assert latent_box((0.9, 0.9, 1.0, 1.0), (8, 8)) == Box(7, 7, 8, 8)


def test_feather_is_nothing_at_the_border_and_all_inside() -> None:
    feather = window_feather(40, 20, 0.5)
    assert feather.shape == (40, 20)
    assert float(feather[0].max()) == float(feather[:, -1].max()) == 0
    assert float(feather[3, 10]) == pytest.approx((3 / 5) ** 2)
    assert float(feather[5:-5, 5:-5].min()) == 1
    assert bool((window_feather(2, 2, 0.2) == 1).all())


@pytest.mark.parametrize("preset", ["official", "p2p", "multidiffusion"])
def test_the_views_of_a_canvas_cover_it_once(tiny: Model, preset: str) -> None:
    editing = replace(PRESETS[preset], loss_rs=0.0, loss_is=0.0, loss_ip=0.0)
    pair = Pair.of(scene(CAR, CAT, HAT), tiny, "multidiffusion")
    for half, stream in ((pair.before, BEFORE), (pair.after, AFTER)):
        views = half_plan(pair, half, stream, editing).views
        assert len({view.key for view in views}) == len(views)
        for index in (0, 3):
            total = torch.zeros(pair.grid)
            for view in views:
                if step(index, 4) in view.when:
                    total[view.box.window if view.box else ...] += view.weight
            assert torch.allclose(total, torch.ones(pair.grid), atol=1e-5)


def test_the_whole_picture_joins_late(tiny: Model) -> None:
    pair = Pair.of(scene(CAR, CAT), tiny, "multidiffusion")
    views = half_plan(pair, pair.after, AFTER, PRESETS["official"]).views
    (whole,) = (view for view in views if view.name == "whole")
    assert whole.when.start == whole_from(["change"], 4) > 0
    assert whole_from(["change"], 20) == pytest.approx(9 / 20)
    assert whole_from(["change", "add"], 20) == pytest.approx(7 / 20)


@pytest.mark.parametrize("preset", ["follow", "p2p"])
@pytest.mark.parametrize("regions", [(SAME,), (SAME, CAT)], ids=["edit", "edit and region"])
def test_pictures_that_are_told_the_same_are_the_same(tiny: Model, preset: str, regions: tuple[Region, ...]) -> None:
    made = edit(scene(*regions), tiny, preset=preset)
    assert np.abs(np.asarray(made.named["raw"]).astype(int) - np.asarray(made.named["before"])).max() <= 1


@pytest.mark.parametrize("preset", ["p2p", "multidiffusion"])
def test_presets_draw_pairs_and_their_record_makes_them_again(tiny: Model, preset: str) -> None:
    made = edit(scene(CAR, CAT, HAT), tiny, preset=preset)
    assert made.report["identical_outside"] is True
    assert dict(made.scene.editing)["preset"] == preset
    again = edit(Scene.from_json(made.scene.to_json()), tiny)
    assert np.array_equal(np.asarray(again.image), np.asarray(made.image))


def test_policies_follow_what_regions_are(tiny: Model) -> None:
    pair = Pair.of(scene(CAR, CAT, HAT), tiny, "multidiffusion")
    editing = PRESETS["p2p"]
    both = half_plan(pair, pair.before, BEFORE, editing) + half_plan(pair, pair.after, AFTER, editing)
    edits = joining(pair, both, editing, None).edits
    words = {e.view: e.ramp.stop for e in edits if isinstance(e, ShareWords)}
    looks = {e.view: e.when.stop for e in edits if isinstance(e, ShareSelf)}
    assert words == {"canvas": 1.0, "region car": 0.6, "region cat": 1.0}
    assert looks == {"canvas": 0.5, "region car": 0.3, "region cat": 0.7}


def test_seen_outside_is_penalised_and_nothing_else_moves() -> None:
    own = energy()
    x0 = torch.zeros(2, 4, 8, 8)
    x0[:, 0] = -50.0
    x0[:, 2] = -50.0
    assert float(own.loss(x0, step(), Run())) == pytest.approx(0, abs=1e-4)
    x0[1, 0, :, 6] = 1.0
    moved = own(x0, x0, step(), Run())
    assert torch.equal(moved[0], x0[0])
    assert bool((moved[1, 0, :, 6] < 1.0).all())
    untouched = torch.ones(8, 8, dtype=torch.bool)
    untouched[:, 6] = False
    assert torch.allclose(moved[1, 0][untouched], x0[1, 0][untouched], atol=1e-4)


def test_the_step_is_that_of_the_published_correction_of_noise() -> None:
    own = energy()
    generator = torch.Generator().manual_seed(0)
    x0, z = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 4, 8, 8, generator=generator)
    at = step()
    free = x0[1].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(own.loss(torch.stack([x0[0], free]), at, Run()), [free])
    eps = (z[1] - at.alpha * x0[1]) / at.s + at.s * LATENT * slope * (x0[1].numel() / PUBLISHED)
    assert torch.allclose(own(x0, z, at, Run())[1], (z[1] - at.s * eps) / at.alpha, atol=1e-5)


def test_the_change_of_a_step_is_bounded() -> None:
    x0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    moved = energy(loss_rs=1e9, limit=0.1)(x0, x0, step(), Run())
    assert float((moved[1] - x0[1]).norm()) == pytest.approx(0.1 * float(x0[1].norm()), rel=1e-4)


def test_losses_count_in_their_windows() -> None:
    x0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    preserved = energy(loss_rs=0.0, loss_ip=300.0)
    assert float(preserved.loss(x0, step(2), Run())) == 0
    early, late = float(preserved.loss(x0, step(8), Run())), float(preserved.loss(x0, step(9), Run()))
    assert early == pytest.approx(2 * late) != 0
    own = energy(loss_rs=0.0, loss_is=2000.0)
    shared = replace(own, wanted=[own.wanted[0], replace(own.wanted[1], before="bluer")])
    assert float(shared.loss(x0, step(4), Run())) == 0
    assert float(shared.loss(x0, step(5), Run())) > 0


def test_what_is_gone_is_not_seen_in_its_place() -> None:
    own = energy(loss_rs=0.0, loss_gone=1000.0)
    gone = replace(own, wanted=[replace(own.wanted[0], after="")])
    x0 = torch.zeros(2, 4, 8, 8)
    x0[1, 0] = 1.0
    moved = gone(x0, x0, step(), Run())
    assert bool((moved[1, 0, :, :4] < 1).all())
    assert torch.equal(moved[1, 0, :, 4:], x0[1, 0, :, 4:])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_official_contrast_has_little_range(count: int) -> None:
    apart = torch.eye(count)
    alike = torch.ones(count, count)
    assert float(contrast(apart, apart, "official")) == pytest.approx(math.log(math.e + count - 1) - 1, abs=1e-5)
    assert float(contrast(alike, alike, "official")) == pytest.approx(math.log(count), abs=1e-5)
    assert float(contrast(apart, apart, "infonce")) == pytest.approx(0, abs=1e-4)


def test_what_is_kept_is_measured_where_it_is_kept() -> None:
    pictures, latents = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 2, 2)
    latents[1, :, 0, 0] = 2.0
    preserved = torch.ones(2, 2)
    assert float(preserved_loss(pictures, latents, preserved)) == pytest.approx(4 * 4 / 16)
    preserved[0, 0] = 0
    assert float(preserved_loss(pictures, latents, preserved)) == 0


def test_a_map_of_one_place_is_clearer_than_a_vague_one() -> None:
    sharp = torch.zeros(16, 16)
    sharp[3, 3] = 1
    vague = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    assert histogram_entropy(sharp) < 0.1 < 5 < histogram_entropy(vague)


def call(*rows: Row) -> Call:
    texts = TextSequences([TextSequence(i, torch.zeros(3, 2)) for i in range(len(rows))], len(rows))
    return Call(z=torch.zeros(len(rows), 4, 4, 4), step=step(), rows=rows, texts=texts)


def test_the_clearest_words_are_found() -> None:
    words = ClearWords(view="whole")
    row = Row("whole", BEFORE, "cond")
    k = torch.zeros(1, 1, 3, 2)
    k[0, 0] = torch.tensor([[0.0, 1.0], [40.0, 0.0], [0.0, -1.0]])
    q = torch.randn(1, 1, 16, 2, generator=torch.Generator().manual_seed(0))
    q[..., 0] = -5
    q[0, 0, 5, 0] = 5
    at = call(row)
    words.qkv(q, k, torch.zeros(1, 1, 3, 2), Site("down_blocks.0.attn2", (4, 4), "cross", "down"), at)
    assert words.clearest(BEFORE, [0, 1, 2], 1, at.run) == [1]
    assert words.clearest(AFTER, [0, 1, 2], 1, at.run) == []
    assert words.clearest(BEFORE, [0, 1, 2], 1, Run()) == []


@pytest.mark.parametrize("mode", ["additive", "official"])
def test_keys_where_the_words_are_asked_for_count_more(mode: Any) -> None:
    row, other = Row("whole", BEFORE, "cond"), Row("region a", BEFORE, "cond")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 16, 8, generator=generator) for _ in range(3))
    text = torch.randn(2, 2, 3, 8, generator=generator)
    boosted = Boosted(view="whole", mode=mode, source=BEFORE, tokens={BEFORE: (1,)})
    cross, own = (
        Site("down_blocks.0.attn2", (4, 4), "cross", "down"),
        Site("down_blocks.0.attn1", (4, 4), "self", "down"),
    )
    at = call(row, other)
    assert not boosted.touches(own, at)
    boosted.qkv(q, text, text, cross, at)
    assert boosted.touches(own, at)
    assert not boosted.touches(own, call(row, other)), "another run"
    assert not boosted.touches(Site("up_blocks.0.attn1", (4, 4), "self", "up"), at)
    asked = (q[0] @ text[0, :, 1][..., None]).sum(0)[:, 0]
    places = asked.topk(8).indices
    logits = q @ k.transpose(-1, -2) / 8**0.5
    if mode == "additive":
        logits[0, :, :, places] += math.log(BOOST)
    else:
        logits[0, :, :, places] *= BOOST
    edited = boosted.qkv(q, k, v, own, at)
    made = torch.nn.functional.scaled_dot_product_attention(*edited)
    assert torch.allclose(made, logits.softmax(-1) @ v, atol=1e-5)


def test_phrases_are_found_in_what_is_heard() -> None:
    ids = [1, 7, 8, 3, 7, 8, 2]
    assert spans_of(ids, {"a": [7, 8], "b": [7, 8], "c": [9], "d": []}) == {"a": [1, 2], "b": [4, 5], "c": [], "d": []}


def test_what_a_way_of_editing_lacks_is_said(tiny: Model) -> None:
    with pytest.raises(SceneError, match=r'no preset "nice".*follow'):
        editing_of("nice", {})
    with pytest.raises(SceneError, match='has no "colour"'):
        editing_of("follow", {"colour": 1})
    for wrong in (
        {"boost": "much"},
        {"loss_rs": -1},
        {"self_attention_share": 2},
        {"keywords": 1.5},
        {"follow": "yes"},
    ):
        with pytest.raises(SceneError, match=rf"{next(iter(wrong))} is "):
            editing_of("follow", wrong)
    with pytest.raises(CapabilityError, match="CLIPSeg"):
        edit(scene(CAR), tiny, preset="mrgd")


def test_what_is_new_is_drawn_where_it_belongs() -> None:
    own = energy(loss_rs=0.0, loss_seen=1000.0)
    x0 = torch.zeros(2, 4, 8, 8)
    moved = own(x0, x0, step(), Run())
    assert bool((moved[1, 2, :, 4:] > 0).all())
    assert torch.equal(moved[1, :, :, :4], x0[1, :, :, :4])


def test_a_tight_edit_changes_the_thing_and_not_its_region() -> None:
    family = load("builtin")
    given = Scene(caption="in a meadow", seed=0, steps=6, regions=[BALLOON])
    loose, tight = (edit(given, family, preset="follow", paste_changed_only=own) for own in (False, True))
    assert np.array_equal(np.asarray(loose.named["before"]), np.asarray(tight.named["before"]))
    changed = [np.asarray(made.named["difference"]).max(-1) > 0 for made in (loose, tight)]
    inside = BALLOON.soft_mask(*changed[0].shape) > 0
    assert not changed[1][~inside].any()
    assert 0.05 * inside.sum() < changed[1].sum() < changed[0].sum()
    assert tight.report["identical_outside"] is True


def test_what_is_looked_for_has_no_weights(tiny: Model) -> None:
    heavy = CAR.replace(edit={"kind": "change", "from": "a (red:1.3) car", "to": "a [blue] car"})
    (wanted,) = _wanted(Pair.of(scene(heavy), tiny))
    assert (wanted.before, wanted.after) == ("a red car", "a blue car")


def test_an_edit_below_other_regions_is_drawn_too() -> None:
    below = BALLOON.replace(priority=-1)
    made = edit(Scene(caption="in a meadow", seed=0, steps=6, regions=[below]), load("builtin"))
    assert np.asarray(made.named["difference"]).any()


def test_things_come_from_near_and_go_with_all_in_sight() -> None:
    ours = PRESETS["mrgd"]
    assert [ours.close_up_for(kinds) for kinds in (["add"], ["change", "add"], ["remove"], ["change", "remove"])] == [
        2,
        2,
        0,
        0,
    ]
    assert replace(ours, close_up=3.0).close_up_for(["remove"]) == 3
    assert {PRESETS[name].close_up_for(["add"]) for name in ("official", "p2p", "multidiffusion")} == {0}
