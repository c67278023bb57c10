from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import cloisonne as cl
from cloisonne.errors import Cancelled, CapabilityError, ImageError, SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.progress import Progress
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
SCENE = Scene(caption="on the beach", seed=3, regions=(CAT,))


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_caption_alone_is_what_diffusers_draws(tiny_sd: Path, scale: float) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(
        tiny_sd, safety_checker=None, feature_extractor=None, image_encoder=None, low_cpu_mem_usage=False
    )
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    latents = torch.randn(2, 4, 8, 8)
    text = {"prompt": ["a red cat"] * 2, "negative_prompt": ["dog"] * 2}
    options = {"num_inference_steps": 5, "guidance_scale": scale, "height": 64, "width": 64}
    expected = pipeline(**text, **options, latents=latents.clone(), output_type="latent").images
    pictures = pipeline(**text, **options, latents=latents.clone(), output_type="np").images

    scene = Scene(
        caption="a red cat", negative="dog", seed=0, steps=5, guidance=scale, sampler="ddim", method="attention"
    )
    result = generate(scene, load(tiny_sd), latents=latents, num_images=2)
    torch.testing.assert_close(result.latents, expected, atol=1e-4, rtol=0)
    ours = np.stack([np.asarray(image) for image in result.images]) / 255
    np.testing.assert_allclose(ours, pictures, atol=0.5 / 255 + 1e-4)


def test_result_is_resolved_and_reported(tiny: Model) -> None:
    result = generate(SCENE.replace(seed=None), tiny, num_images=2)
    native, scene = tiny.native, result.scene
    assert (scene.width, scene.height, scene.steps, scene.guidance) == (64, 64, native.steps, native.guidance)
    assert (scene.sampler, scene.model) == (native.sampler, tiny.name)
    assert [image.size for image in result.images] == [(64, 64)] * 2
    assert result.image is result.images[0]
    seed = scene.seed
    assert seed is not None
    report = result.report
    assert report["version"] == 1
    assert report["outputs"] == [{"path": None, "seed": seed + i, "sha256": None} for i in range(2)]
    assert report["scene"] == scene.to_dict(complete=True)
    assert report["model"] == {"name": tiny.name, "sha256": tiny.hash, "device": "cpu", "dtype": "float32"}
    assert (report["forwards"], report["rows"]) == (2 * 3, 2 * 3 * 2)
    assert report["seconds"] > 0
    assert (report["dropped"], report["warnings"]) == ([], [])
    assert (report["identical_outside"], report["max_difference_outside"]) == (None, None)


def test_missing_seed_is_drawn_once_and_draws_the_same_again(tiny: Model) -> None:
    scene = SCENE.replace(seed=None)
    first, second = (generate(scene, tiny, output_type="latent") for _ in range(2))
    assert first.scene.seed != second.scene.seed
    assert torch.equal(generate(first.scene, tiny, output_type="latent").latents, first.latents)


def test_model_is_named_as_it_was_asked_for(tiny: Model) -> None:
    """By the path that found it, so that the scene finds it again; or else by its own name."""
    asked = f"models/{tiny.name}"
    assert generate(SCENE.replace(model=asked), tiny, output_type="latent").scene.model == asked
    assert generate(SCENE.replace(model="other"), tiny, output_type="latent").scene.model == tiny.name


def test_given_seed_wins(tiny: Model) -> None:
    result = generate(SCENE, tiny, seed=8, output_type="latent")
    assert result.scene.seed == 8
    assert result.images == []
    assert not torch.equal(result.latents, generate(SCENE, tiny, output_type="latent").latents)


def test_dropped_regions_are_reported(tiny: Model) -> None:
    long = Region(name="long", box=(0.0, 0.0, 0.2, 0.2), phrase=" ".join(["car"] * 60))
    result = generate(SCENE.replace(regions=(CAT, long)), tiny, output_type="latent")
    assert result.report["dropped"] == ["long"]


def test_karras_spacing_is_the_scene_s(tiny: Model) -> None:
    spaced = generate(SCENE.replace(spacing="karras"), tiny, output_type="latent").latents
    assert not torch.equal(spaced, generate(SCENE, tiny, output_type="latent").latents)


