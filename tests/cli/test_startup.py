"""What a command imports: a refusal needs no tensor library, and idle threads do not spin."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import write_checkpoint

from cloisonne.models.builtin import BUILTIN
from cloisonne.models.deferred_imports import DEFERRED

BUILTIN_IS_THERE = (BUILTIN / "model_index.json").is_file()
TENSOR_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "scipy", "sklearn")
PROGRAM = """
import json, os, sys
import cloisonne.cli.main, cloisonne.scene

def run(arguments):
    sys.argv = ["cloisonne", *arguments.split()]
    try:
        cloisonne.cli.main.start()
        return 0
    except SystemExit as stop:
        return stop.code or 0

found = {}
for arguments in json.loads(sys.stdin.read()):
    if child := os.fork():
        os.waitpid(child, 0)
        found[arguments] = json.load(open("seen.json"))
        continue
    code, wait = run(arguments), os.environ.get("OMP_WAIT_POLICY")
    with open("seen.json", "w") as file:
        real = [name for name, module in sys.modules.items() if type(module).__name__ != "StandIn"]
        json.dump({"code": code, "wait": wait, "modules": sorted(real)}, file)
    os._exit(0)
with open("all.json", "w") as file:
    json.dump(found, file)
"""
"""Runs each command in a process of its own, forked from one with the common imports."""

BOX = {"name": "pet", "box": [0.1, 0.1, 0.9, 0.9]}
SCENES = {
    "plain.json": {"caption": "a cat", "regions": [BOX | {"phrase": "a cat"}]},
    "sampler.json": {"caption": "a cat", "sampler": "ddmi"},
    "field.json": {"caption": "a cat", "stesp": 4},
    "mask.json": {"regions": [{"mask": "absent.png", "phrase": "a cat"}]},
    "exemplar.json": {"regions": [BOX | {"exemplar": "absent.png"}]},
    "control.json": {"regions": [BOX | {"control": {"kind": "canny", "image": "absent.png"}}]},
    "background.json": {"background": "absent.png", "regions": [BOX | {"phrase": "a cat"}]},
    "damaged.json": {"background": "damaged.png", "regions": [BOX | {"phrase": "a cat"}]},
    "concept.json": {"background": "old.png", "regions": [BOX | {"concept": "absent.png"}]},
    "model.json": {"caption": "a cat", "model": "absent/folder/here"},
    "edit.json": {"regions": [BOX | {"phrase": "a cat", "edit": "a dog"}], "editing": {"preset": "best"}},
    "translating.json": {
        "background": "old.png",
        "regions": [BOX | {"concept": "old.png"}],
        "translating": {"preset": "best"},
    },
}
REFUSED = [
    "--bogus",
    "nothing",
    "generate",
    "generate absent.json -o new.png",
    *(f"generate {name} -o new.png" for name in SCENES if name not in ("plain.json", "edit.json")),
    "generate plain.json -o old.png",
    "generate plain.json -o new.tiff",
    "generate plain.json -o absent/new.png",
    "generate plain.json -o new.png --bogus",
    "generate plain.json -o new.png --model absent",
    "generate plain.json -o new.png --model model.ckpt",
    "generate plain.json -o new.png --model absent.safetensors",
    "generate plain.json -o new.png --lora absent.safetensors:0.5",
    "generate plain.json -o new.png --regional-lora ink",
    "generate plain.json -o new.png --regional-lora ink=absent.safetensors",
    "generate plain.json -o new.png --embedding absent.safetensors",
    "generate plain.json -o new.png --adapter canny=absent",
    "generate plain.json -o new.png --adapter cany=old.png",
    "generate plain.json -o new.png --exemplar-model absent",
    "generate plain.json -o new.png --segmenter absent",
    "generate plain.json -o new.png --tokenizer named",
    "generate plain.json -o new.png --prediction epsilon",
    "generate plain.json -o new.png --variant fp16",
    "generate plain.json -o new.png --image-encoder named",
    "generate plain.json -o new.png --model painter --fuser old.png",
    "generate plain.json -o new.png --model painter --adapter canny=named",
    "generate plain.json -o new.png --dtype float8",
    "generate plain.json -o new.png --prediction noise",
    "generate plain.json -o new.png --change cat=dog",
    "generate plain.json -o new.png --keep-outside",
    "generate plain.json -o named --overlay --num-images 2",
    "generate plain.json -o old.png --preview 2 --num-images 2",
    "fill absent.png --mask old.png --phrase cat -o new.png",
    "fill old.png --mask absent.png --phrase cat -o new.png",
    "fill old.png --mask old.png --phrase cat -o old.png",
    "paint old.png --mask old.png --exemplar absent.png -o new.png",
    "edit absent.json -o folder",
    "edit edit.json -o folder",
    "edit plain.json -o folder --preset best",
    "edit plain.json -o folder --self-attention-share 3",
    "edit plain.json -o old.png",
    "translate absent.png --reference old.png -o new.png",
    "translate old.png --reference absent.png -o new.png",
    "translate old.png --reference old.png --mask absent.png -o new.png",
    "translate old.png --reference old.png --concept absent.safetensors -o new.png",
    "translate old.png --reference old.png -o old.png",
    "translate old.png --reference old.png --preset best -o new.png",
    "translate old.png --reference old.png --keep-structure 2 -o new.png",
    "sweep plain.json --sweep guidance= -o new.png",
    "sweep plain.json --sweep pet.similarity=1,2 -o new.png",
    "sweep plain.json --sweep guidance=1,2 -o old.png",
    "sweep mask.json --sweep guidance=1,2 -o new.png",
    "batch absent -o folder",
    "batch plain.json -o folder",
    "batch named -o folder",
    "batch . -o folder --model absent",
    "batch . -o .",
    "batch . -o old.png",
    "batch . -o folder --workers 0",
    "batch . -o folder --seed 1-8 --num-images 2",
    "explain absent.json",
    "explain mask.json",
    "explain plain.json --attention old.png",
    "explain plain.json --model absent",
    "control absent.png -o new.png",
    "control old.png -o old.png",
    "control old.png --kind depth -o new.png",
    "convert absent named2",
    "convert old.png old.png",
    "draw -o old.png --bogus",
    *(
        f"evaluate {name} -o results --model absent"
        for name in ("layouts", "control", "exemplars", "edits", "translations", "mixed")
    ),
    "evaluate layouts -o results --method best",
    "evaluate layouts -o results --device gpu",
    "evaluate layouts -o results --benchmark best",
    "evaluate layouts -o results --benchmark coco --judge owlv2",
    "evaluate layouts -o results --benchmark coco-mig --file absent.yaml --judge absent",
    "evaluate layouts -o results --judge grounding-dino",
    "evaluate control -o results --kind depth",
    "evaluate control -o results --row own",
    "evaluate control -o results --row own=absent",
    "evaluate exemplars -o results --row own@much",
    "evaluate exemplars -o results --row own=absent",
    "evaluate edits -o results --task paint",
    "evaluate edits -o results --mode drawn",
    "evaluate edits -o results --row own=follow,look=1",
    "evaluate translations -o results --row own=best",
    "evaluate translations -o results --row control,steps=2",
    "evaluate mixed -o results --device cuda:x",
    "generate plain.json -o new.png --device gpu",
    *(f"train {name} --base absent --data world -o trained" for name in ("reco", "exemplar", "control")),
    "train reco --base builtin --data world -o trained --train-batch-size 0",
]
"""Commands that are refused, in a folder with old.png, damaged.png, model.ckpt, named/ and the scenes."""
ANSWERED = ["--help", "--version", "generate --help", "train reco --help", "evaluate edits --help", "models"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("startup")
    Image.new("RGB", (64, 64), "white").save(place / "old.png")
    (place / "damaged.png").write_bytes((place / "old.png").read_bytes()[:60])
    (place / "model.ckpt").write_bytes(b"nothing")
    (place / "named").mkdir()
    (place / "painter").mkdir()
    (place / "painter/model_index.json").write_text(
        '{"image_encoder": ["paint_by_example", "PaintByExampleImageEncoder"]}'
    )
    for name in ("0000.png", "0001.png"):
        (place / "named" / name).write_bytes(b"")
    for name, scene in SCENES.items():
        (place / name).write_text(json.dumps({"version": 1} | scene))
    return place


def seen(folder: Path, commands: Sequence[str], **environment: str) -> dict[str, dict[str, Any]]:
    """By command: its exit code, the modules that it imported and OpenMP's policy."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env=own | environment,
        input=json.dumps(commands),
        text=True,
        capture_output=True,
        check=True,
    )
    return json.loads((folder / "all.json").read_text())


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, dict[str, Any]]:
    return seen(folder, [*REFUSED, *ANSWERED])


