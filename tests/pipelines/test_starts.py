"""Starts: where sampling begins, for noise, given images and concepts."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cloisonne
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Plan
from cloisonne.core.sample import sample
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.starts import start_maker
from cloisonne.scene.scene import Scene

PET = {"name": "pet", "box": (0.1, 0.1, 0.6, 0.6), "phrase": "a cat"}
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
CONCEPT = {"name": "all", "box": (0.0, 0.0, 1.0, 1.0), "concept": PHOTO.transpose(Image.Transpose.ROTATE_90)}
LEARNED = {"preset": "learned", "rounds": 2, "batch": 1}
SCENES: dict[str, dict[str, Any]] = {
    "text to image": {"regions": [PET]},
    "image to image": {"background": PHOTO, "strength": 0.6},
    "inpainting": {"background": PHOTO, "regions": [PET]},
    "translation": {"background": PHOTO, "regions": [CONCEPT], "translating": LEARNED, "caption": ""},
    "mixed": {"background": PHOTO, "regions": [CONCEPT, PET], "translating": LEARNED, "caption": ""},
}


def scene(kind: str) -> Scene:
    return Scene(**{"caption": "on the beach", "seed": 3, "steps": 4, "sampler": "euler-ancestral"} | SCENES[kind])


def noise(model: Model, regions: tuple[Any, ...] = ()) -> Noise:
    return Noise([Seed(3, regions)], (model.vae.channels, 8, 8), model.device)


@pytest.mark.parametrize("kind", SCENES)
def test_sampling_from_a_start_is_generate(tiny: Model, kind: str) -> None:
    """A start, the steps and the noise are all that the loop needs, whatever the scene is."""
    maker = start_maker(scene(kind), tiny)
    own = noise(tiny, maker.prepared.compiled.seeds)
    start = maker.start(own, Plan())
    assert start.latents.shape == (len(start.plan.streams), tiny.vae.channels, 8, 8)
    z = sample(start.plan, start.sampler, start.latents, maker.prepared.steps, noise=own)
    latents = z[start.plan.streams.index(maker.stream)]
    expected = generate(maker.prepared.scene, tiny, output_type="latent")
    assert torch.equal(latents, expected.latents[0])


def test_text_to_image_starts_at_the_noise_of_its_seed(tiny: Model) -> None:
    start = start_maker(scene("text to image"), tiny).start(noise(tiny), Plan())
    assert torch.equal(start.latents, noise(tiny)())
    given = torch.randn(tiny.vae.channels, 8, 8)
    assert torch.equal(start_maker(scene("text to image"), tiny).start(noise(tiny), Plan(), given).latents[0], given)


def test_image_to_image_starts_at_the_noised_image(tiny: Model) -> None:
    maker = start_maker(scene("image to image"), tiny)
    start, first = maker.start(noise(tiny), Plan()), maker.prepared.steps[0]
    pixels = torch.from_numpy(np.asarray(PHOTO).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    expected = first.alpha * tiny.vae.encode(pixels) + first.s * noise(tiny)()
    torch.testing.assert_close(start.latents, expected, atol=1e-5, rtol=0)


def test_generate_knows_no_kind_of_start() -> None:
    """Which maker a scene has is decided in one place."""
    path = Path(cloisonne.__file__).parent / "pipelines" / "generate.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [name for name in imported if "translation" in name or "vct" in name or "editing" in name] == []
