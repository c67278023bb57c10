"""Single files under other names and with headers: each tensor and entry is used, known, warned of or refused."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ldm_files import parts, tensors_of
from safetensors.torch import save_file
from tiny import tiny_tokenizer
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.load import load

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    tiny_tokenizer(0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made() -> Callable[[str], Tensors]:
    """The tensors of a model family, made once."""
    known: dict[str, Tensors] = {}

    def tensors(family: str) -> Tensors:
        if family not in known:
            known[family] = tensors_of(parts(family), family)
        return dict(known[family])

    return tensors


@pytest.fixture
def read(tmp_path: Path, words: Path) -> Callable[..., Any]:
    def loaded(tensors: Tensors, header: dict[str, str] | None = None, **options: Any) -> Any:
        file = tmp_path / "x.safetensors"
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, file, metadata=header)
        return load(file, tokenizer=words, **options)

    return loaded


def named(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def dotted(prefix: str) -> Callable[[Tensors], Tensors]:
    return named(lambda name: f"{prefix}{name}" if "." in name else name)


SPELLINGS: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "no text_model": ("sd1", named(lambda name: name.replace("transformer.text_model.", "transformer."))),
    "module in front": ("sd1", dotted("module.")),
    "state_dict in front": ("sd2", dotted("state_dict.")),
    "module within": (
        "sd1",
        named(lambda name: name.replace("model.diffusion_model.", "model.module.diffusion_model.")),
    ),
    "text encoder as XL's first": (
        "sd2",
        named(lambda name: name.replace("cond_stage_model.model.", "conditioner.embedders.0.model.")),
    ),
    "XL without text_model": (
        "xl",
        named(lambda name: name.replace("embedders.0.transformer.text_model.", "embedders.0.transformer.")),
    ),
    "averages too": (
        "sd1",
        lambda tensors: tensors | {f"model_ema.{n.replace('.', '')}": t + 1 for n, t in tensors.items() if "diff" in n},
    ),
    "training state": (
        "sd1",
        lambda tensors: (
            tensors
            | {
                name: torch.zeros(3)
                for name in ("optimizer_states.0", "first_stage_model.loss.logvar", "global_step", "logvar", "epoch")
            }
        ),
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_give_the_same_networks(
    spelling: str, made: Callable[[str], Tensors], read: Callable[..., Any]
) -> None:
    family, change = SPELLINGS[spelling]
    plain, found = read(made(family)), read(change(made(family)))
    assert found.warnings == plain.warnings == ()
    for ours, theirs in [
        (found.net.unet, plain.net.unet),
        (found.vae.module, plain.vae.module),
        *zip(found.text.modules, plain.text.modules, strict=True),
    ]:
        state = theirs.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


V, EPS = "v_prediction", "epsilon"
DECLARED: dict[str, tuple[str, dict[str, str], Tensors, str, bool]] = {
    "header": ("sd1", {"modelspec.prediction_type": "v"}, {}, V, False),
    "header, in full": ("xl", {"modelspec.prediction_type": "v_prediction"}, {}, V, False),
    "header declares noise": ("sd2", {"modelspec.prediction_type": "epsilon"}, {}, EPS, False),
    "architecture": ("sd2", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, {}, V, False),
    "kohya": ("sd1", {"ss_v_parameterization": "True", "ss_zero_terminal_snr": "True"}, {}, V, True),
    "mark": ("sd1", {}, {"v_pred": torch.zeros(0)}, V, False),
    "marks": ("xl", {}, {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, V, True),
    "header and mark": ("xl", {"modelspec.prediction_type": "v"}, {"v_pred": torch.zeros(0)}, V, False),
    "nothing": ("sd1", {"modelspec.title": "a title", "sd_merge_recipe": "{}"}, {}, EPS, False),
}


@pytest.mark.parametrize("case", DECLARED)
def test_the_declared_prediction_is_honoured(
    case: str, made: Callable[[str], Tensors], read: Callable[..., Any]
) -> None:
    family, header, marks, prediction, zero_snr = DECLARED[case]
    model = read(made(family) | marks, header)
    assert (model.schedule.prediction, model.spec.prediction) == (prediction, prediction)
    assert (model.schedule.alphas[-1] < 1e-6, model.schedule.spacing == "trailing") == (zero_snr, zero_snr)
    assert model.warnings == ()
    assert read(made(family), header, prediction="epsilon").schedule.prediction == "epsilon"


WRONG: dict[str, tuple[str, dict[str, str], Tensors, str]] = {
    "unknown prediction": (
        "sd1",
        {"modelspec.prediction_type": "flow"},
        {},
        'prediction_type "flow", which is unknown',
    ),
    "contradiction": ("xl", {"modelspec.prediction_type": "epsilon"}, {"v_pred": torch.zeros(0)}, "contradicts itself"),
    "cosxl": ("xl", {}, {"edm_vpred.sigma_max": torch.tensor(120.0)}, "is of CosXL"),
    "playground": ("xl", {}, {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, "is of Playground 2.5"),
    "controlnet": ("sd1", {}, {"control_model.x": torch.zeros(3)}, "holds a ControlNet within the checkpoint"),
    "sd3": (
        "sd1",
        {},
        {"model.diffusion_model.joint_blocks.0.x": torch.zeros(3)},
        "is of a network like Stable Diffusion 3",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_honoured_is_refused_by_name(
    case: str, made: Callable[[str], Tensors], read: Callable[..., Any]
) -> None:
    family, header, more, expected = WRONG[case]
    with pytest.raises(CheckpointError, match=expected) as caught:
        read(made(family) | more, header)
    assert "\n" not in str(caught.value)


def test_a_refiner_is_refused_by_name(made: Callable[[str], Tensors], read: Callable[..., Any]) -> None:
    tensors = {name: tensor for name, tensor in made("xl").items() if "embedders.0." not in name}
    refiner = {name.replace("embedders.1.", "embedders.0."): tensor for name, tensor in tensors.items()}
    with pytest.raises(CheckpointError, match="is a refiner of Stable Diffusion XL"):
        read(refiner)


def test_tensors_that_are_not_used_are_named(made: Callable[[str], Tensors], read: Callable[..., Any]) -> None:
    tensors = made("sd1")
    more = {f"extra.{number}": torch.zeros(2) for number in range(4)}
    (warning,) = read(tensors | more, {"what": "ever"}).warnings[:1]
    assert re.search(r', 4 of \d+ tensors are not used: "extra.0", "extra.1", "extra.2" and 1 more\.$', warning)
    assert any('"what"' in warning for warning in read(tensors, {"what": "ever"}).warnings)


def test_an_architecture_of_another_family_is_warned_of(
    made: Callable[[str], Tensors], read: Callable[..., Any]
) -> None:
    (warning,) = read(made("sd1"), {"modelspec.architecture": "flux-1-dev"}).warnings
    assert '"flux-1-dev", but its tensors are of Stable Diffusion 1.x' in warning


def test_a_scale_of_latents_is_honoured(made: Callable[[str], Tensors], read: Callable[..., Any]) -> None:
    assert read(made("sd1")).vae.scale == 0.18215
    assert read(made("sd1") | {"scale_factor": torch.tensor(0.25)}).vae.scale == 0.25
