"""Exemplars: beside words, several in one pass, alone; and what is refused."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_checkpoint, write_exemplar
from torch import Tensor

from cloisonne.core.plan import Conditioning
from cloisonne.errors import CapabilityError, CheckpointError, ImageError
from cloisonne.models.adapters.paint_by_example import ExemplarEngine
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.inpainting import inpaint_scene
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def picture(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


CAT = Region(name="cat", ellipse=(0.1, 0.1, 0.6, 0.7), exemplar=picture(1), feather=0.2, similarity=3.0)
CAR = Region(name="car", box=(0.4, 0.3, 1.0, 0.9), exemplar=picture(2), weight=2.0, seed=11)
DOG = Region(name="dog", box=(0.0, 0.6, 0.4, 1.0), phrase="a dog", negative="cat")
BOTH = Region(name="both", box=(0.6, 0.0, 1.0, 0.4), phrase="a car", exemplar={"image": picture(3), "strength": 0.5})
SCENE = Scene(
    caption="on the beach", seed=3, steps=3, sampler="ddim", method="attention", regions=(CAT, CAR, DOG, BOTH)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exemplar(tmp_path_factory.mktemp("pbe"))


@pytest.fixture(scope="module")
def alone(folder: Path) -> Model:
    return load(folder)


@pytest.fixture(scope="module")
def beside(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    base = write_checkpoint(tmp_path_factory.mktemp("sd"))
    shutil.copytree(folder / "vae", base / "vae", dirs_exist_ok=True)
    return load(base, exemplar=folder)


def drawn(model: Model, scene: Scene, **options: Any) -> Tensor:
    return generate(scene, model, output_type="latent", **options).latents


@pytest.mark.parametrize("background", [None, picture(0, 80, 64)])
@pytest.mark.parametrize("method", ["attention", "multidiffusion", "words", "caption"])
def test_words_and_exemplars_share_one_pass(beside: Model, method: str, background: Image.Image | None) -> None:
    scene = SCENE.replace(method=method, background=background)
    result = generate(scene, beside)
    assert result.latents.isfinite().all()
    assert result.report["forwards"] == 3 * 2, "each network once a step"
    backwards = drawn(beside, scene.replace(regions=scene.regions[::-1]))
    assert torch.equal(result.latents, backwards)
    assert not torch.equal(result.latents, drawn(beside, scene.replace(regions=(CAT, CAR, DOG))))


def shown_around(model: Model, scene: Scene) -> Conditioning:
    """What the network of exemplars is told."""
    (view,) = (view for view in prepare(scene, model).compiled.plan.views if view.name == "exemplars")
    said = view.branches["cond"]
    assert isinstance(said, Conditioning)
    return said


def test_words_are_around_the_hole_in_which_exemplars_are_painted(beside: Model) -> None:
    """Where words fill the rest, the inpainting context is their estimate; what is given and certain stays as it is."""
    box = Region(name="a", box=LEFT, exemplar=picture(1))
    around = shown_around(beside, SCENE.replace(regions=(box,))).inpaint_context
    assert around is not None
    assert torch.equal(around.unsure, torch.cat([torch.zeros(8, 4), torch.ones(8, 4)], 1))
    assert torch.equal(around.keep, around.unsure)
    given = SCENE.replace(background=picture(0, 64, 64))
    alone = shown_around(beside, given.replace(regions=(box,)))
    assert alone.inpaint_context is None
    assert alone.channels is not None
    dog = Region(name="dog", box=(0.5, 0.5, 1.0, 1.0), phrase="a dog")
    both = shown_around(beside, given.replace(regions=(box, dog))).inpaint_context
    assert both is not None
    assert torch.equal(both.unsure[:, :4], torch.zeros(8, 4))
    assert torch.equal(both.unsure[4:, 5:], torch.ones(4, 3))
    assert torch.equal(both.keep, alone.channels[-1])


@pytest.mark.parametrize("absent", [{"weight": 0.0}, {"start": 0.4, "stop": 0.4}])
def test_weight_0_or_an_empty_interval_is_absent(beside: Model, absent: dict[str, float]) -> None:
    without = drawn(beside, SCENE.replace(regions=(CAT, DOG)))
    assert torch.equal(drawn(beside, SCENE.replace(regions=(CAT, CAR.replace(**absent), DOG))), without)


def test_strength_0_leaves_the_caption_and_the_phrase(beside: Model) -> None:
    weak = {"image": picture(1), "strength": 0.0}
    region = Region(name="a", box=LEFT, phrase="a dog")
    scene = SCENE.replace(regions=(region,))
    assert torch.equal(drawn(beside, scene.replace(regions=(region.replace(exemplar=weak),))), drawn(beside, scene))


def test_exemplar_over_all_of_the_canvas_is_the_exemplar_alone(beside: Model, alone: Model) -> None:
    """Whatever the caption says: nothing of the canvas is left for it."""
    scene = Scene(seed=3, steps=3, sampler="ddim", regions=[Region(box=(0, 0, 1, 1), exemplar=picture(1))])
    latents = torch.randn(1, 4, 8, 8)
    with_words = drawn(beside, scene.replace(caption="on the beach"), latents=latents)
    torch.testing.assert_close(with_words, drawn(alone, scene, latents=latents), atol=1e-6, rtol=0)


def test_several_exemplars_are_one_forward_a_step(alone: Model) -> None:
    halves = [Region(name="a", box=LEFT, exemplar=picture(1)), Region(name="b", box=RIGHT, exemplar=picture(2))]
    scene = Scene(seed=3, steps=3, regions=halves, background=picture(0))
    result = generate(scene, alone)
    assert (result.report["forwards"], result.report["rows"]) == (3, 6)
    same = [halves[0], halves[1].replace(exemplar=picture(1))]
    whole = [Region(name="c", box=(0, 0, 1, 1), exemplar=picture(1))]
    one = drawn(alone, scene.replace(regions=whole))
    torch.testing.assert_close(drawn(alone, scene.replace(regions=same)), one, atol=1e-5, rtol=0)
    assert not torch.allclose(result.latents, one, atol=1e-3)


def test_bias_of_one_token_is_its_attention(alone: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the layers' own queries, keys and softmax (arXiv 2211.13227's network as published)."""
    halves = [Region(name="a", ellipse=(0, 0, 0.7, 1), exemplar=picture(1)), CAR]
    scene = Scene(seed=3, steps=3, regions=halves)
    fast = drawn(alone, scene)
    monkeypatch.setattr("cloisonne.models.unet.denoiser.is_bias", lambda site, call: False)
    torch.testing.assert_close(drawn(alone, scene), fast, atol=1e-5, rtol=1e-5)


