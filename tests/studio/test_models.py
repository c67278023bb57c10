"""``--model``: every form of a model's spec, with a name for requests."""

import json
from pathlib import Path

import pytest

from cloisonne.errors import CapabilityError, CheckpointError, CloisonneError, SceneError
from cloisonne.models.model_spec import ModelSpec
from cloisonne.studio.settings import models_of


def test_every_form_of_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("ink.safetensors").touch()
    spec = {"source": "folder", "device": "cuda:1", "regional_lora": {"ink": "ink.safetensors"}}
    Path("inked.json").write_text(json.dumps(spec))
    folder, ink = str(tmp_path / "folder"), str(tmp_path / "ink.safetensors")
    whole = ModelSpec(folder, device="cuda:1", regional_lora={"ink": ink})
    assert models_of([]) == {"builtin": ModelSpec()}
    assert models_of(["folder"]) == {"folder": ModelSpec(folder)}
    assert models_of(["a=folder", "ink.safetensors"]) == {"a": ModelSpec(folder), "ink": ModelSpec(ink)}
    assert models_of(["inked.json", f"b={tmp_path}/inked.json"]) == {"inked": whole, "b": whole}
    assert models_of([json.dumps(spec)]) == {"folder": whole}
    assert models_of([f"c={json.dumps(spec)}"]) == {"c": whole}
    assert models_of(["owner/name"]) == {"name": ModelSpec("owner/name")}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["=builtin"], SceneError, "give a model, or NAME=MODEL"),
        (["a="], SceneError, "give a model, or NAME=MODEL"),
        (["../x=builtin"], SceneError, "give a model, or NAME=MODEL"),
        (["builtin", "builtin"], SceneError, 'Two models are called "builtin"'),
        (["no/such/model/here"], CheckpointError, "There is no folder or file"),
        (["none.json"], CheckpointError, "model spec"),
        (['{"source": "builtin", "lora": [["none.safetensors", 1]]}'], CheckpointError, "There is no LoRA"),
        (['{"source": "builtin", "loras": []}'], CapabilityError, "has no field"),
        (['{"source": "builtin", "variant": "fp16"}'], CapabilityError, "takes no variant"),
        (["{"], CheckpointError, "cannot be read as JSON"),
        (["a=model.ckpt"], CheckpointError, "is a pickle"),
    ],
)
def test_others_are_refused(given: list[str], error: type[CloisonneError], message: str) -> None:
    with pytest.raises(error) as caught:
        models_of(given)
    assert message in str(caught.value)
