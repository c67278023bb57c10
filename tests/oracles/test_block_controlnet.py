"""ControlNets of transformers: diffusers' pipelines with full masks, and nothing outside of a region with its mask."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from block_controlled import KINDS, without_variance, write_block_controlnet
from flux import LENGTH, write_flux
from flux2 import write_flux2
from PIL import Image
from sd3 import write_sd3
from torch import Tensor
from zimage import write_zimage

from cloisonne.core.predict import predict
from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.load import load
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_tensor
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.prompt import pieces
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

pytestmark = pytest.mark.filterwarnings("ignore:.*FluxPosEmbed:FutureWarning")
WIDTH, HEIGHT = 96, 64
CAPTION = "a red cat on the beach"
FULL, LEFT = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.5, 1.0)
PIPELINES = {
    "flux": "FluxControlNetPipeline",
    "sd3": "StableDiffusion3ControlNetPipeline",
    "zimage": "ZImageControlNetPipeline",
}
NETWORKS: dict[str, tuple[Any, Any]] = {
    "flux": (diffusers.FluxTransformer2DModel, diffusers.FluxControlNetModel),
    "sd3": (diffusers.SD3Transformer2DModel, diffusers.SD3ControlNetModel),
    "zimage": (diffusers.ZImageTransformer2DModel, diffusers.ZImageControlNetModel),
}
SLOW = ("sd3 pooled", "zimage refined")
"""Kinds that differ little from the others."""
GUIDANCE = {"flux": 3.5, "sd3": 4.5, "zimage": 5.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of each family, and a ControlNet of each kind."""
    root = tmp_path_factory.mktemp("controlled")
    write_flux(root / "flux", double=3, single=2)
    write_sd3(root / "sd3", "3.5 medium", layers=4)
    write_zimage(root / "zimage", turbo=False, layers=3)
    for family in PIPELINES:
        without_variance(root / family)
    for kind in KINDS:
        write_block_controlnet(root / f"net {kind}", kind)
    for family in ("flux", "sd3"):
        write_block_controlnet(root / f"net {family} other", family, 6)
    return root


def photo(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))


def wall(box: Any = FULL, strength: float = 0.7, kind: str = "canny", seed: int = 0, **changes: Any) -> Region:
    control = {"kind": kind, "image": photo(seed), "strength": strength}
    return Region(**{"name": f"{kind} {box}", "box": box, "control": control} | changes)


def scene_of(family: str, *regions: Region, **changes: Any) -> Scene:
    fields = {"caption": CAPTION, "guidance": GUIDANCE[family], "width": WIDTH, "height": HEIGHT}
    negative = {} if family == "flux" else {"negative": "dog"}
    return Scene(**fields | negative | {"seed": 0, "steps": 4, "regions": regions} | changes)


def noise() -> Tensor:
    return torch.randn(1, 16, HEIGHT // 8, WIDTH // 8, generator=torch.Generator().manual_seed(0))


def theirs(folder: Path, family: str, nets: list[str], **given: Any) -> Tensor:
    """The latents of diffusers' pipeline."""
    read = [KINDS[net.removesuffix(" other")][0].from_pretrained(folder / f"net {net}") for net in nets]
    kind: Any = getattr(diffusers, PIPELINES[family])
    pipeline = kind.from_pretrained(folder / family, controlnet=read if len(read) > 1 else read[0])
    pipeline.set_progress_bar_config(disable=True)
    own = {
        "flux": {"max_sequence_length": LENGTH, "latents": packed(noise(), 2)},
        "sd3": {"latents": noise(), "negative_prompt": "dog"},
        "zimage": {"latents": noise(), "negative_prompt": "dog"},
    }[family]
    scale = GUIDANCE[family] - (family == "zimage")
    sizes = {"width": WIDTH, "height": HEIGHT, "num_inference_steps": 4, "guidance_scale": scale}
    found = pipeline(CAPTION, output_type="latent", **own | sizes | given).images
    return unpacked(found, (HEIGHT // 16, WIDTH // 16), 2) if family == "flux" else found


def ours(model: Model, family: str, *regions: Region, **changes: Any) -> Tensor:
    return generate(scene_of(family, *regions, **changes), model, latents=noise(), output_type="latent").latents


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SLOW else (), id=kind) for kind in KINDS]
)
def test_a_full_mask_is_diffusers_pipeline(folder: Path, kind: str) -> None:
    family = kind.partition(" ")[0]
    mode = {"control_mode": 2} if kind == "flux union" else {}
    given = {"control_image": photo(), "controlnet_conditioning_scale": 0.7} | mode
    model = load(folder / family, adapters={"depth": folder / f"net {kind}"})
    found = ours(model, family, wall(kind="depth"))
    torch.testing.assert_close(found, theirs(folder, family, [kind], **given), atol=1e-4, rtol=0)
    assert (found - ours(model, family)).abs().max() > 0.01


