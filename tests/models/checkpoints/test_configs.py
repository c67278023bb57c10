"""Configurations: a class or key is honoured, known to have no effect, or refused by its name and value."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from published import PUBLISHED, write_published
from safetensors.torch import load_file, save_file
from tiny import tiny_vae, write_checkpoint, write_exemplar, write_xl
from torch import Tensor

from cloisonne.core.schedule import Schedule
from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.scheduler_config import CLASSES, SAMPLERS, checked
from cloisonne.models.load import load
from cloisonne.models.vae import Vae
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene

FILE = Path("scheduler_config.json")
SCHEDULER, UNET, VAE, TEXT = (
    f"{member}/{name}.json"
    for member, name in (
        ("scheduler", "scheduler_config"),
        ("unet", "config"),
        ("vae", "config"),
        ("text_encoder", "config"),
    )
)


def edit_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("sd"))


@pytest.fixture
def copied(sd: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sd, tmp_path / "sd"))


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", CLASSES)
def test_missing_keys_have_the_values_of_their_class(name: str) -> None:
    if name == "DPMSolverSDEScheduler":
        pytest.skip("needs a package of its own")
    kind: Any = getattr(diffusers, name)
    theirs = {k: p.default for k, p in inspect.signature(kind.__init__).parameters.items()}
    schedule = Schedule.from_config(checked({}, FILE, name))
    assert schedule.alphas == tuple(kind().alphas_cumprod.double().sqrt().tolist())
    # LMS, DPM-Solver and the like know no other spacing where they have no such key.
    assert schedule.spacing == theirs.get("timestep_spacing", "linspace")
    assert (schedule.offset, schedule.prediction) == (theirs.get("steps_offset", 0), theirs["prediction_type"])
    if "set_alpha_to_one" in theirs:
        assert (schedule.final == (1.0, 0.0)) == theirs["set_alpha_to_one"]


@pytest.mark.parametrize("name", CLASSES)
def test_every_key_of_a_class_is_known(name: str) -> None:
    if name == "DPMSolverSDEScheduler":
        pytest.skip("needs a package of its own")
    theirs = inspect.signature(getattr(diffusers, name).__init__).parameters
    checked({key: p.default for key, p in theirs.items() if key != "self"}, FILE, name)


@pytest.mark.parametrize(
    "name",
    [
        *("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"),
        *("CosineDPMSolverMultistepScheduler", "KarrasVeScheduler", "MyOwnScheduler"),
    ],
)
@pytest.mark.parametrize("where", ["index", "config"])
def test_schedulers_of_other_noise_levels_are_refused_by_name(copied: Path, name: str, where: str) -> None:
    edit_json(copied / SCHEDULER, _class_name=name)
    index = {"scheduler": ["diffusers", name]} if where == "index" else {"scheduler": None}
    edit_json(copied / "model_index.json", **index)
    with pytest.raises(CheckpointError, match=f"is of {name}, whose noise levels are not known"):
        load(copied)


REFUSED: dict[str, tuple[str, Any]] = {
    "thresholding": (SCHEDULER, True),
    "use_beta_sigmas": (SCHEDULER, True),
    "use_exponential_sigmas": (SCHEDULER, True),
    "use_flow_sigmas": (SCHEDULER, True),
    "sigma_min": (SCHEDULER, 0.002),
    "sigma_data": (SCHEDULER, 0.5),
    "timestep_type": (SCHEDULER, "continuous"),
    "variance_type": (SCHEDULER, "learned_range"),
    "shift": (SCHEDULER, 3.0),
    "snr_shift_scale": (SCHEDULER, 1.5),
    "class_embed_type": (UNET, "timestep"),
    "num_class_embeds": (UNET, 10),
    "dual_cross_attention": (UNET, True),
    "only_cross_attention": (UNET, [True, False]),
    "mid_block_only_cross_attention": (UNET, True),
    "cross_attention_norm": (UNET, "layer_norm"),
    "attention_type": (UNET, "gated"),
    "encoder_hid_dim_type": (UNET, "text_proj"),
    "addition_embed_type": (UNET, "image"),
    "time_embedding_type": (UNET, "fourier"),
    "down_block_types": (UNET, ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]),
    "mid_block_type": (UNET, "UNetMidBlock2DSimpleCrossAttn"),
    "temporal_layers": (UNET, 2),
    "use_attention_mask": (TEXT, True),
    "model_type": (TEXT, "t5"),
    "latent_norm": (VAE, "batch"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_honoured_is_refused_with_its_value(copied: Path, key: str) -> None:
    file, value = REFUSED[key]
    edit_json(copied / file, **{key: value})
    quoted = json.dumps(value) if not isinstance(value, list) else ""
    with pytest.raises(CheckpointError, match=key) as caught:
        load(copied)
    assert quoted in str(caught.value)
    assert str(copied / file) in str(caught.value)


@pytest.mark.parametrize(("file", "name"), [(UNET, "UNet3DConditionModel"), (VAE, "AsymmetricAutoencoderKL")])
def test_networks_of_other_classes_are_refused_by_name(copied: Path, file: str, name: str) -> None:
    edit_json(copied / file, _class_name=name)
    with pytest.raises(CheckpointError, match=f"is of {name}, which is not supported"):
        load(copied)


def test_a_refiner_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_xl(tmp_path / "xl")
    edit_json(folder / "model_index.json", text_encoder=[None, None], tokenizer=[None, None])
    with pytest.raises(CheckpointError, match="refiner of Stable Diffusion XL"):
        load(folder)


def test_statistics_of_each_channel_are_honoured() -> None:
    mean, std = (0.1, -0.2, 0.3, 0.0), (0.5, 2.0, 1.5, 1.0)
    module = tiny_vae(latents_mean=mean, latents_std=std).eval()
    vae, latents, pixels = Vae(module), torch.randn(2, 4, 3, 3), torch.rand(1, 3, 16, 16) * 2 - 1
    shift, spread = (torch.tensor(numbers).reshape(1, 4, 1, 1) for numbers in (mean, std))
    with torch.no_grad():
        expected: Tensor = module.decode(latents * spread / module.config["scaling_factor"] + shift).sample
        encoded = module.encode(pixels).latent_dist.mean
    torch.testing.assert_close(vae.decode(latents), expected)
    torch.testing.assert_close(vae.encode(pixels), (encoded - shift) * module.config["scaling_factor"] / spread)


@pytest.mark.parametrize("changes", [{"latents_mean": (0.0,) * 4}, {"latents_mean": (0.0,), "latents_std": (1.0,)}])
def test_statistics_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="latents_mean"):
        Vae(tiny_vae(**changes))


STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def rename(folder: Path, variant: str, members: tuple[str, ...] = tuple(STEMS)) -> None:
    for member in members:
        stem = STEMS[member]
        (folder / member / f"{stem}.safetensors").rename(folder / member / f"{stem}.{variant}.safetensors")


def same(one: Any, other: Any) -> bool:
    state, theirs = (model.net.unet.state_dict() for model in (one, other))
    return all(torch.equal(tensor, theirs[name]) for name, tensor in state.items())


@pytest.mark.parametrize("variant", ["fp16", "bf16", "fp32"])
def test_variants_alone_are_read_with_a_note(sd: Path, copied: Path, variant: str) -> None:
    rename(copied, variant)
    model = load(copied)
    assert same(model, load(sd))
    assert model.warnings == ()
    assert f'note: "sd" holds only the variant "{variant}" of unet, vae, text_encoder; it was read.' in str(
        explain(Scene(caption="a cat"), model)
    )


def test_other_weights_alone_are_read_with_a_warning(copied: Path) -> None:
    rename(copied, "non_ema", ("unet",))
    model = load(copied)
    assert model.warnings == ('"sd" holds only the variant "non_ema" of unet; it was read.',)
    assert (
        model.warnings[0] in generate(Scene(caption="a cat", steps=1), model, output_type="latent").report["warnings"]
    )


def test_the_plain_weights_come_first_and_a_variant_where_it_is_requested(sd: Path, copied: Path) -> None:
    other = {
        name: tensor + 1 for name, tensor in load_file(copied / "unet/diffusion_pytorch_model.safetensors").items()
    }
    for member, stem in STEMS.items():
        shutil.copy(copied / member / f"{stem}.safetensors", copied / member / f"{stem}.fp16.safetensors")
    save_file(other, copied / "unet/diffusion_pytorch_model.fp16.safetensors", metadata={"format": "pt"})
    assert same(load(copied), load(sd))
    requested = load(copied, variant="fp16")
    assert torch.equal(requested.net.unet.state_dict()["conv_in.bias"], other["conv_in.bias"])
    assert (requested.notes, requested.warnings) == ((), ())


def test_a_variant_that_is_not_there_is_refused_with_those_that_are(copied: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no diffusion_pytorch_model.fp16.safetensors; it has diffusion_pytorch"):
        load(copied, variant="fp16")


def test_variants_in_parts_are_read(sd: Path, copied: Path) -> None:
    load(copied).net.unet.save_pretrained(copied / "unet", max_shard_size="20KB", variant="fp16")
    (copied / "unet/diffusion_pytorch_model.safetensors").unlink()
    assert len(list((copied / "unet").glob("*fp16*.safetensors"))) > 1
    assert same(load(copied), load(sd))


def test_a_painters_encoder_is_read_of_its_variant_alone(tmp_path: Path) -> None:
    folder = write_published(tmp_path / "pbe", "paint by example")
    plain = load(folder)
    for member, stem in {"unet": STEMS["unet"], "vae": STEMS["vae"], "image_encoder": "model"}.items():
        (folder / member / f"{stem}.safetensors").rename(folder / member / f"{stem}.fp16.safetensors")
    found = load(folder)
    assert found.exemplar is not None
    assert plain.exemplar is not None
    assert torch.equal(found.exemplar.null, plain.exemplar.null)
    assert len(found.notes) == 1


@pytest.mark.parametrize("member", ["unet", "vae", "text_encoder"])
def test_tensors_that_are_not_used_are_named(copied: Path, member: str) -> None:
    file = copied / member / f"{STEMS[member]}.safetensors"
    more = {f"extra.{number}": torch.zeros(1) for number in range(5)}
    save_file(load_file(file) | more, file, metadata={"format": "pt"})
    (warning,) = load(copied).warnings
    assert warning == (
        f'"{copied / member}" holds 5 tensors that are not used: "extra.0", "extra.1", "extra.2" and 2 more.'
    )


@pytest.mark.parametrize("member", ["unet", "vae", "text_encoder"])
def test_header_entries_that_are_unknown_are_named(copied: Path, member: str) -> None:
    file = copied / member / f"{STEMS[member]}.safetensors"
    save_file(load_file(file), file, metadata={"format": "pt", "modelspec.title": "a", "sigma_data": "0.5"})
    assert load(copied).warnings == (
        f'The header of the file "{file}" has an entry that is unknown and not used: "sigma_data".',
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_are_read_without_a_warning(name: str, tmp_path: Path) -> None:
    model = load(write_published(tmp_path / "folder", name))
    assert (model.warnings, model.notes) == ((), ())
    assert model.scheduler in SAMPLERS


NOTES: dict[str, tuple[dict[str, Any], str | None]] = {
    "both": ({}, 'gives no sampler and no steps: it uses "dpmpp-2m" with 20 steps'),
    "sampler": ({"steps": 9}, 'gives no sampler: it uses "dpmpp-2m" with 9 steps'),
    "steps": ({"sampler": "pndm"}, 'gives no steps: it uses "pndm" with 20 steps'),
    "neither": ({"sampler": "pndm", "steps": 9}, None),
}


@pytest.mark.parametrize("case", NOTES)
def test_defaults_that_are_not_the_checkpoints_are_noted(case: str, sd: Path) -> None:
    fields, expected = NOTES[case]
    scene = Scene(caption="a cat", **fields)
    notes = explain(scene, load(sd)).notes
    assert [expected in note for note in notes] == ([] if expected is None else [True])
    assert all('DDIMScheduler (here "ddim"); diffusers\' pipelines use it with 50 steps.' in note for note in notes)


def test_a_report_names_the_checkpoints_own_scheduler(sd: Path, copied: Path) -> None:
    edit_json(copied / SCHEDULER, _class_name="PNDMScheduler")
    edit_json(copied / "model_index.json", scheduler=["diffusers", "PNDMScheduler"])
    scene = Scene(caption="a cat", steps=1)
    reports = [generate(scene, load(folder), output_type="latent").report for folder in (sd, copied)]
    assert [report["sampler_of_checkpoint"] for report in reports] == ["DDIMScheduler", "PNDMScheduler"]


@pytest.mark.parametrize(
    "changes",
    [
        {"trained_betas": [0.001 + k * 1e-5 for k in range(1000)]},
        {"trained_betas": [0.001 + k * 2e-5 for k in range(1000)]},
        {"rescale_betas_zero_snr": True},
        {"beta_end": 0.02},
    ],
)
def test_networks_of_other_noise_levels_share_no_canvas(copied: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    painter = write_exemplar(tmp_path / "pbe")
    assert load(copied, exemplar=painter).exemplar is not None
    edit_json(painter / SCHEDULER, **changes)
    with pytest.raises(CheckpointError, match="has another latent space"):
        load(copied, exemplar=painter)
    edit_json(copied / SCHEDULER, **changes)
    assert load(copied, exemplar=painter).exemplar is not None