def test_similarity_is_the_region_s_guidance(alone: Model) -> None:
    scene = Scene(seed=3, steps=3, regions=[CAR])
    five = drawn(alone, scene)
    assert torch.equal(drawn(alone, scene.replace(regions=[CAR.replace(similarity=5.0)])), five)
    assert torch.equal(drawn(alone, scene.replace(regions=[CAR.replace(guidance=5.0)])), five)
    assert not torch.equal(drawn(alone, scene.replace(regions=[CAR.replace(similarity=2.0)])), five)


def test_oblong_exemplar_is_seen_whole(alone: Model) -> None:
    wide = picture(5, 200, 50)
    ends = wide.copy()
    ends.paste((255, 0, 0), (0, 0, 20, 50))
    engine = alone.exemplar
    assert engine is not None
    assert not torch.equal(engine.token(wide), engine.token(ends))


def test_picture_carries_its_exemplars_and_draws_again(alone: Model, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "cat.png")
    region = Region(name="cat", box=LEFT, exemplar=str(tmp_path / "cat.png"), similarity=4.0)
    result = generate(Scene(seed=3, steps=2, background=picture(0), regions=[region]), alone)
    (path,) = result.save(tmp_path / "out.png")
    again = generate(Scene.from_png(path), alone)
    assert again.save(tmp_path / "again.png")[0].read_bytes() == path.read_bytes()
    assert str(tmp_path) not in path.read_bytes().decode("latin-1")


def test_paint_is_a_scene_of_one_region(alone: Model) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 40, 48))
    result = generate(inpaint_scene(picture(0), mask, exemplar=picture(1), similarity=4.0, seed=1, steps=2), alone)
    (region,) = result.scene.regions
    assert (region.similarity, region.phrase) == (4.0, "")
    assert result.report["identical_outside"] is True
    assert (np.asarray(result.image)[50:] == np.asarray(picture(0))[50:]).all()


def test_raw_decode_is_there_and_is_measured_too(alone: Model) -> None:
    mask = Image.new("L", (64, 64))
    mask.paste(255, (8, 8, 56, 56))
    result = generate(inpaint_scene(picture(0), mask, exemplar=picture(1), seed=1, steps=2, composite=False), alone)
    assert result.report["identical_outside"] is False
    assert result.report["max_difference_outside"] > 0


