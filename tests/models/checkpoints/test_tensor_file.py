"""Whoever reads a file accounts for every tensor and every header entry in it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.tensor_file import TensorFile, reason


def opened(path: Path, *names: str, **header: str) -> TensorFile:
    save_file({name: torch.full((2,), float(i)) for i, name in enumerate(names)}, path, metadata=header or None)
    return TensorFile.open(path)


def test_what_is_taken_or_skipped_is_accounted_for(tmp_path: Path) -> None:
    file = opened(tmp_path / "x.safetensors", "a.one", "a.two", "b", "c.position_ids", "d", format="pt", ss_note="x")
    assert {name: float(value[0]) for name, value in file.take_prefix("a.").items()} == {"one": 0.0, "two": 1.0}
    file.skip(["b"], "a test's own")
    assert file.left == ("d",)
    file.skip(lambda name: name == "d", "a test's own")
    assert file.settle("LoRA") == ()


def test_what_is_left_is_named_in_one_sentence(tmp_path: Path) -> None:
    names = ("used", *(f"left{k}" for k in range(5)))
    file = opened(tmp_path / "x.safetensors", *names, shift="4", modelspec_like="x", **{"modelspec.title": "t"})
    file.take("used")
    tensors, header = file.settle("LoRA")
    assert '5 of 6 tensors are not used: "left0", "left1", "left2" and 2 more.' in tensors
    assert tensors.startswith(f'Of the LoRA "{tmp_path / "x.safetensors"}"')
    assert '"shift"' in header
    assert '"modelspec_like"' in header
    assert file.entry("shift") == "4"
    assert '"shift"' not in file.settle("LoRA")[1]


def test_a_file_of_which_nothing_is_used_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path / "x.safetensors", "a")
    file.skip(["a"], "a test's own")
    with pytest.raises(CheckpointError, match='is no LoRA of a known layout: its tensors are "a"; load another file'):
        file.settle("LoRA")
    with pytest.raises(CheckpointError, match="it holds no tensors"):
        TensorFile("y", {}).settle("LoRA")
    with pytest.raises(CheckpointError, match='lacks the tensor "b"'):
        file.take("b")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Error(s) in loading state_dict:\n\tUnexpected key(s): a. ", "Unexpected key(s): a"),
        ("It is so.\nAnd so.", "It is so"),
        ("The keys are wrong: \n\n ", "ValueError"),
        ("", "ValueError"),
    ],
)
def test_a_reason_never_ends_at_a_colon(text: str, wanted: str) -> None:
    assert reason(ValueError(text)) == wanted


@pytest.mark.parametrize("length", [640, 896, 1152, 19280])
def test_headers_whose_length_looks_like_a_pickle_are_read(tmp_path: Path, length: int) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(2)}, file, metadata={"note": "x" * (length - 200)})
    own = int.from_bytes(file.read_bytes()[:8], "little")
    save_file({"a": torch.zeros(2)}, file, metadata={"note": "x" * (length - 200 + length - own)})
    assert int.from_bytes(file.read_bytes()[:8], "little") == length
    assert TensorFile.open(file).keys == ("a",)


def test_a_pickle_under_another_name_is_named_in_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match=r"^\S+x.safetensors\" is a pickle under another name; convert it once"):
        TensorFile.open(file)
