"""Regions on plain checkpoints of every line, with all their dials, at sizes the checkpoints were not trained on."""

from pathlib import Path

import pytest
import torch
from tiny import write_checkpoint, write_xl
from torch import Tensor

from cloisonne.errors import CapabilityError
from cloisonne.methods.kinds import markdown
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate, generate_many
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", ellipse=(0.1, 0.1, 0.6, 0.7), phrase="a cat", negative="dog", guidance=7.0, feather=0.2)
CAR = Region(name="car", box=(0.4, 0.3, 1.0, 0.9), phrase="a red car", weight=2.0, seed=11, priority=1)
SKY = Region(name="sky", polygon=[(0.0, 0.0), (1.0, 0.0), (0.5, 0.4)], phrase="stars", start=0.2, stop=0.7)
SCENE = Scene(caption="on the beach", negative="blue", seed=3, steps=3, guidance=5.0, regions=(CAT, CAR, SKY))
SD2 = {"use_linear_projection": True, "attention_head_dim": (1, 2)}
METHODS = ["bounded", "bounded-words", "attention", "multidiffusion", "words", "caption"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    made = {}
    for inpaint in (False, True):
        folders = {
            "sd1": write_checkpoint(tmp_path_factory.mktemp("sd1"), inpaint=inpaint),
            "sd2": write_checkpoint(
                tmp_path_factory.mktemp("sd2"), unet=SD2, inpaint=inpaint, scheduler={"prediction_type": "v_prediction"}
            ),
            "xl": write_xl(tmp_path_factory.mktemp("xl"), inpaint=inpaint),
        }
        made |= {f"{name}{' inpaint' if inpaint else ''}": load(folder) for name, folder in folders.items()}
    return made


LINES = ["sd1", "sd2", "xl", "sd1 inpaint", "sd2 inpaint", "xl inpaint"]


def drawn(model: Model, scene: Scene, latents: Tensor | None = None) -> Tensor:
    return generate(scene, model, output_type="latent", latents=latents).latents


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("line", LINES)
def test_all_dials_at_an_odd_size(models: dict[str, Model], line: str, method: str) -> None:
    scene = SCENE.replace(method=method, width=88, height=72)
    result = generate(scene, models[line], num_images=2)
    assert result.latents.shape == (2, 4, 9, 11)
    assert result.latents.isfinite().all()
    assert [image.size for image in result.images] == [(88, 72)] * 2
    assert torch.equal(result.latents[1:], drawn(models[line], scene.replace(seed=4)))
    backwards = scene.replace(regions=scene.regions[::-1])
    assert torch.equal(result.latents[:1], drawn(models[line], backwards))


@pytest.mark.parametrize("method", ["attention", "multidiffusion"])
@pytest.mark.parametrize("line", LINES)
def test_full_canvas_region_is_the_plain_prompt(models: dict[str, Model], line: str, method: str) -> None:
    region = Region(box=(0.0, 0.0, 1.0, 1.0), phrase="a red car on the beach", negative="dog", guidance=3.0)
    scene = Scene(seed=3, steps=3, method=method, regions=(region,))
    plain = scene.replace(method="caption", caption="a red car on the beach", negative="dog", guidance=3.0, regions=())
    torch.testing.assert_close(drawn(models[line], scene), drawn(models[line], plain), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "changes",
    [{"negative": "car"}, {"weight": 0.3}, {"stop": 0.5}, {"guidance": 2.0}, {"seed": 5}, {"phrase": "a dog"}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("method", ["bounded", "attention", "multidiffusion"])
@pytest.mark.parametrize("line", LINES[:3])
def test_every_dial_is_heard(models: dict[str, Model], line: str, method: str, changes: dict[str, object]) -> None:
    scene = SCENE.replace(method=method, regions=(CAT,), guidance_rescale=0.2)
    turned = scene.replace(regions=(CAT.replace(**changes),))
    assert not torch.equal(drawn(models[line], scene), drawn(models[line], turned))


def test_several_scenes_in_one_call_are_each_their_own(models: dict[str, Model]) -> None:
    scenes = [SCENE.replace(method=method) for method in ("attention", "multidiffusion")]
    several = generate_many(scenes, models["xl"], output_type="latent")
    assert [result.scene.method for result in several] == ["attention", "multidiffusion"]
    for scene, result in zip(scenes, several, strict=True):
        assert torch.equal(result.latents, drawn(models["xl"], scene))


def test_phrases_that_fit_no_one_text_are_still_summed_up(models: dict[str, Model]) -> None:
    long = " ".join(["car"] * 60)
    regions = [Region(name=name, box=(0, 0, 0.5, 1), phrase=f"{name} {long}") for name in "ab"]
    assert drawn(models["xl"], Scene(seed=0, steps=1, method="attention", regions=regions)).isfinite().all()


@pytest.mark.parametrize("line", LINES)
def test_explain_counts_and_runs_nothing(models: dict[str, Model], line: str) -> None:
    told = explain(SCENE.replace(method="attention"), models[line])
    assert (told.forwards, told.rows) == (3, 6)
    assert told.flops > 0


@pytest.mark.parametrize(("line", "said"), [("sd1", "Stable Diffusion 1.x"), ("xl", "Stable Diffusion XL")])
def test_reco_on_a_plain_checkpoint_is_refused(models: dict[str, Model], line: str, said: str) -> None:
    with pytest.raises(
        CapabilityError, match=rf'^Region "pet": The model ".*" \({said}\) cannot do phrase, method reco'
    ):
        drawn(models[line], SCENE.replace(method="reco"))


def test_table_of_the_docs_is_the_one_of_the_code() -> None:
    page = Path(__file__).parents[2] / "docs/checkpoints.md"
    assert markdown() in page.read_text(encoding="utf-8"), "write the table by make tables"
