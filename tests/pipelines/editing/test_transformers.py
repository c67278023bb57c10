"""Edits on diffusion transformers: FlowEdit as published, masks by region, several edits at once, and the rest kept."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from flux import LENGTH, write_flux
from mmdit_families import WRITERS
from PIL import Image
from torch import Tensor

from cloisonne.core.inversion.belm import invert_by_belm
from cloisonne.core.inversion.flowedit import FlowTiming, last_steps
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.sample import sample
from cloisonne.errors import CapabilityError
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.result import Result
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

WIDTH, HEIGHT = 96, 64
HAT = Region(name="hat", box=(0.5, 0.2, 0.9, 0.7), edit={"kind": "change", "from": "a red hat", "to": "a blue hat"})
SAME = HAT.replace(edit={"kind": "change", "from": "a red hat", "to": "a red hat"})
CROWN = HAT.replace(edit={"kind": "change", "from": "a red hat", "to": "a crown"})
STAR = Region(name="star", box=(0.05, 0.1, 0.4, 0.5), edit={"kind": "add", "phrase": "a star"})
TREE = Region(name="tree", box=(0.0, 0.5, 0.5, 1.0), phrase="a tree")
STEPS = 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp(name)) for name, write in WRITERS.items()}


SLOW = {"flux2": pytest.mark.slow}
"""Its text encoder has 28 layers, however narrow."""


def families(*names: str) -> list[Any]:
    return [pytest.param(name, marks=SLOW.get(name, ()), id=name) for name in names]


@pytest.fixture(scope="module", params=families(*WRITERS))
def model(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Model:
    return load(folders[request.param])


def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8))


def scene(*regions: Region, **fields: Any) -> Scene:
    own: dict[str, Any] = {"caption": "on the beach", "seed": 3, "steps": STEPS, "background": photo(97, 75)}
    return Scene(**own | {"width": WIDTH, "height": HEIGHT} | fields, regions=regions)


def flow(asked: Scene, model: Model, **options: Any) -> Result:
    return edit(asked, model, preset="flow", **{"close_up": 0.0} | options)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_edits_change_their_regions_alone(model: Model) -> None:
    """Of both kinds, in any order, next to a region without an edit."""
    result, other = (flow(scene(*own), model) for own in ((TREE, HAT, STAR), (STAR, HAT, TREE)))
    before, after = pixels(result.named["before"]), pixels(result.image)
    assert np.array_equal(before, pixels(photo(97, 75)))
    inside = np.zeros((75, 97), bool)
    for region in (HAT, STAR):
        own = region.soft_mask(75, 97) > 0
        assert (before[own] != after[own]).mean() > 0.5
        inside |= own
    assert np.array_equal(before[~inside], after[~inside])
    assert result.report["identical_outside"] is True
    assert result.image.tobytes() == other.image.tobytes()


def test_equal_captions_leave_the_latents_to_the_bit(model: Model) -> None:
    known = model.vae.encode(as_tensor(np.asarray(photo())))
    for own, same in ((SAME, True), (HAT, False)):
        asked = scene(own, background=photo(), guidance=4.0)
        found = flow(asked, model, flow_start=1.0, source_guidance=4.0).latents
        assert torch.equal(found, known) is same


def test_an_empty_mask_leaves_the_latents_to_the_bit(model: Model) -> None:
    halves = {name: prepare(scene(caption=name, background=None), model) for name in ("a red hat", "a crown")}
    plan = sum(
        (Plan(views=tuple(replace(view, stream=name) for view in own.plan.views)) for name, own in halves.items()),
        Plan(),
    )
    own = halves["a crown"]
    shape = (model.vae.channels, *own.grid)
    known = torch.randn(shape)
    for mask, same in ((torch.zeros(own.grid), True), (torch.ones(own.grid), False)):
        timing = FlowTiming(
            source="a red hat", target="a crown", num_steps=STEPS, counts=((2, mask),), anew=torch.zeros(own.grid)
        )
        whole, noise = plan + Plan(refines=timing.follows()), Noise([Seed(0)], shape)
        z = timing.latents(whole, known, noise()[0])
        z = sample(whole, timing.solver(whole, own.sampler, 1), z, last_steps(own.steps, 2), noise=noise)
        assert torch.equal(z[whole.streams.index("a crown")], known) is same


def test_what_is_replaced_is_the_preset_follow(model: Model) -> None:
    """Painted anew without any forward of the image before, to the byte."""
    asked = scene(TREE, CROWN)
    anew, follow = flow(asked, model), edit(asked, model, preset="follow", close_up=0.0)
    assert anew.image.tobytes() == follow.image.tobytes()
    assert flow(asked, model, flow_start=0.5).image.tobytes() != anew.image.tobytes()


# The networks' velocities as in the published code, whose loop the test has.


def flux_velocity(folder: Path, texts: tuple[str, str], guidances: tuple[float, float]) -> Any:
    """(z, t, index) -> the velocity of FLUX.1 dev, and the times of 5 steps."""
    pipeline: Any = diffusers.FluxPipeline.from_pretrained(folder)
    encoded = [pipeline.encode_prompt(text, None, max_sequence_length=LENGTH) for text in texts]
    grid = (HEIGHT // 16, WIDTH // 16)

    def velocity(z: Tensor, t: float, index: int) -> Tensor:
        tokens, pooled, positions = encoded[index]
        found = pipeline.transformer(
            hidden_states=packed(z, 2),
            timestep=torch.tensor([t]),
            guidance=torch.tensor([guidances[index]]),
            pooled_projections=pooled,
            encoder_hidden_states=tokens,
            txt_ids=positions,
            img_ids=image_positions(grid, 3),
            return_dict=False,
        )[0]
        return unpacked(found, grid, 2)

    config = pipeline.scheduler.config
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    mu = slope * (grid[0] * grid[1] - config.base_image_seq_len) + config.base_shift
    pipeline.scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / 5, 5), mu=mu)
    return velocity, pipeline.scheduler.timesteps


def sd3_velocity(folder: Path, texts: tuple[str, str], guidances: tuple[float, float]) -> Any:
    """(z, t, index) -> the guided velocity of Stable Diffusion 3, and the times of 5 steps."""
    pipeline: Any = diffusers.StableDiffusion3Pipeline.from_pretrained(folder)
    encoded = [pipeline.encode_prompt(text, None, None, negative_prompt="") for text in texts]

    def velocity(z: Tensor, t: float, index: int) -> Tensor:
        tokens, null, pooled, null_pooled = encoded[index]
        cond, unguided = (
            pipeline.transformer(
                hidden_states=z,
                timestep=torch.tensor([t * 1000]),
                encoder_hidden_states=own,
                pooled_projections=summary,
                return_dict=False,
            )[0]
            for own, summary in ((tokens, pooled), (null, null_pooled))
        )
        return unguided + guidances[index] * (cond - unguided)

    pipeline.scheduler.set_timesteps(5)
    return velocity, pipeline.scheduler.timesteps


@pytest.mark.parametrize(("n_max", "n_avg"), [(4, 1), pytest.param(5, 2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("family", "make", "guidances"),
    [("flux", flux_velocity, (1.5, 5.5)), ("sd3", sd3_velocity, (3.5, 13.5))],
    ids=["flux", "sd3"],
)
def test_edits_are_those_of_the_published_algorithm(
    folders: dict[str, Path], family: str, make: Any, guidances: tuple[float, float], n_max: int, n_avg: int
) -> None:
    """FlowEdit's loop with its guidance of each family, from the image to the edited latents."""
    model = load(folders[family])
    velocity, times = make(folders[family], ("a red hat", "a blue hat"), guidances)
    draw = Noise([Seed(3)], (16, HEIGHT // 8, WIDTH // 8))
    draw()
    source = model.vae.encode(as_tensor(np.asarray(photo())))
    edited = source.clone()
    with torch.no_grad():
        for t, after in pairwise([*(float(time) / 1000 for time in times), 0.0][-n_max - 1 :]):
            total = torch.zeros_like(source)
            for _ in range(n_avg):
                noised = (1 - t) * source + t * draw()
                moved = edited + noised - source
                total += (velocity(moved, t, 1) - velocity(noised, t, 0)) / n_avg
            edited = edited + (after - t) * total
    whole = HAT.replace(box=(0.0, 0.0, 1.0, 1.0))
    asked = scene(whole, caption="", background=photo(), steps=5, guidance=guidances[1])
    found = flow(asked, model, flow_start=n_max / 5, n_avg=n_avg, source_guidance=guidances[0]).latents
    torch.testing.assert_close(found, edited, atol=1e-4, rtol=1e-4)
    assert float((found - source).abs().mean()) > 0.01


def test_attention_to_texts_is_not_edited(model: Model) -> None:
    with pytest.raises(CapabilityError, match=r'no cross-attention, which the preset "p2p" edits'):
        edit(scene(HAT), model, preset="p2p", close_up=0.0)


def test_self_attention_of_the_source_is_shared(model: Model) -> None:
    """Of objects that stay the same; the rest stays."""
    free, shared = (
        edit(scene(HAT), model, preset="follow", close_up=0.0, **own) for own in ({"self_attention_share": 0.0}, {})
    )
    assert free.image.tobytes() != shared.image.tobytes()
    assert shared.report["identical_outside"] is True


EVERYWHERE = HAT.replace(box=(0.0, 0.0, 1.0, 1.0))


@pytest.mark.parametrize("preset", ["flow", "follow"])
def test_a_background_is_reused_outside_of_the_regions(model: Model, preset: str) -> None:
    """The rest stays; a mask of everything is the full computation to the bit, without memory."""
    check_reuse(model, preset)


@pytest.mark.parametrize("pipeline", ["FluxFillPipeline", "FluxKontextPipeline"])
def test_fill_and_kontext_reuse_a_background(tmp_path: Path, pipeline: str) -> None:
    check_reuse(load(write_flux(tmp_path / "made", pipeline=pipeline, embedded=True)), "follow")


def check_reuse(model: Model, preset: str) -> None:
    options: dict[str, Any] = {"preset": preset, "close_up": 0.0}
    full, reused = (edit(scene(TREE, HAT), model, **options, reuse_background=own) for own in (False, True))
    assert reused.report["identical_outside"] is True
    assert not torch.equal(full.latents, reused.latents)
    assert reused.report["background_memory"] > 0
    assert "background_memory" not in full.report
    full, reused = (edit(scene(EVERYWHERE), model, **options, reuse_background=own) for own in (False, True))
    assert torch.equal(full.latents, reused.latents)
    assert reused.report["background_memory"] == 0


@pytest.mark.parametrize(("family", "layers"), [("flux", 4), ("sd3", 2 * (3 + 2))])
def test_reused_keys_and_values_are_those_of_the_source(folders: dict[str, Path], family: str, layers: int) -> None:
    """Equal captions at equal guidance leave the latents: the target's tokens are the source's, whichever are computed.

    The memory is that of keys and values of the tokens outside, in each layer of 32 numbers: of Stable Diffusion 3 in
    the second layer of its two dual blocks, too, and of both branches of guidance.
    """
    model = load(folders[family])
    known = model.vae.encode(as_tensor(np.asarray(photo())))
    left = SAME.replace(box=(0.0, 0.0, 0.5, 1.0))
    result = flow(scene(left, background=photo(), guidance=4.0), model, reuse_background=True, source_guidance=4.0)
    torch.testing.assert_close(result.latents, known, atol=1e-5, rtol=0)
    assert result.report["background_memory"] == 2 * layers * 32 * (3 * 4) * 4


def test_a_network_of_whole_images_is_refused(tiny: Model) -> None:
    with pytest.raises(CapabilityError, match=r"cannot reuse a background; .* load a diffusion transformer"):
        flow(scene(HAT), tiny, reuse_background=True)


def test_an_inversion_is_exact(model: Model) -> None:
    """O-BELM restores the image; equal texts restore it in the edited canvas too, which stored offsets do not."""
    known = model.vae.encode(as_tensor(np.asarray(photo())))
    prepared = prepare(scene(background=None, guidance=1.0), model)
    found = invert_by_belm(prepared.plan, known, prepared.steps)
    back = sample(prepared.plan, found.sampler, found.noise, prepared.steps, noise=lambda: torch.zeros(0))
    torch.testing.assert_close(back, known, atol=1e-5, rtol=0)
    options: dict[str, Any] = {"preset": "follow", "close_up": 0.0, "fresh_noise": 0.0, "self_attention_share": 0.0}
    asked = scene(SAME.replace(box=(0.0, 0.0, 1.0, 1.0)), background=photo(), guidance=1.0)
    exact, stored = (edit(asked, model, **options, **own).latents for own in ({}, {"inversion": "direct"}))
    torch.testing.assert_close(exact, known, atol=1e-4, rtol=0)
    assert float((stored - known).abs().max()) > 1e-3


def test_mrgd_inverts_and_steers(folders: dict[str, Path]) -> None:
    """With the losses of a CLIPSeg on the estimates, and the rest kept."""
    model = replace(load(folders["flux"]), segmenter=load("builtin").segmenter)
    asked = scene(HAT, STAR)
    results = [edit(asked, model, preset=preset, close_up=0.0) for preset in ("mrgd", "follow")]
    assert all(result.report["identical_outside"] is True for result in results)
    assert not torch.equal(*(result.latents for result in results))
