"""Models compose: a chain of ``with_*`` is what one ``load`` makes, and every model of the chain stays as it was."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from controlled import BASES, beside, photo
from lora_files import kohya_file, lora_weights, peft_file
from pictured import published, tower
from safetensors.torch import save_file
from tiny import write_checkpoint, write_exemplar

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.model_spec import ModelSpec
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Region, Scene

KINDS = ("lora", "regional", "embedding", "adapter", "exemplar")
ORDERS = (KINDS, KINDS[::-1], (*KINDS[2:], *KINDS[:2]))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint, and an add-on of every kind for it."""
    root = tmp_path_factory.mktemp("composition")
    base = write_checkpoint(root / "sd", **BASES["sd1"])
    for number, name in enumerate(("ink", "oil")):
        peft_file(root / f"{name}.safetensors", lora_weights(base, number))
    save_file({"emb_params": torch.ones(2, 16)}, root / "mark.safetensors")
    beside(base, 5).save_pretrained(root / "canny")
    write_exemplar(root / "pbe")
    vision = tower(32)
    vision.save_pretrained(root / "image_encoder")
    save_file(published(base, "plain", vision), root / "ip.safetensors")
    return root


def added(model: Model, kind: str, files: Path, exemplar: str = "pbe") -> Model:
    """The model with the add-on of a kind."""
    match kind:
        case "lora":
            return model.with_lora(files / "ink.safetensors", 0.7)
        case "regional":
            return model.with_regional_lora("oil", files / "oil.safetensors")
        case "embedding":
            return model.with_embedding(files / "mark.safetensors")
        case "adapter":
            return model.with_adapter("canny", files / "canny")
        case _:
            return model.with_exemplar(files / exemplar)


