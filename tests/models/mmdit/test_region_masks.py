"""Regions in joint attention equal diffusers' networks with an explicit mask, on every family of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from joint_bias import Token, explicit_bias, shares_of
from joint_networks import NETWORKS, PIXELS, SIDE, Given, Network, loaded
from torch import Tensor

from cloisonne.core.plan import Conditioning
from cloisonne.core.predict import predict
from cloisonne.methods.bounded import BOOST
from cloisonne.models.model import Model
from cloisonne.models.text.encoder import EncodedText
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

GREY = np.zeros((SIDE, SIDE))
GREY[:, : SIDE // 2] = 0.5
CAT = Region(name="pet", box=(0.0, 0.0, 0.5, 0.75), phrase="a cat")
CAR = Region(name="car", box=(0.25, 0.5, 1.0, 1.0), phrase="a red car", weight=2.0)
SOFT = Region(name="soft", mask=GREY, phrase="a dog")
LAYOUTS = {"one": [CAT], "overlapping": [CAT, CAR], "weight below 1": [CAT.replace(weight=0.25)], "soft": [CAR, SOFT]}
SCENE = Scene(caption="on the beach", seed=3, steps=4, guidance=1.0, width=SIDE, height=SIDE)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return network.write(tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return loaded(folder)


def encoded(text: str, model: Model) -> EncodedText:
    return model.text.encode(pieces(text))


def isolated_tokens(regions: list[Region], model: Model) -> tuple[list[Tensor], list[list[Token]]]:
    """The texts of the method isolated, and who they are: the caption with padding, and the phrases without."""
    caption = encoded("on the beach", model).tokens
    phrases = [encoded(region.phrase, model).without_padding for region in regions]
    kinds = [[Token("phrase", k)] * len(text) for k, text in enumerate(phrases)]
    return [caption, *phrases], [[Token("caption")] * len(caption), *kinds]


def bounded_tokens(regions: list[Region], model: Model, *, between: bool) -> tuple[list[Tensor], list[list[Token]]]:
    """Those of the method bounded: the caption is one of the texts, but for its padding.

    between: in blocks where regions do not hold, the caption counts everywhere.
    """
    caption = encoded("on the beach", model)
    words = [Token("caption") if between else Token("phrase", len(regions))] * len(caption.without_padding)
    texts, kinds = [caption.tokens], [words + [Token("caption")] * len(caption.padding)]
    for k, region in enumerate(regions):
        given = [("on the beach, ", 1.0), (region.phrase, BOOST), (", ", 1.0), (region.phrase, BOOST)]
        text = model.text.encode([pieces(words)[0] for words, _ in given])
        times = [1.0] * len(text.without_padding)
        for spans, (_, often) in zip(text.word_spans, given, strict=True):
            for start, stop in spans:
                times[start:stop] = [often] * (stop - start)
        assert BOOST in times
        scale = len(times) / sum(times)
        texts.append(text.without_padding)
        kinds.append([Token("phrase", k, often * scale) for often in times])
    return texts, kinds


def sequence(kinds: list[list[Token]], network: Network) -> list[Token]:
    padding = [Token("caption")] * (-len(kinds[0]) % network.multiple)
    text = [*kinds[0], *padding, *(token for own in kinds[1:] for token in own)]
    image = [Token("pixel", p) for p in range(PIXELS)]
    return [*text, *image] if network.text_first else [*image, *text]


@pytest.mark.parametrize(("at", "every"), [(0, 1), (3, 1), (0, 2)], ids=["isolated", "last step", "every second"])
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("method", ["isolated", "bounded"])
@torch.no_grad()
def test_a_method_is_an_explicit_mask(
    network: Network, folder: Path, model: Model, method: Any, name: str, at: int, every: int
) -> None:
    layout = LAYOUTS[name]
    run = prepare(SCENE.replace(regions=layout, method=method, blocks=every), model)
    step, z = run.steps[at], torch.randn(1, model.spec.latent_channels, *[SIDE // model.spec.vae_factor] * 2)
    conditioning = run.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    # Regions are taken in their canonical order: area, then name.
    names = [text.region for text in conditioning.tokens if text.region is not None]
    regions = [next(own for own in layout if own.name == name) for name in names]
    shares = shares_of(regions, 8)
    nowhere = [torch.zeros(PIXELS)] * len(regions)
    if method == "isolated":
        texts, kinds = isolated_tokens(regions, model)
        others = kinds
    else:
        (texts, kinds), (_, others) = (bounded_tokens(regions, model, between=own) for own in (False, True))
        shares.append(1 - torch.stack(shares).sum(0))
    regional = explicit_bias(sequence(kinds, network), shares, isolated=at == 0)
    between = explicit_bias(sequence(others, network), nowhere, isolated=False)
    biases = [regional if block % every == 0 else between for block in range(network.blocks)]
    expected = network.x0(folder, Given(z, step.s, texts, conditioning.pooled, biases))
    torch.testing.assert_close(predict(run.plan, z, step), expected, atol=1e-5, rtol=1e-5)
