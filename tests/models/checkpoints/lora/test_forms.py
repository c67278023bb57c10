"""Forms of a LoRA's layers: DoRA, LyCORIS and full differences are their published formulas, or refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import pipeline_of
from lora_layers import (
    ATTENTION,
    CONV,
    KEYS,
    LINEAR,
    NORM,
    Tensors,
    fused,
    loaded,
    low_rank,
    product,
    rand,
    regional,
    saved,
    shapes,
)
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.unet.region_lora import Dense
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


def loha(shape: tuple[int, ...], *, core: bool) -> tuple[Tensors, Tensor]:
    own: Tensors = {}
    factors = []
    for k in (1, 2):
        if core:
            a, b, t = rand(3, shape[0], seed=k), rand(3, shape[1], seed=k), rand(3, 3, *shape[2:], seed=k)
            own[f"hada_t{k}"] = t
            factors.append(torch.einsum("ijkl,jr,ip->prkl", t, b, a))
        else:
            a, b = rand(shape[0], 3, seed=k), rand(3, torch.Size(shape[1:]).numel(), seed=k)
            factors.append((a @ b).reshape(shape))
        own |= {f"hada_w{k}_a": a, f"hada_w{k}_b": b}
    return own | {"alpha": torch.tensor(1.5)}, factors[0] * factors[1] * 0.5


def lokr(shape: tuple[int, ...], *, whole: bool, core: bool = False) -> tuple[Tensors, Tensor]:
    first, second = rand(2, 4), rand(shape[0] // 2, shape[1] // 4, *shape[2:])
    own = {"lokr_w1": first, "alpha": torch.tensor(1.0)}
    if whole:
        own["lokr_w2"] = second
    elif core:
        a, b, t = rand(2, shape[0] // 2), rand(2, shape[1] // 4), rand(2, 2, *shape[2:])
        own |= {"lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": t}
        second = 0.5 * torch.einsum("ijkl,jr,ip->prkl", t, b, a)
    else:
        a, b = rand(shape[0] // 2, 2), rand(2, second[0].numel())
        own |= {"lokr_w2_a": a, "lokr_w2_b": b}
        second = 0.5 * (a @ b).reshape(second.shape)
    rows = [torch.cat([first[i, j] * second for j in range(4)], dim=1) for i in range(2)]
    return own, torch.cat(rows)


def tucker(shape: tuple[int, ...]) -> tuple[Tensors, Tensor]:
    down, mid, up = rand(2, shape[1], 1, 1), rand(2, 2, *shape[2:]), rand(shape[0], 2, 1, 1)
    own = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(1.0)}
    return own, 0.5 * torch.einsum("ijkl,pi,jq->pqkl", mid, up[:, :, 0, 0], down[:, :, 0, 0])


def full(shape: tuple[int, ...]) -> tuple[Tensors, Tensor]:
    change = rand(*shape)
    return {"diff": change}, change


FORMS: dict[str, tuple[str, Callable[[Any], tuple[Tensors, Tensor]]]] = {
    "LoHa, linear": (LINEAR, lambda shape: loha(shape, core=False)),
    "LoHa, keys of texts": (KEYS, lambda shape: loha(shape, core=False)),
    "LoHa, convolution": (CONV, lambda shape: loha(shape, core=False)),
    "LoHa, convolution with cores": (CONV, lambda shape: loha(shape, core=True)),
    "LoKr, linear, whole": (LINEAR, lambda shape: lokr(shape, whole=True)),
    "LoKr, linear, product": (LINEAR, lambda shape: lokr(shape, whole=False)),
    "LoKr, convolution, whole": (CONV, lambda shape: lokr(shape, whole=True)),
    "LoKr, convolution, product": (CONV, lambda shape: lokr(shape, whole=False)),
    "LoKr, convolution with a core": (CONV, lambda shape: lokr(shape, whole=False, core=True)),
    "LoCon with a core": (CONV, tucker),
    "full difference": (CONV, full),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_lycoris_are_their_published_formulas(tiny_sd: Path, tmp_path: Path, form: str) -> None:
    layer, make = FORMS[form]
    own, wanted = make(shapes(tiny_sd)[f"{layer}.weight"])
    file = saved(tmp_path / "x.safetensors", {layer: own})
    model = load(tiny_sd, lora=(file, 0.7))
    added = model.net.unet.state_dict()[f"{layer}.weight"] - load(tiny_sd).net.unet.state_dict()[f"{layer}.weight"]
    torch.testing.assert_close(added, 0.7 * wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(regional(tiny_sd, file)[layer], wanted, atol=1e-5, rtol=0)
    assert model.warnings == ()


def test_biases_and_norms_are_added(tiny_sd: Path, tmp_path: Path) -> None:
    sizes, before = shapes(tiny_sd), load(tiny_sd).net.unet.state_dict()
    bias, norm = rand(*sizes[f"{CONV}.bias"]), rand(*sizes[f"{NORM}.weight"])
    layers = {
        CONV: low_rank(sizes[f"{CONV}.weight"], 2) | {"diff_b": bias},
        NORM: {"w_norm": norm, "b_norm": norm.clone()},
    }
    after = fused(tiny_sd, saved(tmp_path / "x.safetensors", layers), 0.5)
    for name, wanted in ((f"{CONV}.bias", bias), (f"{NORM}.weight", norm), (f"{NORM}.bias", norm)):
        torch.testing.assert_close(after[name] - before[name], 0.5 * wanted, atol=1e-6, rtol=0)
    with pytest.raises(CheckpointError, match=r"changes the norm .* cannot apply by region; fuse it"):
        load(tiny_sd, regional_lora={"x": saved(tmp_path / "y.safetensors", {NORM: {"w_norm": norm}})})
    held = saved(tmp_path / "z.safetensors", {CONV: layers[CONV]})
    one = load(tiny_sd, regional_lora={"x": held}).net.loras["x"].layers[CONV]
    assert isinstance(one, Dense)
    torch.testing.assert_close(one.bias, bias)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("layer", [LINEAR, KEYS, CONV])
def test_dora_of_kohya_is_fused_by_its_formula(tiny_sd: Path, tmp_path: Path, layer: str, axis: int) -> None:
    shape = shapes(tiny_sd)[f"{layer}.weight"]
    size = [side if k == axis else 1 for k, side in enumerate(shape)]
    own, magnitude = low_rank(shape, 2), rand(*size).abs() + 0.5
    file = saved(tmp_path / "x.safetensors", {layer: own | {"dora_scale": magnitude, "alpha": torch.tensor(1.0)}})
    whole = load(tiny_sd).net.unet.state_dict()[f"{layer}.weight"] + 0.7 * 0.5 * product(own)
    norm = whole.transpose(0, axis).flatten(1).norm(dim=1).reshape(size)
    torch.testing.assert_close(fused(tiny_sd, file, 0.7)[f"{layer}.weight"], magnitude / norm * whole)
    with pytest.raises(CheckpointError, match=r"magnitudes \(DoRA\) of 1 layers.*cannot apply by region; fuse it"):
        load(tiny_sd, regional_lora={"x": file})


def test_dora_of_peft_is_fused_as_diffusers_fuses_it(tiny_sd: Path, tmp_path: Path) -> None:
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(0)
    unet = pipeline_of(tiny_sd).unet
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, use_dora=True, target_modules=[LINEAR, KEYS, CONV]))
    state = get_peft_model_state_dict(unet, save_embedding_layers=False)
    made = {f"unet.{name}": t + torch.rand_like(t) * 0.3 for name, t in state.items()}
    save_file(made, tmp_path / "x.safetensors")
    pipeline = pipeline_of(tiny_sd)
    pipeline.load_lora_weights(tmp_path, weight_name="x.safetensors")
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    theirs, ours = pipeline.unet.state_dict(), fused(tiny_sd, tmp_path / "x.safetensors", 0.7)
    before = load(tiny_sd).net.unet.state_dict()
    for name in (LINEAR, KEYS, CONV):
        torch.testing.assert_close(ours[f"{name}.weight"], theirs[f"{name}.weight"], atol=1e-5, rtol=0)
        assert not torch.allclose(ours[f"{name}.weight"], before[f"{name}.weight"], atol=1e-2)


def test_by_region_over_all_of_the_canvas_every_form_is_the_fused_one(tiny_sd: Path, tmp_path: Path) -> None:
    sizes = shapes(tiny_sd)
    time, feed = "down_blocks.0.resnets.0.time_emb_proj", f"{ATTENTION}.ff.net.2"
    layers = {layer: FORMS[form][1](sizes[f"{layer}.weight"])[0] for form, (layer, _) in FORMS.items()}
    layers |= {name: lokr(sizes[f"{name}.weight"], whole=True)[0] for name in (time, feed)}
    layers[CONV] |= {"diff_b": rand(*sizes[f"{CONV}.bias"])}
    file = saved(tmp_path / "x.safetensors", layers)
    plain = Region(name="pet", box=(0, 0, 1, 1), phrase="a red cat")
    scene = Scene(seed=0, steps=3, sampler="ddim", method="attention", width=64, height=64, regions=[plain])
    latents = torch.randn(1, 4, 8, 8)

    def drawn(scene: Scene, model: Model) -> Tensor:
        found = generate(scene, model, latents=latents.clone(), output_type="latent").latents
        assert found is not None
        return found

    ours = drawn(scene.replace(regions=[plain.replace(lora={"x": 0.7})]), load(tiny_sd, regional_lora={"x": file}))
    torch.testing.assert_close(ours, drawn(scene, load(tiny_sd, lora=(file, 0.7))), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ours, drawn(scene, load(tiny_sd)), atol=1e-2)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("oft_blocks", "is an OFT, which is not supported; it changes 1 layers"),
        ("oft_diag", "is an OFT"),
        ("a1.weight", "is a GLoRA"),
        ("on_input", r"is an \(IA\)3"),
        ("bias_indices", "sparse biases"),
        ("hada_w1_a", "lacks the tensor hada_w1_b"),
        ("lokr_w1", "lacks the tensor lokr_w2"),
        ("lora_up.weight", "lacks the tensor down"),
    ],
)
@pytest.mark.parametrize("where", ["lora", "regional_lora"])
def test_forms_that_are_not_read_are_refused_by_name(
    tiny_sd: Path, tmp_path: Path, end: str, message: str, where: str
) -> None:
    layers = {LINEAR: low_rank(shapes(tiny_sd)[f"{LINEAR}.weight"], 2), KEYS: {end: rand(2, 2)}}
    file = saved(tmp_path / "x.safetensors", layers)
    with pytest.raises(CheckpointError, match=message) as caught:
        loaded(tiny_sd, where, file)
    assert str(caught.value).endswith(".")
    assert not str(caught.value).endswith(":.")
