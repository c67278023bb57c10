import re

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from methods_of import OF_UNETS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat", stop=0.5)
CAR = Region(name="car", box=(0.5, 0.5, 1.0, 1.0), phrase="a car", negative="dog")
SCENE = Scene(caption="on the beach", seed=3, steps=6, regions=(CAT, CAR))


@pytest.fixture
def idle(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model whose networks must not be asked."""

    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("a network was asked")

    for module in (tiny.net.unet, tiny.vae.module, tiny.text.module):
        monkeypatch.setattr(module, "forward", refuse)
    monkeypatch.setattr(tiny.vae.module, "encode", refuse)
    return tiny


@pytest.mark.parametrize("method", OF_UNETS)
def test_nothing_is_run(idle: Model, method: str) -> None:
    source = np.zeros((200, 300, 3), np.uint8)
    explain(SCENE.replace(method=method), idle)
    explain(SCENE.replace(method=method, background=source), idle)


@pytest.mark.parametrize(
    ("method", "sampler", "interval"),
    [
        *((method, "ddim", (0.2, 0.6)) for method in OF_UNETS),
        *(("multidiffusion", sampler, (0.0, 1.0)) for sampler in ("euler-ancestral", "heun", "dpmpp-2m")),
    ],
)
def test_counts_are_those_of_the_run(tiny: Model, method: str, sampler: str, interval: tuple[float, float]) -> None:
    scene = SCENE.replace(method=method, sampler=sampler, guidance_interval=interval)
    explained, report = explain(scene, tiny), generate(scene, tiny, output_type="latent").report
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"])


def test_text_of_an_explanation(tiny: Model) -> None:
    explained = explain(SCENE, tiny)
    text = str(explained)
    assert "view canvas: main network, steps 1-3, guidance 4, mean weight 1.00" in text
    assert "    conditional: 77 tokens everywhere" in text
    assert "6 steps: 6 forwards with 12 batch rows (1 and 2 per step)" in text
    assert "64 x 64 pixels, method reco, sampler ddim, guidance 4" in text
    assert not re.search(r"\w\(|=|'", text)
    assert (explained.steps, explained.tokens) == (6, 77 + 2 * 77)
    assert explained.flops > 0
    assert explained.seconds > 0
    assert explained.memory_bytes > 4 * tiny.parameters


def test_window_of_an_edit_is_printed(tiny: Model) -> None:
    source = np.zeros((200, 300, 3), np.uint8)
    region = Region(box=(0.2, 0.2, 0.4, 0.5), phrase="a cat")
    scene = Scene(background=source, seed=0, regions=(region,), strength=0.5, steps=10)
    explained = explain(scene, tiny)
    assert "window of 90 x 90 pixels, at (45, 25), of a background of 300 x 200" in str(explained)
    assert explained.steps == 5
    assert "all of it" in str(explain(scene.replace(regions=()), tiny))
    assert explain(scene.replace(strength=0.0), tiny).rows == 0


def test_dropped_regions_and_warnings_are_printed(tiny: Model) -> None:
    long = Region(name="long", box=(0.0, 0.0, 0.2, 0.2), phrase=" ".join(["car"] * 60))
    explained = explain(SCENE.replace(regions=(CAT.replace(feather=0.2), long)), tiny)
    assert explained.dropped == ("long",)
    assert 'dropped: region "long", for lack of tokens' in str(explained)
    assert 'warning: Region "pet": its feather changes nothing here: its box is encoded, not its shape;' in str(
        explained
    )


def test_what_cannot_be_drawn_cannot_be_explained(tiny: Model) -> None:
    with pytest.raises(SceneError, match=r'^Region "pet"'):
        explain(SCENE.replace(regions=(CAT.replace(phrase=" ".join(["cat"] * 80)),)), tiny)


def test_operations_are_those_of_a_forward(tiny: Model) -> None:
    """Of one row; counted again on real numbers, with attention written out, since the fused one is not counted."""
    stock = UNet2DConditionModel.from_config(tiny.net.unet.config)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        stock(torch.randn(1, 4, 8, 8), torch.tensor(1), torch.randn(1, 77, 16))
    assert tiny.net.cost((8, 8), 77).flops == counter.get_total_flops()
    assert tiny.net.cost((16, 16), 77).flops > 3 * tiny.net.cost((8, 8), 77).flops
