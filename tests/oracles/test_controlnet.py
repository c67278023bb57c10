"""Controls with full masks are diffusers' ControlNet pipelines; with masks they act only where they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from controlled import FULL, LEFT, RIGHT, drawn, photo, scene_of, wall, write_controlled
from diffusers import ControlNetModel, DDIMScheduler, T2IAdapter
from PIL import Image
from torch import Tensor

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_controlled(tmp_path_factory.mktemp("controlled"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder / "sd1", adapters={"canny": folder / "sd1-canny", "depth": folder / "sd1-depth"})


def pipeline(folder: Path, base: str, *nets: str) -> Any:
    name = "StableDiffusionXLControlNetPipeline" if base == "xl" else "StableDiffusionControlNetPipeline"
    none = {} if base == "xl" else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    read = [ControlNetModel.from_pretrained(folder / net, low_cpu_mem_usage=False) for net in nets]
    theirs: Any = getattr(diffusers, name).from_pretrained(
        folder / base, controlnet=read if len(read) > 1 else read[0], low_cpu_mem_usage=False, **none
    )
    theirs.scheduler = DDIMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    return theirs


ARGUMENTS: dict[str, Any] = {
    "negative_prompt": "dog",
    "num_inference_steps": 20,
    "guidance_scale": 6.0,
    "height": 64,
    "width": 64,
    "output_type": "latent",
}


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("base", ["sd1", "sd2", "xl"])
def test_full_mask_is_diffusers_pipeline(folder: Path, base: str, strength: float) -> None:
    latents = torch.randn(1, 4, 8, 8)
    theirs = pipeline(folder, base, f"{base}-canny")
    arguments = ARGUMENTS | {"image": photo(), "controlnet_conditioning_scale": strength}
    expected = theirs("a red cat", latents=latents.clone(), **arguments).images
    ours = drawn(
        load(folder / base, adapters={"canny": folder / f"{base}-canny"}),
        scene_of(wall(strength=strength), width=64, height=64),
        latents=latents,
    )
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    plain = drawn(load(folder / base), scene_of(width=64, height=64), latents=latents)
    assert (ours - plain).abs().max() > 0.1


def test_several_and_part_of_the_steps_are_diffusers_pipeline(folder: Path, model: Model) -> None:
    latents = torch.randn(1, 4, 8, 8)
    expected = pipeline(folder, "sd1", "sd1-canny", "sd1-depth")(
        "a red cat",
        latents=latents.clone(),
        **ARGUMENTS | {"image": [photo(0), photo(1)], "controlnet_conditioning_scale": [0.7, 0.5]},
        control_guidance_start=[0.0, 0.2],
        control_guidance_end=[1.0, 0.6],
    ).images
    regions = (wall(), wall(strength=0.5, kind="depth", seed=1, start=0.2, stop=0.6))
    ours = generate(scene_of(*regions), model, latents=latents, output_type="latent")
    torch.testing.assert_close(ours.latents, expected, atol=1e-4, rtol=0)
    # Of 20 steps, one ControlNet runs in all and one in 8; two rows each time.
    assert (ours.report["forwards"], ours.report["rows"]) == (20 + 20 + 8, 2 * 48)
    assert torch.equal(drawn(model, scene_of(*regions[::-1]), latents=latents), ours.latents)


def by_hand(folder: Path, z: Tensor, steps: int, adapted: Any, left: Tensor, null: float) -> Tensor:
    """diffusers' networks in a loop: a ControlNet where ``left`` is 1, a T2I-Adapter elsewhere.

    null: what the residuals of the null branch are multiplied by.
    """
    rows = torch.tensor([null, 1.0])[:, None, None, None]
    theirs = pipeline(folder, "sd1", "sd1-canny")
    net, scheduler = theirs.controlnet, theirs.scheduler
    text = torch.cat(theirs.encode_prompt("a red cat", "cpu", 1, True, "dog")[::-1])
    maps = {seed: torch.from_numpy(np.asarray(photo(seed)).copy()).permute(2, 0, 1)[None] / 255 for seed in (0, 1)}
    features = [rows * f * resized(1 - left, f) * 0.5 for f in adapted(maps[1])]
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        both = torch.cat([z, z])
        down, middle = net(both, t, text, controlnet_cond=maps[0], conditioning_scale=0.7, return_dict=False)
        eps = theirs.unet(
            both,
            t,
            text,
            down_block_additional_residuals=[rows * level * resized(left, level) for level in down],
            mid_block_additional_residual=rows * middle * resized(left, middle),
            down_intrablock_additional_residuals=list(features),
        ).sample
        z = scheduler.step(eps[0] + 6 * (eps[1] - eps[0]), t, z).prev_sample
    return z


def resized(mask: Tensor, like: Tensor) -> Tensor:
    """The mean of a mask over halves, quarters and so on, by hand."""
    times = mask.shape[-1] // like.shape[-1]
    return mask.reshape(1, 1, like.shape[-2], times, like.shape[-1], times).mean((3, 5))


@torch.no_grad()
@pytest.mark.parametrize("conditional_only", [False, True])
def test_masks_are_multiplied_into_residuals_next_to_an_adapter(folder: Path, conditional_only: bool) -> None:
    torch.manual_seed(5)
    adapted: Any = T2IAdapter(
        in_channels=3, channels=[8, 16], num_res_blocks=2, downscale_factor=8, adapter_type="full_adapter"
    ).eval()
    adapted.save_pretrained(folder / "color")
    both = load(folder / "sd1", adapters={"canny": folder / "sd1-canny", "color": folder / "color"})
    latents, left = torch.randn(1, 4, 8, 8), torch.zeros(8, 8)
    left[:, :3] = 1.0  # three latents wide: on the lower level the second column is half covered
    regions = (
        wall((0.0, 0.0, 0.375, 1.0), conditional_only=conditional_only),
        wall((0.375, 0.0, 1.0, 1.0), kind="color", seed=1, strength=0.5, conditional_only=conditional_only),
    )
    ours = generate(scene_of(*regions, steps=10), both, latents=latents, output_type="latent")
    expected = by_hand(folder, latents, 10, adapted, left, null=0.0 if conditional_only else 1.0)
    torch.testing.assert_close(ours.latents, expected, atol=1e-4, rtol=0)
    assert ours.report["rows"] == 10 * (2 + (1 if conditional_only else 2))


def test_a_control_of_the_conditional_branch_is_the_models_default_where_it_has_one(model: Model) -> None:
    other = replace(model, native=replace(model.native, conditional_controls=True))
    left_out, kept = (scene_of(wall(conditional_only=value), steps=2) for value in (True, False))
    found = generate(scene_of(wall(), steps=2), other, output_type="latent")
    assert torch.equal(found.latents, drawn(model, left_out))
    assert found.report["scene"]["regions"][0]["control"]["conditional_only"] is True
    assert torch.equal(drawn(model, scene_of(wall(), steps=2)), drawn(other, kept))
    assert not torch.equal(drawn(model, kept), drawn(model, left_out))
    alone = [drawn(model, scene.replace(guidance=1.0)) for scene in (kept, left_out)]
    assert torch.equal(*alone)  # there is no null branch


def test_halves_add_up(folder: Path) -> None:
    twice = load(folder / "sd1", adapters=dict.fromkeys(("canny", "depth"), folder / "sd1-canny"))
    halves = drawn(twice, scene_of(wall(LEFT), wall(RIGHT, kind="depth")))
    torch.testing.assert_close(halves, drawn(twice, scene_of(wall())), atol=1e-4, rtol=0)
    same = generate(scene_of(wall(LEFT), wall(RIGHT), steps=2), twice, output_type="latent").report
    assert (same["forwards"], same["rows"]) == (4, 12)  # one network: one forward a step, two rows a map


HIDING = Region(name="in front", box=FULL, phrase="a dog", priority=1)


@pytest.mark.parametrize(
    ("control", "rest"),
    [
        ({"strength": 0.0}, {}),
        ({"weight": 0.0}, {}),
        ({"start": 0.5, "stop": 0.5}, {}),
        ({}, {"overlap": "priority", "regions": (HIDING,)}),
    ],
)
def test_where_it_has_no_effect_it_does_not_run(
    model: Model, control: dict[str, Any], rest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = drawn(model, scene_of(steps=4, **rest))
    with monkeypatch.context() as patch:
        patch.setattr(model.controlnets["canny"].module, "forward", lambda *_, **__: pytest.fail("it ran"))
        scene = scene_of(steps=4, **rest)
        assert torch.equal(drawn(model, scene.replace(regions=(*scene.regions, wall(**control)))), plain)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_explained_is_what_happens(model: Model, sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = scene_of(wall(LEFT, stop=0.5), sampler=sampler, steps=6, guidance_interval=(0.2, 0.8))
    report = generate(scene, model, output_type="latent").report
    for module in (model.net.unet, model.controlnets["canny"].module):
        monkeypatch.setattr(module, "forward", lambda *_, **__: pytest.fail("it ran"))
    explained = explain(scene, model)
    assert (explained.forwards, explained.rows) == (report["forwards"], report["rows"])
    assert "ControlNet on 50%" in str(explained)
    assert explained.flops > explain(scene.replace(regions=()), model).flops


@pytest.mark.parametrize("method", ["attention", "multidiffusion", "caption", "words"])
def test_it_takes_the_caption_and_the_negative(model: Model, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts_given: list[Tensor] = []
    module: Any = model.controlnets["canny"].module
    forward = module.forward

    def listening(*args: Any, encoder_hidden_states: Tensor, **given: Any) -> Any:
        texts_given.append(encoder_hidden_states)
        return forward(*args, encoder_hidden_states=encoder_hidden_states, **given)

    monkeypatch.setattr(module, "forward", listening)
    control = {"kind": "canny", "image": photo().resize((88, 72))}
    region = wall(LEFT, phrase="a dog", control=control)
    result = generate(scene_of(region, steps=1, width=88, height=72, method=method), model)
    assert result.latents.isfinite().all()
    (texts,) = texts_given
    expected = [model.text.encode_ids(model.text.padded_ids(text)).tokens for text in ("a red cat", "dog")]
    if method != "words":  # which appends the phrases to the caption
        torch.testing.assert_close(texts[0], expected[0])
    torch.testing.assert_close(texts[1], expected[1])
    assert len(texts) == (4 if method == "multidiffusion" else 2)


def test_with_an_inpainting_checkpoint(folder: Path) -> None:
    base = load(folder / "inpaint", adapters={"canny": folder / "inpaint-canny"})
    scene = scene_of(wall(LEFT), steps=2, background=Image.new("RGB", (160, 120), "green"))
    region = scene.regions[0].replace(control={"kind": "canny", "image": photo(side=160).resize((160, 120))})
    assert generate(scene.replace(regions=(region,)), base).report["identical_outside"] is True
