"""Distilled networks: what their names and schedulers say becomes the defaults, and what a scene gives wins."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lora_files import lora_weights, peft_file
from safetensors.torch import load_file, save_file

from cloisonne.models.checkpoints.few_steps import few_steps_of
from cloisonne.models.load import load
from cloisonne.models.model import Native
from cloisonne.pipelines.api import explain, generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.scene import Scene

NAMES: dict[str, tuple[Any, ...] | None] = {
    "sdxl_lightning_4step_unet": ("euler", "trailing", 4, 1),
    "sdxl_lightning_8step_lora": ("euler", "trailing", 8, 1),
    "SDXL-Lightning": ("euler", "trailing", 4, 1),
    "sd_xl_turbo_1.0_fp16": ("euler-ancestral", "trailing", 1, 1),
    "sdxl-turbo": ("euler-ancestral", "trailing", 1, 1),
    "Hyper-SD15-8steps-lora": ("ddim", "trailing", 8, 1),
    "Hyper-SDXL-2steps-lora": ("ddim", "trailing", 2, 1),
    "Hyper-SD15-12steps-CFG-lora": ("ddim", "trailing", 12, 5),
    "dmd2_sdxl_4step_lora_fp16": ("lcm", "trailing", 4, 1),
    "lcm-lora-sdv1-5": ("lcm", "distilled", 4, 1),
    "LCM_Dreamshaper_v7": ("lcm", "distilled", 4, 1),
    "TCD-SDXL-LoRA": ("tcd", "distilled", 4, 1),
    "turbocharged-cats": None,
    "v1-5-pruned-emaonly": None,
    "calcmath": None,
    "enlightening": None,
    "in_12_steps": None,
}


@pytest.mark.parametrize("name", NAMES)
def test_published_names_are_known(name: str) -> None:
    kind = few_steps_of(name)
    found = None if kind is None else (kind.sampler, kind.spacing, kind.steps, kind.guidance)
    assert found == NAMES[name]


def values(native: Native) -> tuple[Any, ...]:
    return native.sampler, native.spacing, native.steps, native.guidance


@pytest.mark.parametrize(("scheduler", "sampler"), [("LCMScheduler", "lcm"), ("TCDScheduler", "tcd")])
def test_scheduler_of_a_checkpoint_decides(tiny_sd: Path, tmp_path: Path, scheduler: str, sampler: str) -> None:
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "plain"))
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"_class_name": scheduler}))
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": ["diffusers", scheduler]}))
    model = load(folder)
    assert values(model.native) == (sampler, "distilled", 4, 1)
    assert not model.warnings
    assert scheduler in str(explain({"caption": "a cat"}, model))


def test_name_of_a_folder_decides(tiny_sd: Path, tmp_path: Path) -> None:
    model = load(shutil.copytree(tiny_sd, tmp_path / "sdxl-turbo"))
    assert values(model.native) == ("euler-ancestral", "trailing", 1, 1)


@pytest.mark.parametrize("named", ["file", "header"])
def test_fused_lora_decides_and_explain_gives_the_reason(tiny_sd: Path, tmp_path: Path, named: str) -> None:
    name = "lcm-lora-sdv1-5"
    file = peft_file(tmp_path / f"{name if named == 'file' else 'ink'}.safetensors", lora_weights(tiny_sd, 1))
    if named == "header":
        save_file(load_file(file), file, {"modelspec.title": name})
    model = load(tiny_sd).with_lora(file)
    assert values(model.native) == ("lcm", "distilled", 4, 1)
    text = str(explain({"caption": "a cat"}, model))
    assert f'From the name of the LoRA "{name}": distilled for a few steps (LCM)' in text
    assert values(load(tiny_sd, lora=file).native) == values(model.native)


def test_what_a_scene_gives_wins(tiny_sd: Path, tmp_path: Path) -> None:
    model = load(shutil.copytree(tiny_sd, tmp_path / "lcm"))
    given = {"sampler": "ddim", "steps": 3, "guidance": 2.0, "spacing": "leading", "seed": 1}
    prepared = prepare(Scene(caption="a cat", **given), model)
    plain = prepare(Scene(caption="a cat", **given), load(tiny_sd))
    assert prepared.steps == plain.steps
    assert (prepared.scene.sampler, prepared.scene.guidance) == ("ddim", 2.0)


def test_sampler_alone_takes_the_distilled_levels(tiny_sd: Path) -> None:
    steps = prepare(Scene(caption="a cat", sampler="lcm", steps=4, seed=1), load(tiny_sd)).steps
    assert [step.t for step in steps] == [999, 759, 499, 259]


@pytest.mark.parametrize("steps", [1, 2, 4, 8])
@pytest.mark.parametrize("sampler", ["lcm", "tcd", "euler"])
def test_regions_are_repainted_in_few_steps_and_the_rest_keeps_its_bytes(
    tiny_sd: Path, steps: int, sampler: str
) -> None:
    background = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    regions = [
        {"phrase": "a red ball", "box": [0, 0, 0.5, 0.5]},
        {"phrase": "a blue cup", "box": [0.5, 0.5, 1, 1], "negative": "red"},
    ]
    scene = {"caption": "a table", "regions": regions, "background": background, "sampler": sampler, "steps": steps}
    result = generate({**scene, "spacing": "trailing", "guidance": 2.0, "seed": 1}, load(tiny_sd))
    drawn = np.asarray(result.image)
    assert np.array_equal(drawn[:32, 32:], background[:32, 32:])
    assert np.array_equal(drawn[32:, :32], background[32:, :32])
    assert not np.array_equal(drawn, background)
