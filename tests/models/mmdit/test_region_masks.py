"""Regions in joint attention equal diffusers' networks with an explicit mask, on every family of transformers.

So does a background that is reused, with the inputs of their attention layers exchanged.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from joint_bias import Token, explicit_bias, shares_of
from joint_networks import NETWORKS, PIXELS, SIDE, Given, Network, loaded
from torch import Tensor, nn

from cloisonne.core.attention.edits import ReuseBackground
from cloisonne.core.plan import Conditioning, Plan
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


def isolated_tokens(
    regions: list[Region], model: Model, words: str = "on the beach"
) -> tuple[list[Tensor], list[list[Token]]]:
    """The texts of the method isolated, and who they are: the caption with padding, and the phrases without."""
    caption = encoded(words, model).tokens
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


def exchanging(stored: dict[str, Tensor], inside: Tensor | None, *, text_first: bool) -> Callable[[Any], None]:
    """What stores the inputs of a network's attention layers, or puts the stored ones outside of ``inside`` [Q]."""

    def changed(network: Any) -> None:
        for name, layer in network.named_modules():
            # Z-Image's refiners compute all image tokens.
            if name.endswith((".attn", ".attn2", ".attention")) and "refiner" not in name:
                layer.register_forward_pre_hook(hook(name), with_kwargs=True)

    def hook(name: str) -> Callable[..., Any]:
        def exchange(layer: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
            tokens = args[0] if args else given["hidden_states"]
            if inside is None:
                stored[name] = tokens
                return args, given
            image = slice(-PIXELS, None) if text_first else slice(PIXELS)
            taken = tokens.clone()
            taken[:, image][:, ~inside] = stored[name][:, image][:, ~inside]
            return ((taken, *args[1:]), given) if args else (args, given | {"hidden_states": taken})

        return exchange

    return changed


@pytest.mark.parametrize(("at", "every"), [(0, 1), (3, 2)], ids=["isolated", "every second"])
@torch.no_grad()
def test_a_reused_background_has_the_keys_and_values_of_the_source(
    network: Network, folder: Path, model: Model, at: int, every: int
) -> None:
    """diffusers' whole computation, in which attention gets the source's image tokens outside of the mask."""
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:7, 3:] = True
    side = SIDE // model.spec.vae_factor
    mask = F.interpolate(inside[None, None].float(), (side, side))[0, 0]
    plan = Plan(edits=(ReuseBackground(source="before", target="after", mask=mask),))
    captions = {"before": ("on the beach", [CAT, CAR]), "after": ("a red hat", [CAT.replace(phrase="a dog"), CAR])}
    conditionings: dict[str, Conditioning] = {}
    for stream, (caption, regions) in captions.items():
        run = prepare(SCENE.replace(caption=caption, regions=regions, method="isolated", blocks=every), model)
        (view,) = run.plan.views
        branch = view.branches["cond"]
        assert isinstance(branch, Conditioning)
        conditionings[stream] = branch
        plan += Plan(views=(replace(view, stream=stream),))
    step, z = run.steps[at], torch.randn(2, model.spec.latent_channels, side, side)
    found = dict(zip(plan.streams, predict(plan, z, step), strict=True))
    latents = dict(zip(plan.streams, z[:, None], strict=True))
    stored: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}
    for stream, (caption, own) in captions.items():
        order = [text.region for text in conditionings[stream].tokens if text.region is not None]
        regions = sorted(own, key=lambda region: order.index(region.name))
        texts, kinds = isolated_tokens(regions, model, caption)
        shares = shares_of(regions, 8)
        regional = explicit_bias(sequence(kinds, network), shares, isolated=at == 0)
        between = explicit_bias(sequence(kinds, network), [torch.zeros(PIXELS)] * 2, isolated=False)
        biases = [regional if block % every == 0 else between for block in range(network.blocks)]
        some = inside.flatten() if stream == "after" else None
        changed = exchanging(stored, some, text_first=network.text_first)
        given = Given(latents[stream], step.s, texts, conditionings[stream].pooled, biases, changed)
        expected[stream] = network.x0(folder, given)[0]
    torch.testing.assert_close(found["before"], expected["before"], atol=1e-5, rtol=1e-5)
    outside = latents["after"][0] - latents["before"][0] + expected["before"]
    wanted = torch.where(mask > 0, expected["after"], outside)
    torch.testing.assert_close(found["after"], wanted, atol=1e-5, rtol=1e-5)
    plain = predict(replace(plan, edits=()), z, step)[plan.streams.index("after")]
    assert float((plain - found["after"])[:, mask > 0].abs().max()) > 1e-4