@pytest.mark.parametrize("family", ["flux", "sd3"])
def test_several_and_part_of_the_steps_are_diffusers_pipeline(folder: Path, family: str) -> None:
    nets = [family, f"{family} other"]
    expected = theirs(
        folder,
        family,
        nets,
        control_image=[photo(0), photo(1)],
        controlnet_conditioning_scale=[0.7, 0.5],
        control_guidance_start=[0.0, 0.25],
        control_guidance_end=[1.0, 0.75],
    )
    adapters = {kind: folder / f"net {net}" for kind, net in zip(("canny", "depth"), nets, strict=True)}
    model = load(folder / family, adapters=adapters)
    regions = (wall(), wall(strength=0.5, kind="depth", seed=1, start=0.25, stop=0.75))
    asked = scene_of(family, *regions)
    found = generate(asked, model, latents=noise(), output_type="latent")
    torch.testing.assert_close(found.latents, expected, atol=1e-4, rtol=0)
    rows = 1 if family == "flux" else 2
    # Of 4 steps, one ControlNet runs in all and one in 2.
    assert (found.report["forwards"], found.report["rows"]) == (4 + 4 + 2, rows * 10)
    explained = explain(asked, model)
    assert (explained.forwards, explained.rows) == (10, rows * 10)
    assert explained.flops > explain(scene_of(family), model).flops
    assert torch.equal(ours(model, family, *regions[::-1]), found.latents)


def test_networks_of_other_depths_add_up(folder: Path) -> None:
    """A union of double blocks next to one that also has single blocks, each by its own mask."""
    adapters = {"canny": folder / "net flux", "depth": folder / "net flux union", "openpose": folder / "net flux"}
    model = load(folder / "flux", adapters=adapters)
    right = wall((0.5, 0.0, 1.0, 1.0), kind="depth", seed=1)
    found = [ours(model, "flux", *own) for own in ((wall(LEFT), right), (wall(LEFT),), (right,), ())]
    assert all((one - other).abs().max() > 1e-3 for i, one in enumerate(found) for other in found[:i])
    same = [ours(model, "flux", wall(LEFT, kind=kind)) for kind in ("canny", "openpose")]
    assert torch.equal(*same)


@pytest.mark.parametrize("family", ["flux", "zimage"])
def test_a_mask_confines_the_residuals(tmp_path: Path, family: str) -> None:
    """Behind the only block, where no attention follows; strength 0 and an empty interval are absent."""
    write = {"flux": write_flux, "zimage": write_zimage}[family]
    layers = {"flux": {"double": 1, "single": 0}, "zimage": {"layers": 1, "turbo": False}}[family]
    changes = {
        "flux": {"num_layers": 1, "num_single_layers": 0},
        "zimage": {"control_layers_places": [0]},
    }[family]
    net = write_block_controlnet(tmp_path / "net", family, **changes)
    model = load(write(tmp_path / "base", **layers), adapters={"canny": net})
    plain = ours(model, family, steps=1)
    changed = (ours(model, family, wall(LEFT), steps=1) != plain)[0].any(0)
    middle = WIDTH // 16
    assert bool(changed[:, :middle].all())
    assert not bool(changed[:, middle:].any())
    for absent in ({"strength": 0.0}, {"start": 0.5, "stop": 0.5}):
        assert torch.equal(ours(model, family, wall(LEFT, **absent), steps=1), plain)
    soft = ours(model, family, wall(strength=0.35), steps=1)
    grey = np.full((HEIGHT, WIDTH), 0.5)
    found = ours(model, family, wall(box=None, mask=grey, name="grey"), steps=1)
    torch.testing.assert_close(found, soft, atol=1e-4, rtol=0)


class ByToken:
    """A scale of a ControlNet's output [1, S, D] by token. image: of each image token; others have the least."""

    def __init__(self, image: Tensor) -> None:
        self._image = image

    def __rmul__(self, output: Tensor) -> Tensor:
        others = self._image.min().expand(output.shape[1] - len(self._image))
        return output * torch.cat([self._image, others])[:, None]


