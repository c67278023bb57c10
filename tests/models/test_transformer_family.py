"""A family of transformers is a row in the table and a denoiser: scenes draw with it through all that is shared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformer_family import FAMILY, WIDTH, TransformerDenoiser, TwoTextEncoders, tiny_transformer

from cloisonne.core.plan import Conditioning
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.models.unet.denoiser import unet_of
from cloisonne.pipelines.attention_maps.token_spans import read_words
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.conditions.control import Control
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.prompt import Piece, pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
CAR = Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a (red:1.5) car", negative="dog")
SCENE = Scene(caption="on the beach", seed=3, regions=(CAT, CAR))
METHODS = ("bounded", "attention", "multidiffusion", "words", "caption")


@pytest.fixture(autouse=True)
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_transformer()


def latents(scene: Scene, model: Model) -> torch.Tensor:
    return generate(scene, model, output_type="latent").latents[0]


def test_both_networks_are_denoisers(model: Model, tiny_sd: Path) -> None:
    assert isinstance(model.net, Denoiser)
    assert isinstance(load(tiny_sd).net, Denoiser)


@pytest.mark.parametrize("method", METHODS)
def test_two_regions_are_drawn(model: Model, method: str) -> None:
    scene = SCENE.replace(method=method)
    one, two = generate(scene, model), generate(scene, model)
    assert one.image.size == (64, 64)
    assert one.latents.shape == (1, 16, 32, 32)
    assert bool(torch.isfinite(one.latents).all())
    assert one.image.tobytes() == two.image.tobytes()
    plain = latents(SCENE.replace(method="caption"), model)
    assert torch.equal(one.latents[0], plain) == (method == "caption")


@pytest.mark.parametrize("method", ["attention", "multidiffusion"])
def test_a_phrase_changes_its_region_alone(method: str) -> None:
    """With one block and one step, what a pixel attends to is all that a phrase can change."""
    shallow = tiny_transformer(blocks=1)
    scene = SCENE.replace(steps=1, method=method)
    before = latents(scene, shallow)
    after = latents(scene.replace(regions=(CAT.replace(phrase="a blue dog"), CAR)), shallow)
    changed = (before != after).any(0)
    assert bool(changed[:16, :16].any())
    changed[:16, :16] = False
    assert not bool(changed.any())


def test_phrases_are_boosted_in_both_texts(model: Model) -> None:
    """The sequences of both encoders hold the phrase; a boost of 1 is attention."""
    (view,) = prepare(SCENE.replace(method="bounded", regions=(CAT,)), model).compiled.plan.views
    (_, cat) = view.branches["cond"].tokens  # type: ignore[union-attr]
    starts = (3, 6, 24 + 3, 24 + 6)  # behind "on the beach," and behind "a cat ,"
    assert [(start, stop) for start, stop, _ in cat.counts] == [(start, start + 2) for start in starts]
    once = SCENE.replace(method="bounded", region_boost=1)
    attention = SCENE.replace(method="attention", regions=once.regions)
    texts = [prepare(scene, model).compiled.plan.views[0].branches["cond"].tokens for scene in (once, attention)]  # type: ignore[union-attr]
    assert all(torch.equal(a.value, b.value) for a, b in zip(*texts, strict=True))


def test_the_caption_reaches_what_no_region_covers(model: Model) -> None:
    shallow = tiny_transformer(blocks=1)
    null = SCENE.replace(steps=1, guidance=1.0)
    changed = (latents(null, shallow) != latents(null.replace(caption="in the sky"), shallow)).any(0)
    assert bool(changed[:16, 16:].all())


def test_the_steps_depend_on_the_image_tokens(model: Model) -> None:
    steps = {side: prepare(SCENE.replace(width=side, height=64), model).steps for side in (64, 128)}
    assert steps[64] == model.schedule.steps(3, ends_clean=True, num_tokens=16 * 16)
    assert steps[128] == model.schedule.steps(3, ends_clean=True, num_tokens=16 * 32)
    assert steps[64] != steps[128]


@pytest.mark.parametrize("method", METHODS)
def test_an_explanation_counts_the_run(model: Model, method: str) -> None:
    scene = SCENE.replace(method=method)
    explained, report = explain(scene, model), generate(scene, model, output_type="latent").report
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"])
    row, decoder = model.net.cost((32, 32), model.text.length), model.vae.cost((32, 32))
    assert explained.flops == explained.rows * row.flops + decoder.flops
    assert "view canvas: main network, all steps, guidance" in str(explained)


def test_operations_are_those_of_a_forward(model: Model) -> None:
    module = model.net.modules[0]
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        module(torch.randn(1, 16, 32, 32), torch.ones(1), torch.randn(1, 20, WIDTH), torch.randn(1, WIDTH))
    assert model.net.cost((32, 32), 20).flops == counter.get_total_flops()


def test_sites_are_joint(model: Model) -> None:
    sites = model.net.sites((32, 48))
    assert [(site.kind, site.stage, site.grid, site.depth) for site in sites] == [
        ("joint", "block", (16, 24), 0.0),
        ("joint", "block", (16, 24), 1.0),
    ]


def test_a_background_is_repainted(model: Model) -> None:
    source = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    result = generate(SCENE.replace(background=source, regions=(CAT,)), model)
    inside = np.zeros((64, 64), bool)
    inside[:32, :32] = True
    pixels = np.asarray(result.image)
    assert result.report["identical_outside"]
    assert np.array_equal(pixels[~inside], source[~inside])
    assert not np.array_equal(pixels[inside], source[inside])


def test_the_least_canvas_of_a_background_is_a_multiple_of_the_network_s(model: Model) -> None:
    source = np.zeros((64, 512, 3), np.uint8)
    scene = SCENE.replace(background=source, regions=())
    wide = replace(model, net=TransformerDenoiser(model.net.modules[0], replace(model.spec, net_factor=12)))
    assert wide.spec.factor == 24
    assert BackgroundEdit.of(scene).canvas(wide) == (120, 72)


@pytest.mark.parametrize(
    "scene",
    [
        SCENE.replace(method="reco"),
        SCENE.replace(regions=(CAT.replace(lora=(Lora(name="ink"),)),)),
        SCENE.replace(regions=(CAT.replace(control=Control(kind="canny", image="edges.png")),)),
        SCENE.replace(regions=(Region(name="pet", box=(0, 0, 0.5, 0.5), exemplar="cat.png"),)),
    ],
    ids=["reco", "lora", "control", "exemplar"],
)
def test_what_the_family_does_not_support_is_refused(model: Model, scene: Scene) -> None:
    with pytest.raises(CapabilityError, match="tiny transformer"):
        explain(scene, model)


def test_add_ons_of_unets_are_refused(model: Model) -> None:
    with pytest.raises(CapabilityError, match="fits only UNets"):
        unet_of(model.net, 'The IP-Adapter "x"')
    with pytest.raises(CapabilityError, match="has no cross-attention"):
        read_words(SCENE, model)


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(FAMILY, supports=FAMILY.supports | {"phrase, method bounded"})
    monkeypatch.setitem(FAMILIES, FAMILY.name, row)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("caption", ["on the beach", ""])
def test_bounded_counts_the_words_of_a_text_without_a_start_token(model: Model, caption: str) -> None:
    """The counted places are those that a weight of the phrase changes, in both of its places and encoders."""
    scene = SCENE.replace(caption=caption, method="bounded", regions=(CAT,))
    (view,) = prepare(scene, model).compiled.plan.views
    cond = view.branches["cond"]
    assert isinstance(cond, Conditioning)
    counted = [place for start, stop, _ in cond.tokens[1].counts for place in range(start, stop)]
    before = pieces(f"{caption}, ") if caption else []
    plain, changed = (
        model.text.encode([*before, Piece("a cat", weight), Piece(", "), Piece("a cat", weight)]).tokens
        for weight in (1.0, 1.5)
    )
    assert (plain != changed).any(1).nonzero().flatten().tolist() == counted


@pytest.mark.usefixtures("bounded")
def test_bounded_needs_the_places_of_words(model: Model) -> None:
    class Placeless(TwoTextEncoders):
        def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
            return replace(super().encode(pieces, region=region, blank=blank), word_spans=())

    with pytest.raises(CapabilityError, match=r'^Region "pet": The text encoder .* places of words'):
        explain(SCENE.replace(method="bounded", regions=(CAT,)), replace(model, text=Placeless()))


def test_an_edit_is_refused_unless_the_family_supports_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    hat = Region(name="hat", box=(0.0, 0.0, 0.5, 0.5), edit={"kind": "add", "phrase": "a hat"})
    scene = SCENE.replace(regions=(hat, CAR))
    assert edit(scene, model).image.size == (64, 64)
    monkeypatch.setitem(FAMILIES, FAMILY.name, replace(FAMILY, supports=FAMILY.supports - {"edit"}))
    with pytest.raises(CapabilityError, match=r'^Region "hat": .*\(tiny transformer\) cannot do edit'):
        edit(scene, model)


def test_keywords_of_an_edit_need_cross_attention(model: Model) -> None:
    hat = Region(name="hat", box=(0.0, 0.0, 0.5, 0.5), edit={"kind": "add", "phrase": "a hat"})
    with pytest.raises(CapabilityError, match="no cross-attention"):
        edit(SCENE.replace(regions=(hat, CAR)), model, whole=True, boost="additive")


def test_long_phrases_are_refused_by_region(model: Model) -> None:
    with pytest.raises(SceneError, match=r'^Region "pet"'):
        explain(SCENE.replace(regions=(CAT.replace(phrase="cat " * 30),)), model)
