"""Every option of a region, for every kind of condition: it changes the region, or the refusal or warning names it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from controlled import beside as controlnet
from flux import write_flux
from flux2 import write_flux2
from lora_files import lora_weights, peft_file
from pictured import SD_LIKE, published, tower
from PIL import Image
from safetensors.torch import save_file
from tiny import write_checkpoint, write_exemplar
from torch import Tensor

from cloisonne.errors import CloisonneError, SceneError
from cloisonne.methods.answers import OPTIONS, Answer
from cloisonne.methods.kinds import KINDS, rows
from cloisonne.methods.region_options import markdown
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.generate import generate
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

SUBJECT, RIVAL = (0.0, 0.0, 0.5, 1.0), (0.25, 0.0, 1.0, 1.0)
INSIDE = (..., slice(0, 4))
"""The subject on 8 x 8 latents."""


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))


GIVEN: dict[str, dict[str, Any]] = {
    "phrase": {"phrase": "a cat"},
    "exemplar": {"exemplar": picture(1)},
    "control": {"control": {"kind": "canny", "image": picture(2)}},
    "lora": {"phrase": "a cat", "lora": "ink"},
    "edit": {"edit": {"kind": "add", "phrase": "a cat"}},
}
"""What a region of a kind is given, by kind."""
GREY = np.zeros((64, 64))
GREY[:, :32] = 0.5
CHANGES: dict[str, dict[str, Any]] = {
    "weight": {"weight": 0.4},
    "start, stop": {"stop": 0.5},
    "feather": {"feather": 0.5},
    "mask": {"box": None, "mask": GREY},
    "priority": {"priority": 1},
    "negative": {"negative": "dog"},
    "guidance": {"guidance": 9.0},
    "seed": {"seed": 5},
    "strict": {"strict": True},
    "lora": {"lora": "ink"},
}
NEEDS: dict[str, dict[str, Any]] = {
    "with `priority`": {"overlap": "priority"},
    "with `priority`; who has room": {"overlap": "priority"},
    "of strict, negative, guidance, seed": {"strict": True},
    "of negative, guidance, seed": {"negative": "car"},
    "of its seed": {"seed": 7},
    "with strict": {"strict": True},
}
"""What a mark asks for besides: of the region, or the overlap rule of the scene."""
ANSWERS = {name: answers for kind in KINDS.values() for name, answers, _ in rows(kind)}
CELLS = [
    (kind, option)
    for kind in ANSWERS
    for option in OPTIONS
    if kind not in ("edit", "concept")
    and ANSWERS[kind][option].mark != "as its phrase"
    and (kind, option) != ("lora", "lora")
]


@pytest.fixture(scope="module")
def models(tiny_family: Path, tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """By kind; "phrase" of phrases, "other" of kinds that need nothing but a text model and, for one option, a LoRA."""
    root = tmp_path_factory.mktemp("dials")
    ink = {"ink": peft_file(root / "family.safetensors", lora_weights(tiny_sd, text=False))}
    base, pbe = write_checkpoint(root / "sd", unet=SD_LIKE), write_exemplar(root / "pbe")
    controlnet(base, 5).save_pretrained(root / "canny")
    vision = tower(32)
    vision.save_pretrained(root / "models" / "image_encoder")
    save_file(published(base, "plain", vision), root / "models" / "ip-adapter_sd15.safetensors")
    own = {"ink": peft_file(root / "ink.safetensors", lora_weights(base, text=False))}
    painted = Path(shutil.copytree(base, root / "painted"))
    shutil.copytree(pbe / "vae", painted / "vae", dirs_exist_ok=True)
    flux = with_lora(write_flux(root / "flux", embedded=False), "transformer_blocks.0.attn.to_q")
    klein = with_lora(write_flux2(root / "flux2", distilled=False), "transformer_blocks.0.attn.to_q")
    return {
        "phrase, method isolated": replace(flux, native=replace(flux.native, width=64, height=64)),
        "phrase": load(tiny_family, regional_lora=ink),
        "exemplar, IP-Adapter": load(base, exemplar=root / "models" / "ip-adapter_sd15.safetensors", regional_lora=own),
        "exemplar, Paint by Example": load(painted, exemplar=pbe),
        "exemplar, Paint by Example alone": load(pbe),
        "exemplar, references": replace(klein, native=replace(klein.native, width=64, height=64)),
        "control": load(base, adapters={"canny": root / "canny"}, regional_lora=own),
        "other": load(base, regional_lora=own),
    }


def with_lora(folder: Path, layer: str) -> Model:
    """The model of a transformer's folder with a LoRA of one layer by region."""
    rows, columns = load(folder).net.modules[0].get_submodule(layer).weight.shape
    tensors = {"A": torch.randn(2, columns), "B": torch.randn(rows, 2)}
    file = folder / "ink.safetensors"
    save_file({f"transformer.{layer}.lora_{side}.weight": own for side, own in tensors.items()}, file)
    return load(folder, regional_lora={"ink": file})


def scene_of(kind: str, *, rival: bool = False, **changes: Any) -> Scene:
    """A region of a kind and, where two are needed, another one that overlaps it."""
    image_only = kind.endswith("alone")
    method = kind.removeprefix("phrase, method ") if kind.startswith("phrase") else "attention"
    method = "isolated" if kind == "exemplar, references" else method
    fields: dict[str, Any] = {"caption": "" if image_only else "on the beach", "method": method, "seed": 0, "steps": 4}
    fields["overlap"] = changes.pop("overlap", "blend")
    own = Region(**{"name": "subject", "box": SUBJECT, **GIVEN[kind.partition(",")[0]], **changes})
    other = Region(name="rival", box=RIVAL, **({"exemplar": picture(3)} if image_only else {"phrase": "a dog"}))
    of_sd = kind.startswith("phrase") and method != "isolated"
    size = {} if of_sd else {"width": 64, "height": 64, "guidance": 4.0, "sampler": "ddim"}
    return Scene(**fields, **size, regions=(own, other) if rival else (own,))


