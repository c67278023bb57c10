"""Edits on diffusion transformers: FlowEdit as published, masks by region, several edits at once, and the rest kept."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from flux import LENGTH
from mmdit_families import WRITERS
from PIL import Image
from torch import Tensor

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


@pytest.fixture(scope="module", params=WRITERS)
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


@pytest.mark.parametrize(("n_max", "n_avg"), [(4, 1), (5, 2)])
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


def test_attention_is_not_shared(model: Model) -> None:
    with pytest.raises(CapabilityError, match="attention edits"):
        edit(scene(HAT), model, preset="follow", close_up=0.0)
