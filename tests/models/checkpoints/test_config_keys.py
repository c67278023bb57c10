"""No key of a checkpoint's configuration names code, or chooses which is run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.network_config import refuse_code
from cloisonne.models.load import load

KEYS: dict[str, Any] = {
    "auto_map": {"AutoModel": "owner/name--modeling.Model"},
    "trust_remote_code": True,
    "custom_pipeline": "owner/name",
    "_attn_implementation": "owner/kernel",
    "_attn_implementation_internal": "owner/kernel",
    "_experts_implementation_internal": "owner/kernel",
    "_attn_implementation_autoset": {"": "owner/kernel"},
    "_name_or_path": {"x": 1},
    "_module": "os",
    "__class__": "x",
}


@pytest.mark.parametrize("member", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("key", KEYS)
def test_a_folder_with_such_a_key_is_refused(tiny_sd: Path, tmp_path: Path, member: str, key: str) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    file = folder / member / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: KEYS[key]}))
    with pytest.raises(CheckpointError, match=f"has {key} .*may name code to run"):
        load(folder)


@pytest.mark.parametrize("key", KEYS)
def test_parts_of_a_configuration_too(key: str) -> None:
    with pytest.raises(CheckpointError, match="may name code"):
        refuse_code(Path("config.json"), {"text_config": {"vision": {key: KEYS[key]}}})


def test_keys_that_the_libraries_write_are_read(tiny_sd: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_sd, tmp_path / "model")
    written = {"_name_or_path": "owner/name", "_commit_hash": None, "_attn_implementation_autoset": True}
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | written))
    load(folder)
