"""Specs of models: values that survive JSON, and that the command line makes of its options."""

import json
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import cloisonne as cl
from cloisonne.cli.options import Loading
from cloisonne.errors import CapabilityError, CheckpointError, on_command_line
from cloisonne.models.model_spec import ModelSpec
from cloisonne.models.options import LoadOptions

FULL: dict[str, Any] = {
    "device": "cuda:1",
    "dtype": "float16",
    "offload": True,
    "compile": "reduce-overhead",
    "variant": "fp16",
    "transformer": "klein.gguf",
    "text_encoders": ["qwen.safetensors"],
    "vae": "ae.safetensors",
    "tokenizer": "words",
    "prediction": "v_prediction",
    "vae_tiling": True,
    "vae_slicing": True,
    "lora": [["ink.safetensors", 0.8], ["oil.safetensors", 1.0]],
    "embeddings": ["mark.safetensors"],
    "regional_lora": {"gold": "gold.safetensors"},
    "adapters": {"canny": "edges", "depth": "/models/depth"},
    "fuser": "fuser.safetensors",
    "exemplar": "ip.safetensors",
    "image_encoder": "encoder",
    "mask_resampling": "nearest",
    "segmenter": "clipseg",
}


def test_every_option_is_a_field() -> None:
    names = {field.name for field in fields(ModelSpec)}
    assert names == LoadOptions.__annotations__.keys() | {"source"} == FULL.keys() | {"source"}


@pytest.mark.parametrize("options", [{}, *({name: value} for name, value in FULL.items()), FULL], ids=str)
def test_a_spec_survives_json(options: dict[str, Any]) -> None:
    spec = ModelSpec("sd", **options)
    assert spec.to_dict() == {"source": "sd", **options}
    for again in (ModelSpec.from_json(spec.to_json()), ModelSpec.from_dict(spec.to_dict()), ModelSpec.of(spec)):
        assert (again, hash(again)) == (spec, hash(spec))
    assert (spec == ModelSpec("sd")) == (not options)


def test_paths_scales_and_dtypes_are_values_of_json() -> None:
    spec = ModelSpec.of(Path("sd"), lora=(Path("ink"), 1), embeddings=Path("mark"), dtype=torch.bfloat16)
    assert spec == ModelSpec("sd", lora=(("ink", 1.0),), embeddings=("mark",), dtype="bfloat16")
    assert ModelSpec.of("sd", lora="ink", device=torch.device("cuda", 1)) == ModelSpec.of(
        "sd", lora=["ink"], device="cuda:1"
    )


def test_options_are_added_to_a_spec() -> None:
    spec = ModelSpec.of("sd", lora="ink", adapters={"canny": "a", "depth": "b"}, dtype="float16")
    more = ModelSpec.of(spec, lora=("oil", 0.5), adapters={"depth": "c"}, dtype=None, segmenter="s")
    assert more == ModelSpec.of("sd", lora=["ink", ("oil", 0.5)], adapters={"canny": "a", "depth": "c"}, segmenter="s")
    assert spec == ModelSpec.of("sd", lora="ink", adapters={"canny": "a", "depth": "b"}, dtype="float16")


def test_a_spec_file_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    values = {"source": "sd", "lora": ["ink.safetensors"], "adapters": {"canny": "/models/canny"}}
    (tmp_path / "model.json").write_text(json.dumps(values))
    expected = ModelSpec.of(
        tmp_path / "sd", lora=tmp_path / "ink.safetensors", adapters={"canny": "/models/canny"}, device="cuda"
    )
    assert ModelSpec.of(tmp_path / "model.json", device="cuda") == expected
    assert Loading(device="cuda").spec(str(tmp_path / "model.json")) == expected
    (tmp_path / "model.json").write_text(json.dumps({"source": "owner/name"}))
    assert ModelSpec.read(tmp_path / "model.json") == ModelSpec("owner/name")


def test_the_command_line_makes_a_spec() -> None:
    loading = Loading(
        **{name: FULL[name] for name in ("device", "dtype", "offload", "compile", "variant", "prediction")},
        vae_tiling=FULL["vae_tiling"],
        **{
            name: Path(FULL[name])
            for name in ("transformer", "vae", "tokenizer", "fuser", "image_encoder", "segmenter")
        },
        lora=["ink.safetensors:0.8", "oil.safetensors"],
        regional_lora=["gold=gold.safetensors"],
        text_encoder=[Path("qwen.safetensors")],
        embedding=[Path("mark.safetensors")],
        exemplar_model=Path("ip.safetensors"),
        adapter=["canny=edges", "depth=/models/depth"],
    )
    only_in_python = {"vae_slicing", "mask_resampling"}
    options: Any = {name: value for name, value in FULL.items() if name not in only_in_python}
    assert loading.spec("sd") == ModelSpec.of("sd", **options)
    assert Loading().spec("builtin") == ModelSpec()
    assert Loading(group_offload=True).spec("sd") == ModelSpec("sd", offload="group")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sorce": "sd"}, 'no field "sorce"; did you mean "source"'),
        ({"adapter": {}}, 'no field "adapter"; did you mean "adapters"'),
        ({"dtype": "int8"}, 'dtype is "int8"; choose one of float32'),
        ({"prediction": "x"}, 'prediction is "x"; choose one of'),
        ({"mask_resampling": None}, "mask_resampling is null; choose one of bilinear, nearest"),
        ({"offload": "yes"}, 'offload is "yes"; give true, false or "group"'),
        ({"lora": 3}, "lora is 3; give a list of paths"),
        ({"lora": [["ink", "1"]]}, "lora is .*; give a path, or a path and a scale"),
        ({"adapters": ["canny"]}, "adapters is .*; give paths by their names"),
        ({"exemplar": 3}, "exemplar is 3; give a text"),
        ({"source": ""}, 'source is ""; give a text'),
    ],
)
@pytest.mark.parametrize("surface", ["python", "command line"])
def test_bad_values_are_refused_by_their_names(
    surface: str, values: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.json").write_text(json.dumps(values))
    with on_command_line() if surface == "command line" else nullcontext():
        with pytest.raises(CapabilityError, match=f'^"{tmp_path}/model.json": .*({message})'):
            ModelSpec.read(tmp_path / "model.json")
        with pytest.raises(CapabilityError, match=message):
            ModelSpec.from_dict(values)


def test_a_file_that_holds_no_spec_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "text.json").write_text("x")
    for name, message in {"list": "not a JSON object", "text": "as JSON; correct it", "none": "no model spec"}.items():
        with pytest.raises(CheckpointError, match=message):
            cl.load(tmp_path / f"{name}.json")
    with pytest.raises(CheckpointError, match="The model spec is not a JSON object; give a JSON object"):
        ModelSpec.from_json("[]")


def test_an_unknown_keyword_is_refused() -> None:
    options: Any = {"loras": "ink"}
    with pytest.raises(TypeError, match=r'load\(\) has no keyword "loras"; did you mean "lora"\?'):
        cl.load("builtin", **options)


def test_a_model_may_be_given_as_a_spec(tiny_sd: Path) -> None:
    scene = cl.Scene(caption="a cat", seed=0, steps=1, width=64, height=64)
    model = cl.load(tiny_sd)
    expected = cl.generate(scene, model, output_type="latent").latents
    for given in (model.model_spec, model.model_spec.to_dict()):
        assert torch.equal(cl.generate(scene, given, output_type="latent").latents, expected)