@pytest.mark.parametrize("arguments", REFUSED)
def test_a_refusal_imports_no_tensor_library(found: dict[str, dict[str, Any]], arguments: str) -> None:
    assert found[arguments]["code"] == 2
    assert [library for library in TENSOR_LIBRARIES if library in found[arguments]["modules"]] == []


@pytest.mark.parametrize("arguments", ANSWERED)
def test_commands_without_a_network_import_no_tensor_library(found: dict[str, dict[str, Any]], arguments: str) -> None:
    assert found[arguments]["code"] == 0
    assert [library for library in TENSOR_LIBRARIES if library in found[arguments]["modules"]] == []


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_wait_passively_unless_the_environment_sets_a_policy(folder: Path, given: str | None) -> None:
    own = {} if given is None else {"OMP_WAIT_POLICY": given}
    assert seen(folder, ["models"], **own)["models"]["wait"] == (given or "PASSIVE")


LEFT = (
    *DEFERRED,
    *("transformers.models.clipseg", "diffusers.models.controlnets", "diffusers.pipelines", "sklearn"),
    *("cloisonne.train.builtin.family", "cloisonne.train.reco.task", "cloisonne.eval", "cloisonne.world"),
    *(f"cloisonne.models.adapters.{name}" for name in ("clipseg", "coadapter", "controlnet", "ip_adapter")),
    *(f"cloisonne.models.checkpoints.{name}" for name in ("lora.fuse", "convert", "hub", "ip_adapter_file")),
)
"""Modules that a model without such members never needs, and those that generate nothing."""
ADAPTER = ("diffusers.models.adapter", "cloisonne.models.adapters.t2i_adapter")
DRAWN = "generate --caption cat --steps 1 --seed 1 -o drawn.png --overwrite"


@pytest.mark.parametrize(
    ("more", "left"),
    [
        pytest.param(
            "", LEFT, id="builtin", marks=pytest.mark.skipif(not BUILTIN_IS_THERE, reason="no built-in family")
        ),
        pytest.param(" --model tiny", (*LEFT, *ADAPTER), id="a folder without adapters"),
    ],
)
def test_generate_imports_what_the_members_of_its_model_need(folder: Path, more: str, left: tuple[str, ...]) -> None:
    if more:
        write_checkpoint(folder / "tiny")
    modules = seen(folder, [DRAWN + more])[DRAWN + more]
    assert modules["code"] == 0
    assert [module for module in left if module in modules["modules"]] == []