def test_explain_runs_nothing(beside: Model, alone: Model) -> None:
    assert explain(SCENE, beside).forwards == 6
    assert explain(Scene(regions=[CAT], steps=3, seed=0), alone).forwards == 3


def test_what_cannot_be_is_refused(alone: Model, beside: Model, tiny: Model, tmp_path: Path, tiny_sd: Path) -> None:
    with pytest.raises(
        CapabilityError, match=r'^Region "dog": .*Paint by Example\) cannot do phrase.* give its regions'
    ):
        drawn(alone, SCENE.replace(caption="", regions=(DOG,)))
    with pytest.raises(CapabilityError, match="takes no text, only exemplars"):
        drawn(alone, SCENE.replace(regions=(CAT,)))
    with pytest.raises(CapabilityError, match="takes no text, only exemplars"):
        drawn(alone, Scene(seed=0))
    with pytest.raises(CapabilityError, match=r'^Region "cat": .* cannot do exemplar; load Paint by Example with it'):
        drawn(tiny, SCENE.replace(method="reco", regions=(CAT,)))
    with pytest.raises(CheckpointError, match="is no folder of Paint by Example"):
        load(tiny_sd, exemplar=tiny_sd)
    with pytest.raises(ImageError, match=r'^Region "cat": There is no file'):
        drawn(alone, Scene(seed=0, regions=[CAT.replace(exemplar=tmp_path / "none.png")]))


def test_other_latents_are_refused(folder: Path, tiny_family: Path) -> None:
    with pytest.raises(CheckpointError, match="has another latent space"):
        load(tiny_family, exemplar=folder)


PICTURES = {
    "grey": lambda: picture(1).convert("L"),
    "16 bits": lambda: Image.fromarray(np.full((9, 9), 40_000, np.uint16)),
    "cmyk": lambda: picture(1).convert("CMYK"),
    "palette": lambda: picture(1).convert("P"),
    "transparent": lambda: Image.new("RGBA", (20, 10), (255, 0, 0, 0)),
    "one pixel": lambda: Image.new("RGB", (1, 1), "red"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_of_every_kind_are_seen(alone: Model, kind: str, tmp_path: Path) -> None:
    given = PICTURES[kind]()
    file = tmp_path / ("x.jpg" if kind == "cmyk" else "x.png")
    given.save(file)
    region = CAT.replace(exemplar=str(file))
    assert drawn(alone, Scene(seed=0, steps=1, regions=[region])).isfinite().all()
    assert region.exemplar is not None
    seen = np.asarray(region.exemplar.rgb())
    assert seen.shape[2] == 3
    if kind == "16 bits":
        assert (seen == round(40_000 / 257)).all()
    if kind == "transparent":
        assert (seen == 255).all()


def test_rotated_photo_is_seen_upright(tmp_path: Path) -> None:
    photo = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "x.jpg", exif=exif)
    region = CAT.replace(exemplar=str(tmp_path / "x.jpg"))
    assert region.exemplar is not None
    assert region.exemplar.rgb().size == (10, 20)


@pytest.mark.parametrize("bottleneck", [False, True])
def test_the_bottleneck_reaches_the_encoder(alone: Model, monkeypatch: pytest.MonkeyPatch, bottleneck: bool) -> None:
    asked: list[bool] = []
    token = ExemplarEngine.token

    def recording(self: ExemplarEngine, image: Image.Image, *, bottleneck: bool = False) -> Tensor:
        asked.append(bottleneck)
        return token(self, image, bottleneck=bottleneck)

    monkeypatch.setattr(ExemplarEngine, "token", recording)
    exemplar = {"image": picture(1), "bottleneck": bottleneck}
    scene = inpaint_scene(picture(0), LEFT, exemplar=exemplar, steps=1)
    assert generate(scene, alone).report["warnings"] == []
    assert asked == [bottleneck]


def test_a_bottleneck_without_effect_is_warned_of(beside: Model) -> None:
    region = Region(name="cat", box=LEFT, exemplar={"image": picture(1), "bottleneck": True})
    scene = Scene(caption="on the beach", steps=1, regions=(region,))
    assert not explain(scene, beside).warnings
    assert beside.exemplar is not None
    naive = replace(beside.exemplar, encoder=copy.copy(beside.exemplar.encoder))
    naive.encoder.pooled = False
    (warning,) = explain(scene, replace(beside, exemplar=naive)).warnings
    assert 'Region "cat": the bottleneck' in warning
