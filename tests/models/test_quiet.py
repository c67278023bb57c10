"""diffusers and transformers print nothing during calls of cloisonne, and print again after them."""

from pathlib import Path

import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from lora_files import lora_weights, peft_file
from transformers.utils import logging as transformers_logging

from cloisonne.models.checkpoints.convert import convert
from cloisonne.models.checkpoints.folder import read_folder
from cloisonne.models.load import load

LIBRARIES = (diffusers_logging, transformers_logging)


def test_loading_and_converting_print_nothing(
    tiny_sd: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lora = peft_file(tmp_path / "ink.safetensors", {"unet": lora_weights(tiny_sd)["unet"]})
    capfd.readouterr()
    caplog.clear()
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in LIBRARIES]
    load(tiny_sd, regional_lora={"ink": lora})
    load(tiny_sd, lora=lora)
    read_folder(tiny_sd, torch.float32).save(tmp_path / "folder")
    convert(str(tiny_sd), tmp_path / "copy")
    assert capfd.readouterr().err == ""
    assert caplog.records == []
    assert [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in LIBRARIES] == before