def test_callback_sees_every_step_of_every_picture(tiny: Model) -> None:
    events: list[Progress] = []
    result = generate(SCENE, tiny, num_images=2, on_step=events.append)
    assert [(event.image, event.step) for event in events] == [(i, s) for i in range(2) for s in (1, 2, 3)]
    assert all((event.num_images, event.total, event.loss) == (2, 3, None) for event in events)
    assert {(event.verb, event.stage) for event in events} == {("generate", "sampling")}
    assert torch.equal(events[2].latents, result.latents[0])
    preview = events[0].preview()
    assert preview is not None
    assert (preview.size, preview.mode) == ((64, 64), "RGB")
    assert repr(events[4]) == "Progress of generate: sampling 2 of 3, image 2 of 2"


def test_cancelled_run_leaves_the_model_as_it_was(tiny: Model) -> None:
    before = generate(SCENE, tiny, output_type="latent").latents

    def stop(event: Progress) -> None:
        if event.step == 2:
            raise Cancelled("Stopped by the user.")

    with pytest.raises(Cancelled):
        generate(SCENE, tiny, on_step=stop)
    assert torch.equal(generate(SCENE, tiny, output_type="latent").latents, before)


def test_global_generator_is_left_alone(tiny: Model) -> None:
    state = torch.get_rng_state()
    generate(SCENE.replace(sampler="euler-ancestral"), tiny, on_step=lambda event: event.preview() and None)
    assert torch.equal(torch.get_rng_state(), state)


def test_given_latents_do_not_shift_later_noise(tiny: Model) -> None:
    from cloisonne.core.noise import Noise, Seed

    scene = SCENE.replace(sampler="euler-ancestral")
    noise = Noise([Seed(3)], (4, 8, 8))()
    given = generate(scene, tiny, latents=noise, output_type="latent").latents
    assert torch.equal(given, generate(scene, tiny, output_type="latent").latents)


def test_wrong_numbers_are_refused(tiny: Model) -> None:
    with pytest.raises(SceneError, match=r"^num_images is 0; give at least 1\.$"):
        generate(SCENE, tiny, num_images=0)
    with pytest.raises(SceneError, match=r"^latents have the shape \[1, 4, 4, 4\]; .* takes \[1, 4, 8, 8\]\.$"):
        generate(SCENE, tiny, latents=torch.zeros(1, 4, 4, 4))
    with pytest.raises(SceneError, match=r'^output_type is "np"; choose "pil"'):
        generate(SCENE, tiny, output_type="np")  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="seed"):
        generate(SCENE.replace(seed=2**53 - 1), tiny, num_images=2)


def test_canvas_must_fit_the_latents(tiny: Model) -> None:
    from dataclasses import replace

    coarse = replace(tiny)
    object.__setattr__(coarse, "vae", type("Coarse", (), {"factor": 16, "channels": 4})())
    with pytest.raises(CapabilityError, match=r"canvas is 72 x 64 pixels, .* multiples of 16; give 64 x 64\.$"):
        generate(SCENE.replace(width=72), coarse)


def test_canvas_of_any_multiple_of_8(tiny: Model) -> None:
    result = generate(SCENE.replace(width=104, height=72), tiny)
    assert result.image.size == (104, 72)
    assert result.latents.shape == (1, 4, 9, 13)


def test_inpaint_is_generate_for_a_background_and_a_mask(tiny: Model) -> None:
    source = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    mask = np.zeros((70, 90), bool)
    mask[10:40, 20:60] = True
    fields = {"caption": "on the beach", "negative": "dog", "strength": 0.8, "steps": 3}
    filled = cl.inpaint(source, mask, tiny, phrase="a cat", seed=4, **fields)
    region = Region(mask=mask, phrase="a cat")
    scene = Scene(background=source, regions=(region,), **fields)
    assert filled.image.tobytes() == generate(scene, tiny, seed=4).image.tobytes()
    assert filled.report["identical_outside"] is True


def test_missing_background_is_refused(tiny: Model, workdir: Path) -> None:
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        generate(SCENE.replace(background="nowhere.png"), tiny)