def drawn(model: Model, scene: Scene) -> tuple[Tensor, list[str]]:
    result = generate(scene, model, output_type="latent")
    return result.latents, [warning for warning in result.report["warnings"] if "control map" not in warning]


def model_of(kind: str, models: dict[str, Model]) -> Model:
    return models["phrase"] if kind.startswith("phrase") and kind not in models else models.get(kind, models["other"])


@pytest.mark.parametrize(("kind", "option"), CELLS)
def test_cell(models: dict[str, Model], kind: str, option: str) -> None:
    """Where it counts, the region is another; where not, the table says what becomes of it."""
    model, answer = model_of(kind, models), ANSWERS[kind][option]
    needs = NEEDS.get(answer.mark, {})
    rival = option == "priority"
    plain, _ = drawn(model, scene_of(kind, rival=rival, **needs))
    changed = scene_of(kind, rival=rival, **needs, **CHANGES[option])
    if answer.refused:
        with pytest.raises(CloisonneError, match=r'^Region "subject": .*(negative is "dog", but|LoRA|lora)'):
            drawn(model, changed)
        return
    found, warnings = drawn(model, changed)
    difference = float((found - plain)[INSIDE].abs().max())
    if answer.mark == "no":
        assert difference == 0
        (said,) = (warning for warning in warnings if warning.startswith('Region "subject": the method'))
        assert option in said or option == "mask"
    elif answer.mark in ("always", "who has room"):
        assert difference == 0
        assert not warnings
    else:
        assert difference > 1e-3
        assert not any(f"its {option}" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("kind", "option"),
    [(kind, option) for kind, option in CELLS if ANSWERS[kind][option].mark in NEEDS and option != "mask"],
)
def test_without_what_it_needs_it_is_said(models: dict[str, Model], kind: str, option: str) -> None:
    answer: Answer = ANSWERS[kind][option]
    plain, _ = drawn(model_of(kind, models), scene_of(kind))
    found, warnings = drawn(model_of(kind, models), scene_of(kind, **CHANGES[option]))
    assert torch.equal(found, plain)
    if answer.mark.endswith("who has room"):
        assert not warnings
    else:
        assert f'Region "subject": its {option} changes nothing here: {answer.advice}.' in warnings


@pytest.mark.parametrize("kind", ["phrase, method reco", "phrase, method attention", "exemplar, IP-Adapter", "control"])
def test_a_union_has_no_weights(models: dict[str, Model], kind: str) -> None:
    plain, _ = drawn(model_of(kind, models), scene_of(kind, overlap="union"))
    found, warnings = drawn(model_of(kind, models), scene_of(kind, overlap="union", weight=0.4))
    assert torch.equal(found, plain)
    assert (
        'its weight changes nothing here: with "overlap": "union" all have equal weights, choose "blend".'
        in warnings[0]
    )


def test_a_region_of_several_kinds_turns_a_dial_for_those_it_counts_for(models: dict[str, Model]) -> None:
    scene = scene_of("exemplar, Paint by Example", phrase="a cat", negative="dog")
    _, warnings = drawn(models["exemplar, Paint by Example"], scene)
    assert warnings == []


def test_equal_weights_leave_a_control_as_it_is(models: dict[str, Model]) -> None:
    """A weight is how much a region counts against others: alone, more than 1 changes nothing."""
    plain, _ = drawn(models["control"], scene_of("control"))
    heavy, _ = drawn(models["control"], scene_of("control", weight=3.0))
    assert torch.equal(heavy, plain)


def test_while_no_exemplar_counts_the_hole_is_painted_without(models: dict[str, Model]) -> None:
    model = models["exemplar, Paint by Example alone"]
    scene = scene_of("exemplar, Paint by Example alone", start=0.25, stop=0.75)
    result = generate(scene, model, output_type="latent")
    assert (result.report["forwards"], result.report["rows"]) == (4, 6)


@pytest.mark.parametrize("option", [option for option in OPTIONS if option not in ("strict", "lora")])
def test_edits_honour_what_their_words_do(tiny: Model, option: str) -> None:
    needs = {"overlap": "priority"} if option == "priority" else {}
    rival = option == "priority"
    plain = edit(scene_of("edit", rival=rival, **needs), tiny).named["raw"]
    changed = edit(scene_of("edit", rival=rival, **needs, **CHANGES[option]), tiny).named["raw"]
    assert (np.asarray(plain) != np.asarray(changed))[:, :32].any()


def test_what_is_removed_from_a_given_picture_has_no_words_to_turn_dials_of(tiny: Model) -> None:
    region = Region(name="hat", box=SUBJECT, edit={"kind": "remove", "phrase": "a cat"}, negative="dog")
    scene = Scene(caption="on the beach", seed=0, steps=2, background=picture(4), regions=(region,))
    with pytest.raises(SceneError, match=r'^Region "hat": The region sets negative, but it removes something'):
        edit(scene, tiny)
    assert edit(scene.replace(regions=(region.replace(negative="", feather=0.2, seed=4),)), tiny).report["version"]


def test_the_docs_have_this_table() -> None:
    page = Path(__file__).parents[2] / "docs/region-options.md"
    assert markdown() in page.read_text(encoding="utf-8"), "write the table by make tables"
