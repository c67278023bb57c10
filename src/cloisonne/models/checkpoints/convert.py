"""Convert checkpoints of any supported layout to a diffusers folder of safetensors, without pickles."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CheckpointError, OutputError
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.files import quiet
from cloisonne.models.checkpoints.ldm.single_file import parts_of
from cloisonne.models.checkpoints.ldm.texts import read_tokenizer
from cloisonne.models.checkpoints.paint_by_example_ldm import is_exemplar_layout, write_exemplar_folder
from cloisonne.models.checkpoints.pickles import PICKLES, read_pickle
from cloisonne.models.checkpoints.sources import check_conversion
from cloisonne.models.checkpoints.tensor_file import TensorFile, read_tensors
from cloisonne.scene.io.output import target_of


@quiet()
def convert(
    source: str | Path,
    out: Path,
    *,
    tokenizer: Path | None = None,
    prediction: Parameterization | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``source`` as a diffusers folder of safetensors, or as one safetensors file of the same tensors.

    Args:
        source: "builtin"; a checkpoint in LDM layout (also Paint by Example's), pickled or not; a diffusers folder with
            pickled weights; any pickle of tensors, if ``out`` ends in ``.safetensors``.
        out: the output; it appears only when it is complete.
        tokenizer: as for ``load``.
        prediction: as for ``load``.
        dtype: of the output; None keeps that of the tensors.
        overwrite: replace an existing output.

    Returns:
        ``out``.

    Raises:
        CheckpointError: the source cannot be read or is not supported.
        OutputError: the output exists, or cannot be written.
    """
    check_conversion(str(source), out, overwrite=overwrite)
    path = BUILTIN if source == "builtin" else Path(source).expanduser()
    if out.suffix == ".safetensors" and path.suffix in PICKLES:
        return _appear(out, lambda partial: save_file(_plain(read_pickle(path), dtype), partial))
    if path.is_dir():
        return _appear(out, lambda partial: _write_folder(path, partial, dtype))
    file = TensorFile(path, read_pickle(path)) if path.suffix in PICKLES else TensorFile.open(path)
    tensors = _plain(file.tensors, dtype)
    if is_exemplar_layout(tensors):
        return _appear(out, lambda partial: write_exemplar_folder(tensors, path, partial))
    plain = TensorFile(path, tensors, file.header)
    parts = parts_of(plain, words=lambda: read_tokenizer(tokenizer), prediction=prediction)
    return _appear(out, parts.save)


def _plain(tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Contiguous copies that own their memory, as safetensors requires, cast to ``dtype`` if given."""
    cast = {n: t.to(dtype) if dtype is not None and t.is_floating_point() else t for n, t in tensors.items()}
    return {name: tensor.detach().clone().contiguous() for name, tensor in cast.items()}


def _appear(out: Path, write: Callable[[Path], Any]) -> Path:
    """Write under a temporary name, then replace the output."""
    place = target_of(out)
    partial = place.with_name(f".{out.stem}.partial{out.suffix}")
    try:
        _remove(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        _remove(place)
        os.replace(partial, place)
    except OSError as error:
        raise OutputError(f'"{out}" cannot be written ({error.strerror or error}); choose another place.') from error
    finally:
        _remove(partial)
    return out


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write_folder(source: Path, out: Path, dtype: torch.dtype | None) -> None:
    """Write a diffusers folder with its pickles as safetensors; only weights, JSON and text files are copied."""
    if not (source / "model_index.json").is_file():
        raise CheckpointError(f'"{source}" has no model_index.json; give a diffusers folder.')
    for file in sorted(source.rglob("*")):
        place = out / file.relative_to(source)
        if not file.is_file() or any(part.startswith(".") for part in file.relative_to(source).parts):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".bin":
            safe = place.with_name(_safe(place.name))
            if not (source / safe.relative_to(out)).exists():
                save_file(_plain(read_pickle(file), dtype), safe, metadata={"format": "pt"})
        elif file.name.endswith(".bin.index.json"):
            index = json.loads(file.read_text(encoding="utf-8"))
            index["weight_map"] = {name: _safe(shard) for name, shard in index.get("weight_map", {}).items()}
            place.with_name(_safe(place.name)).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        elif file.suffix == ".safetensors" and dtype is not None:
            save_file(_plain(read_tensors(file), dtype), place, metadata={"format": "pt"})
        elif file.suffix in (".safetensors", ".json", ".txt"):
            shutil.copyfile(file, place)


def _safe(name: str) -> str:
    """A pickle's name as safetensors: pytorch_model.bin becomes model.safetensors."""
    return name.replace("pytorch_model", "model", 1 if name.startswith("pytorch") else 0).replace(
        ".bin", ".safetensors"
    )