def together(files: Path, exemplar: str, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """The options of ``load`` for these add-ons."""
    options = {
        "lora": {"lora": (files / "ink.safetensors", 0.7)},
        "regional": {"regional_lora": {"oil": files / "oil.safetensors"}},
        "embedding": {"embeddings": files / "mark.safetensors"},
        "adapter": {"adapters": {"canny": files / "canny"}},
        "exemplar": {"exemplar": files / exemplar},
    }
    return {name: value for kind in kinds for name, value in options[kind].items()}


def latents(model: Model) -> torch.Tensor:
    """Latents of a scene that uses every add-on of the model."""
    left: dict[str, Any] = {"lora": {"oil": 0.8}} if model.net.loras else {}
    if "canny" in model.controlnets:
        left["control"] = {"kind": "canny", "image": photo(), "strength": 0.7}
    regions = [Region(name="left", box=(0, 0, 0.5, 1), phrase="a cat", **left)]
    if model.takes_exemplars:
        regions.append(Region(name="right", box=(0.5, 0, 1, 1), exemplar=photo(1)))
    caption = "the sky mark" if model.text.learned.ids else "the sky"
    fields = {"caption": caption, "method": "attention", "seed": 1, "steps": 2, "width": 64, "height": 64}
    return generate(Scene(**fields, regions=regions), model, output_type="latent").latents


def tensors(model: Model) -> dict[str, torch.Tensor]:
    """The parameters of the model's own networks."""
    modules = {"unet": model.net.unet, "vae": model.vae.module, "text": model.text.modules[0]}
    return {f"{part}.{name}": tensor for part, module in modules.items() for name, tensor in module.named_parameters()}


def assert_same(one: Model, other: Model) -> None:
    assert one.hash == other.hash
    assert one.model_spec == other.model_spec
    assert (one.warnings, one.notes, one.options, one.files) == (
        *(other.warnings, other.notes, other.options, other.files),
    )
    assert torch.equal(latents(one), latents(other))


@pytest.mark.parametrize("exemplar", ["pbe", "ip.safetensors"])
@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_a_chain_in_any_order_is_one_load(order: tuple[str, ...], exemplar: str, files: Path) -> None:
    chain = load(files / "sd")
    for kind in order:
        chain = added(chain, kind, files, exemplar)
    assert_same(chain, load(files / "sd", **together(files, exemplar)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_before_stays_as_it_was(kind: str, files: Path) -> None:
    before = load(files / "sd", **together(files, "ip.safetensors", tuple(k for k in KINDS if k != kind)))
    expected, digest, weights = latents(before), before.hash, {n: t.clone() for n, t in tensors(before).items()}
    after = added(before, kind, files, "ip.safetensors")
    assert not torch.equal(latents(after), expected)
    assert after.hash != digest
    assert (before.hash, before.model_spec) == (digest, before.model_spec)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in tensors(before).items())
    assert torch.equal(latents(before), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_change_are_shared(kind: str, files: Path) -> None:
    before = load(files / "sd")
    after = added(before, kind, files)
    old, new = tensors(before), tensors(after)
    shared = {name for name, tensor in new.items() if tensor.data_ptr() == old[name].data_ptr()}
    changed = {name for name, tensor in new.items() if tensor.shape != old[name].shape or not tensor.equal(old[name])}
    assert shared == new.keys() - changed
    assert bool(changed) == (kind in ("lora", "embedding"))
    assert len(shared) > len(new) / 2


def test_an_add_on_is_read_once(files: Path) -> None:
    first = load(files / "sd", exemplar=files / "pbe", adapters={"canny": files / "canny"})
    second = first.with_lora(files / "ink.safetensors")
    assert second.exemplar is first.exemplar
    assert second.controlnets["canny"] is first.controlnets["canny"]


def test_fused_loras_add_up_in_any_order(files: Path) -> None:
    model, (ink, oil) = load(files / "sd"), (files / "ink.safetensors", files / "oil.safetensors")
    one, other = model.with_lora(ink, 0.5).with_lora(oil), model.with_lora(oil).with_lora(ink, 0.5)
    assert_same(one, load(files / "sd", lora=[(ink, 0.5), oil]))
    for name, tensor in tensors(one).items():
        torch.testing.assert_close(tensor, tensors(other)[name])
    torch.testing.assert_close(latents(one), latents(other), atol=1e-4, rtol=1e-4)


def test_an_add_on_replaces_the_one_of_its_place(files: Path) -> None:
    model = load(files / "sd", exemplar=files / "pbe", mask_resampling="nearest")
    assert_same(model.with_exemplar(files / "ip.safetensors"), load(files / "sd", exemplar=files / "ip.safetensors"))
    other = model.with_regional_lora("oil", files / "ink.safetensors")
    again = other.with_regional_lora("oil", files / "oil.safetensors")
    assert_same(again, model.with_regional_lora("oil", files / "oil.safetensors"))


@pytest.mark.parametrize("changes", [{"dtype": torch.bfloat16}, {"offload": True}, {"device": "cpu:0"}, {}], ids=str)
def test_a_model_moves_with_its_add_ons(changes: dict[str, Any], files: Path) -> None:
    options = together(files, "ip.safetensors")
    model = load(files / "sd", **options)
    moved = model.to(**changes)
    assert (moved is model) == (not changes)
    assert_same(moved, load(files / "sd", **options, **changes))


def test_an_offloaded_model_takes_add_ons(files: Path) -> None:
    plain, offloaded = load(files / "sd"), load(files / "sd", offload=True)
    expected = latents(plain)
    after = added(offloaded, "lora", files)
    assert torch.equal(latents(after), latents(added(plain, "lora", files)))
    assert torch.equal(latents(offloaded), expected)
    assert all(hasattr(network, "_hf_hook") for network in (after.net.unet, after.vae.module, *after.text.modules))


def test_the_exemplar_network_of_a_family_follows_its_unet(tmp_path: Path) -> None:
    file = kohya_file(tmp_path / "ink.safetensors", lora_weights(BUILTIN, text=False), 2.0)
    model = load("builtin")
    chain, whole = model.with_lora(file, 0.5), load("builtin", lora=(file, 0.5))
    assert chain.hash == whole.hash
    assert chain.exemplar is not None
    assert whole.exemplar is not None
    assert model.exemplar is not None
    found = chain.exemplar.net.unet.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.exemplar.net.unet.state_dict().items())
    assert any(not torch.equal(found[name], t) for name, t in model.exemplar.net.unet.state_dict().items())
    assert (model.vocabulary is None, chain.vocabulary) == (False, None)


def test_another_process_loads_the_same_model_from_the_spec(files: Path, tmp_path: Path) -> None:
    model = load(files / "sd").with_lora(files / "ink.safetensors", 0.7).with_adapter("canny", files / "canny")
    (tmp_path / "model.json").write_text(model.model_spec.to_json())
    program = "import cloisonne; print(cloisonne.load('model.json').hash)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert run.stdout.strip() == model.hash, run.stderr


def test_a_spec_has_paths_that_hold_in_any_folder(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    model = load("sd", lora="ink.safetensors", exemplar="ip.safetensors")
    monkeypatch.chdir(files.parent)
    assert load(model.model_spec).hash == model.hash
    assert model.with_embedding(files / "mark.safetensors").model_spec == ModelSpec.of(
        files / "sd", **together(files, "ip.safetensors", ("embedding", "exemplar")), lora=files / "ink.safetensors"
    )


def test_refusals_leave_the_model_usable(files: Path) -> None:
    model, painter = load(files / "sd"), load(files / "pbe")
    expected = latents(model)
    with pytest.raises(CapabilityError, match="combines T2I-Adapters"):
        model.with_fuser(files / "ink.safetensors")
    with pytest.raises(CapabilityError, match='no kind of control "cany"'):
        model.with_adapter("cany", files / "canny")
    with pytest.raises(CheckpointError, match=r'There is no LoRA "nowhere\.safetensors"'):
        model.with_lora("nowhere.safetensors")
    with pytest.raises(CheckpointError, match="exists already"):
        model.with_embedding(files / "mark.safetensors").with_embedding(files / "mark.safetensors")
    with pytest.raises(CapabilityError, match="takes no LoRAs"):
        painter.with_lora(files / "ink.safetensors")
    with pytest.raises(CapabilityError, match="was not loaded from files"):
        replace(model, origin=None).with_lora(files / "ink.safetensors")
    assert torch.equal(latents(model), expected)


def test_paint_by_example_has_a_spec(files: Path) -> None:
    painter = load(files / "pbe", mask_resampling="nearest")
    assert load(painter.model_spec).hash == painter.hash
    assert painter.to(dtype="bfloat16").dtype == torch.bfloat16