@pytest.mark.parametrize("kind", ["flux", "sd3", "zimage", "zimage refined", "zimage shared"])
@torch.no_grad()
def test_a_soft_mask_multiplies_the_residuals_of_diffusers_network(folder: Path, kind: str) -> None:
    """An explicit forward pass: diffusers' ControlNet, the mask on image tokens, diffusers' transformer."""
    family = kind.partition(" ")[0]
    mask = np.full((HEIGHT, WIDTH), 0.25)
    mask[:, : WIDTH // 2], mask[:32, :32] = 0.5, 1.0
    model = load(folder / family, adapters={"canny": folder / f"net {kind}"})
    run = prepare(scene_of(family, wall(None, mask=mask, name="soft"), guidance=1.0, method="caption"), model)
    step, z = run.steps[1], noise()
    text = model.text.encode(pieces(CAPTION))
    hint = model.vae.encode(as_tensor(np.asarray(photo())))
    token = torch.from_numpy(mask)[None].unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2)).flatten().float()
    scale: Any = ByToken(0.7 * token)
    network, net = (kind.from_pretrained(own) for kind, own in zip(NETWORKS[family], [
        folder / family / "transformer", folder / f"net {kind}"], strict=True))  # fmt: skip
    given: dict[str, Any] = {"encoder_hidden_states": text.tokens[None]}
    if family == "zimage":
        net = net.from_transformer(net, network)
        # Further input channels are 0.
        hint = F.pad(hint, (0, 0, 0, 0, 0, net.config.control_in_dim - hint.shape[1]))[0][:, None]
        own = ([z[0][:, None]], torch.tensor([1 - step.s]), [text.tokens])
        levels = net(*own, [hint], conditioning_scale=scale)
        flow = -network(*own, controlnet_block_samples=levels, return_dict=False)[0][0][None, :, 0]
    elif family == "sd3":
        assert text.pooled is not None
        given |= {"hidden_states": z, "timestep": torch.tensor([step.s * 1000])}
        given |= {"pooled_projections": text.pooled[None]}
        # InstantX's take no pooled text, and latents without the shift.
        zeros, config = torch.zeros_like(given["pooled_projections"]), model.vae.module.config
        hint = hint + config.shift_factor * config.scaling_factor
        levels = net(**given | {"pooled_projections": zeros}, controlnet_cond=hint)[0]
        levels = [level * scale for level in levels]
        flow = network(**given, block_controlnet_hidden_states=levels, return_dict=False)[0]
    else:
        assert text.pooled is not None
        given |= {"hidden_states": packed(z, 2), "timestep": torch.tensor([step.s]), "guidance": torch.ones(1)}
        given |= {
            "pooled_projections": text.pooled[None],
            "txt_ids": torch.zeros(len(text.tokens), 3),
            "img_ids": image_positions((HEIGHT // 16, WIDTH // 16), 3),
        }
        double, single = net(**given, controlnet_cond=packed(hint, 2), return_dict=False)
        double, single = ([level * scale for level in own] for own in (double, single))
        output = network(
            **given, controlnet_block_samples=double, controlnet_single_block_samples=single, return_dict=False
        )[0]
        flow = unpacked(output, (HEIGHT // 16, WIDTH // 16), 2)
    found = predict(run.plan, z, step)
    torch.testing.assert_close(found, z - step.s * flow, atol=5e-5, rtol=1e-5)
    plain = prepare(scene_of(family, guidance=1.0, method="caption"), model)
    assert (found - predict(plain.plan, z, step)).abs().max() > 0.01


@pytest.mark.parametrize(("family", "warned"), [("flux", True), ("sd3", False)])
def test_a_network_without_a_null_branch_warns_of_a_setting_of_branches(
    folder: Path, family: str, warned: bool
) -> None:
    model = load(folder / family, adapters={"canny": folder / f"net {family}"})
    control = {"kind": "canny", "image": photo(), "conditional_only": True}
    found = explain(scene_of(family, wall(control=control)), model).warnings
    assert any('"conditional_only" of its control changes nothing here' in line for line in found) == warned


def test_another_model_s_controlnet_is_refused(folder: Path, tmp_path: Path) -> None:
    wide = write_block_controlnet(tmp_path / "wide", "flux", num_attention_heads=3)
    with pytest.raises(CheckpointError, match=r"ControlNet for canny has num_attention_heads 3, which does not fit"):
        load(folder / "flux", adapters={"canny": wide})
    with pytest.raises(CheckpointError, match="is of SD3ControlNetModel"):
        load(folder / "flux", adapters={"canny": folder / "net sd3"})
    with pytest.raises(CheckpointError, match=r'union of 4 modes, of which none is "sobel".* canny, depth'):
        load(folder / "flux", adapters={"sobel": folder / "net flux union"})
    with pytest.raises(CheckpointError, match="no diffusers folder of a FluxControlNetModel"):
        load(folder / "flux", adapters={"canny": folder / "flux"})
    schnell = write_flux(tmp_path / "schnell", embedded=False)
    with pytest.raises(CheckpointError, match="guidance_embeds True"):
        load(schnell, adapters={"canny": folder / "net flux"})
    klein = write_flux2(tmp_path / "klein")
    with pytest.raises(CapabilityError, match=r"FLUX.2 klein takes no ControlNet .*FLUX.1, Stable Diffusion 3"):
        load(klein, adapters={"canny": folder / "net flux"})
    kontext = write_flux(tmp_path / "kontext", pipeline="FluxKontextPipeline")
    with pytest.raises(CapabilityError, match=r"FLUX.1 Kontext takes no ControlNet .*FLUX.1, Stable Diffusion 3"):
        load(kontext, adapters={"canny": folder / "net flux"})
    for family, net in (("zimage", "zimage"), ("sd3", "sd3 large")):
        with pytest.raises(CapabilityError, match="takes layers of the model's own network"):
            load(folder / family, adapters={"canny": folder / f"net {net}"}, offload=True)
