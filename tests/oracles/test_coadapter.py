"""CoAdapter's fuser is what torch's own transformer layers make of its published tensors; then masks apply."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import T2IAdapter
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import write_checkpoint
from torch import Tensor, nn

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.methods.control import control_map
from cloisonne.models.adapters.coadapter import CoAdapterFuser
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.geometry import Frame

WIDTH, HEADS, LAYERS = 32, 8, 3
CHANNELS = (8, 16)
SD_LIKE = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


def published(width: int = WIDTH, channels: tuple[int, ...] = CHANNELS, layers: int = LAYERS) -> dict[str, Tensor]:
    """Random tensors in the layout of coadapter-fuser-sd15v1; what training starts from zero is not zero here."""
    torch.manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "task_embedding": (16, width),
        "positional_embedding": (len(channels), width),
        "seq_proj": (width, width),
    }
    for level, own in enumerate(channels):
        shapes |= {
            f"spatial_feat_mapping.{level}.1.weight": (width, own),
            f"spatial_ch_projs.{level}.weight": (own, width),
        }
        shapes |= {f"spatial_feat_mapping.{level}.1.bias": (width,), f"spatial_ch_projs.{level}.bias": (own,)}
    for layer in (f"transformer_layes.{i}" for i in range(layers)):
        shapes |= {f"{layer}.attn.in_proj_weight": (3 * width, width), f"{layer}.attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{layer}.attn.out_proj.weight": (width, width), f"{layer}.attn.out_proj.bias": (width,)}
        shapes |= {f"{layer}.mlp.c_fc.weight": (4 * width, width), f"{layer}.mlp.c_fc.bias": (4 * width,)}
        shapes |= {f"{layer}.mlp.c_proj.weight": (width, 4 * width), f"{layer}.mlp.c_proj.bias": (width,)}
        for norm in ("ln_1", "ln_2"):
            shapes |= {f"{layer}.{norm}.weight": (width,), f"{layer}.{norm}.bias": (width,)}
    for norm in ("ln_pre", "ln_post"):
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    return {name: torch.randn(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.5) for name, shape in shapes.items()}


TORCH = {
    "self_attn.in_proj_": "attn.in_proj_",
    "self_attn.out_proj": "attn.out_proj",
    "linear1": "mlp.c_fc",
    "linear2": "mlp.c_proj",
    "norm1": "ln_1",
    "norm2": "ln_2",
}


def by_torch(t: dict[str, Tensor], adapters: list[tuple[int, tuple[Tensor, ...]]]) -> list[tuple[Tensor, ...]]:
    """The same by torch's TransformerEncoderLayer; adapters: row of the task embedding, and features."""
    width = t["task_embedding"].shape[1]
    sequence: list[Tensor] = []
    for task, features in adapters:
        for level, feature in enumerate(features):
            mean = nn.functional.silu(nn.functional.adaptive_avg_pool2d(feature, 1).flatten())
            token = t[f"spatial_feat_mapping.{level}.1.weight"] @ mean + t[f"spatial_feat_mapping.{level}.1.bias"]
            sequence.append(token + t["task_embedding"][task] + t["positional_embedding"][level])
    norms = {}
    for name in ("ln_pre", "ln_post"):
        norms[name] = nn.LayerNorm(width)
        norms[name].load_state_dict({kind: t[f"{name}.{kind}"] for kind in ("weight", "bias")})
    x = norms["ln_pre"](torch.stack(sequence)[None])
    for layer in range(LAYERS):
        block = nn.TransformerEncoderLayer(
            width,
            HEADS,
            4 * width,
            dropout=0.0,
            activation=lambda h: h * (1.702 * h).sigmoid(),
            norm_first=True,
            batch_first=True,
        ).eval()
        own = {}
        for name in block.state_dict():
            (ours, theirs) = next(pair for pair in TORCH.items() if name.startswith(pair[0]))
            own[name] = t[f"transformer_layes.{layer}.{name.replace(ours, theirs)}"]
        block.load_state_dict(own)
        x = block(x)
    answers = iter(norms["ln_post"](x)[0])
    return [
        tuple(
            feature
            * (1 + t[f"spatial_ch_projs.{i}.weight"] @ next(answers) + t[f"spatial_ch_projs.{i}.bias"])[:, None, None]
            for i, feature in enumerate(features)
        )
        for _, features in adapters
    ]


@torch.no_grad()
@pytest.mark.parametrize("kinds", [["canny"], ["canny", "color"], ["sketch", "depth", "openpose", "canny"]])
def test_it_is_torchs_own_transformer(kinds: list[str]) -> None:
    tasks = {"sketch": 0, "depth": 3, "canny": 4, "color": 6, "openpose": 7}
    t = published()
    adapters = [(kind, (torch.randn(8, 9, 11), torch.randn(16, 5, 6))) for kind in kinds]
    ours = CoAdapterFuser(t)(adapters)
    theirs = by_torch(t, [(tasks[kind], features) for kind, features in adapters])
    for own, expected, (_, plain) in zip(ours, theirs, adapters, strict=True):
        for a, b, c in zip(own, expected, plain, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
            assert not torch.allclose(a, c, atol=0.1)
    again = CoAdapterFuser(t)(adapters[::-1])[::-1]
    for a, b in zip(ours, again, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_untrained_it_changes_nothing() -> None:
    t = {name: torch.zeros_like(x) if "spatial_ch_projs" in name else x for name, x in published().items()}
    adapters = [("canny", (torch.randn(8, 4, 4), torch.randn(16, 2, 2)))]
    assert all(torch.equal(a, b) for a, b in zip(CoAdapterFuser(t)(adapters)[0], adapters[0][1], strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("coadapted")
    write_checkpoint(root / "sd", unet=SD_LIKE)
    for seed, (kind, channels) in enumerate({"canny": 1, "color": 3, "lineart": 1}.items()):
        torch.manual_seed(seed)
        T2IAdapter(
            in_channels=channels,
            channels=list(CHANNELS),
            num_res_blocks=2,
            downscale_factor=8,
            adapter_type="full_adapter",
        ).save_pretrained(root / kind)
    save_file(published(), root / "fuser.safetensors")
    save_file({f"module.{name}": tensor for name, tensor in published().items()}, root / "wrapped.safetensors")
    return root


def fused(folder: Path, fuser: str = "fuser.safetensors", **options: Any) -> Model:
    return load(
        folder / "sd", adapters={kind: folder / kind for kind in ("canny", "color")}, fuser=folder / fuser, **options
    )


def region(
    kind: str, box: tuple[float, float, float, float], strength: float = 1.0, *, conditional_only: bool = False
) -> Region:
    rgb = np.random.default_rng(len(kind)).integers(0, 255, (64, 64, 3), np.uint8)
    control = {
        "kind": kind,
        "image": Image.fromarray(rgb),
        "strength": strength,
        "conditional_only": conditional_only,
    }
    return Region(name=kind, box=box, control=control)


def scene_of(*regions: Region) -> Scene:
    return Scene(caption="a red cat", method="attention", sampler="ddim", seed=0, steps=3, regions=regions)


LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


@torch.no_grad()
def test_a_branch_is_fused_from_its_own_controls(folder: Path) -> None:
    model = fused(folder)
    received: list[list[Tensor]] = []
    forward: Any = model.net.unet.forward

    def listening(*args: Any, **given: Any) -> Any:
        received.append([level.clone() for level in given["down_intrablock_additional_residuals"]])
        return forward(*args, **given)

    model.net.unet.forward = listening
    kept = region("canny", LEFT)
    for scene in (scene_of(kept, region("color", RIGHT, conditional_only=True)), scene_of(kept)):
        generate(scene.replace(steps=1, guidance=3.0), model, output_type="latent")
    (mixed, alone), both = received, 2
    assert all(level.shape[0] == both for level in mixed)
    same = [[torch.equal(a[row], b[row]) for row in range(both)] for a, b in zip(mixed, alone, strict=True)]
    assert same == [[False, True]] * len(same)  # conditional and null


@torch.no_grad()
def test_features_are_fused_before_they_are_masked(folder: Path) -> None:
    model, plain = fused(folder), load(folder / "sd", adapters={kind: folder / kind for kind in ("canny", "color")})
    scene = scene_of(region("canny", LEFT, 0.7), region("color", RIGHT))
    received: list[tuple[Tensor, ...]] = []
    forward: Any = model.net.unet.forward

    def listening(*args: Any, **given: Any) -> Any:
        received.append(tuple(level[0].clone() for level in given["down_intrablock_additional_residuals"]))
        return forward(*args, **given)

    model.net.unet.forward = listening
    ours = generate(scene, model, output_type="latent").latents
    features = []
    for part in scene.regions:
        control: Any = part.control
        levels = plain.adapters[control.kind].features(control_map(control, Frame.whole((64, 64))))
        features.append((control.kind, tuple(level * control.strength for level in levels)))
    left, right = CoAdapterFuser(published())(features)
    for level, a, b in zip(received[0], left, right, strict=True):
        half = level.shape[-1] // 2
        torch.testing.assert_close(level, torch.cat([a[..., :half], b[..., half:]], dim=-1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, generate(scene, plain, output_type="latent").latents, atol=1e-3)
    wrapped = generate(scene, fused(folder, "wrapped.safetensors"), output_type="latent").latents
    torch.testing.assert_close(ours, wrapped, atol=1e-4, rtol=1e-4)
    assert model.parameters > plain.parameters
    assert model.hash != plain.hash
    assert explain(scene, model).forwards == 3


def test_what_cannot_be_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CapabilityError, match="The fuser supports no adapter for lineart; load it with adapters for sketch"
    ):
        load(folder / "sd", adapters={"lineart": folder / "lineart"}, fuser=folder / "fuser.safetensors")
    with pytest.raises(CheckpointError, match="There is no file"):
        fused(folder, "none.safetensors")
    (folder / "x.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        fused(folder, "x.pth")
    save_file({"a": torch.zeros(1)}, folder / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"is no fuser of CoAdapters .it has no task_embedding"):
        fused(folder, "other.safetensors")
    tensors = load_file(folder / "fuser.safetensors")
    tensors.pop("transformer_layes.1.mlp.c_fc.bias")
    save_file(tensors, folder / "less.safetensors")
    with pytest.raises(CheckpointError, match=r"it lacks transformer_layes.1.mlp.c_fc.bias"):
        fused(folder, "less.safetensors")
    save_file(published(channels=(8, 16, 16)), folder / "wide.safetensors")
    with pytest.raises(CheckpointError, match=r"\[8, 16, 16\] channels, does not fit \"sd\" with \[8, 16\]"):
        fused(folder, "wide.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "fuser.safetensors").read_bytes()[:900])
    with pytest.raises(CheckpointError, match="is no safetensors file that can be read"):
        fused(folder, "cut.safetensors")


def test_what_is_not_used_is_warned_of(folder: Path) -> None:
    save_file(published() | {"twist": torch.zeros(1)}, folder / "more.safetensors", {"gain": "2"})
    tensors, header = fused(folder, "more.safetensors").warnings
    assert '1 of 52 tensors is not used: "twist".' in tensors
    assert '"gain"' in header
    assert fused(folder, "wrapped.safetensors").warnings == ()
