"""``load``: a model by name, folder, file or hub id."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CapabilityError, CheckpointError, spelled
from cloisonne.models.adapters.paint_by_example import Resampling
from cloisonne.models.add_ons import (
    read_regional,
    with_adapters,
    with_exemplars,
    with_fuser,
    with_loras,
    with_segmenter,
)
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.assemble import Placement, assemble, base_name
from cloisonne.models.checkpoints.files import quiet
from cloisonne.models.checkpoints.folder import native_of, read_folder
from cloisonne.models.checkpoints.paint_by_example_folder import is_exemplar_folder, model_of, read_exemplar_folder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.sources import check_source
from cloisonne.models.family_members import with_relatives
from cloisonne.models.model import Model
from cloisonne.models.text.vocabulary import Vocabulary

Added: TypeAlias = str | Path | tuple[str | Path, float]
"""A LoRA's file, or (file, scale); without a scale it counts in full."""


@quiet()
def load(
    source: str | Path = "builtin",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    lora: Sequence[Added] | Added = (),
    regional_lora: Mapping[str, str | Path] | None = None,
    embeddings: Sequence[str | Path] | str | Path = (),
    exemplar: str | Path | None = None,
    image_encoder: str | Path | None = None,
    adapters: Mapping[str, str | Path] | None = None,
    fuser: str | Path | None = None,
    segmenter: str | Path | None = None,
    tokenizer: str | Path | None = None,
    prediction: Parameterization | None = None,
    variant: str | None = None,
    offload: bool = False,
    vae_tiling: bool = False,
    vae_slicing: bool = False,
    mask_resampling: Resampling = "bilinear",
) -> Model:
    """The built-in family ("builtin"), a diffusers folder, a single ``.safetensors`` file, or a hub id ("owner/name").

    Stable Diffusion 1.x, 2.x and XL, plain and for inpainting, and ReCo's fine-tuned checkpoints. Only a hub id that
    is not in the local cache is downloaded.

    dtype: of the networks; None means float32 on the CPU and float16 elsewhere. lora: files of any trainer,
    fused at their scales. regional_lora: such files by names, {"ink": FILE}, not fused: each counts only in the regions
    whose ``lora`` names it. embeddings: textual inversions; a file's name is its word where it names none itself.
    exemplar: a folder of Paint by Example, to draw regions' exemplars beside this model (such a folder may also be the
    source itself, for scenes without words), or the ``.safetensors`` file of an IP-Adapter, with the folder of its
    image_encoder where that is not beside it as published. adapters: T2I-Adapters or ControlNets by kind of control,
    {"canny": PATH}. fuser: a CoAdapter's file, by which T2I-Adapters hear of one another. segmenter: a folder of
    CLIPSeg, which MRGD's losses ask. tokenizer: a folder, for single files, which hold none. prediction: what the
    network predicts, where a single file does not say. variant: of a folder's weights, such as "fp16"; None takes the
    plain ones, or what there is in place of them. offload: keep networks in the CPU's memory but while they are
    asked. vae_tiling, vae_slicing: decode in tiles (a little different where they meet), or picture by picture.
    mask_resampling: of holes for exemplars, "nearest" as diffusers' pipeline has it; published weights were trained
    with "bilinear".

    Raises CheckpointError where the source is not what it should be, CapabilityError where the device is not there.
    """
    place = _device(device)
    placement = Placement(place, dtype or (torch.float32 if place.type == "cpu" else torch.float16), offload)
    name = "builtin" if source == "builtin" else base_name(source)
    path = Path(source).expanduser()
    if is_exemplar_folder(path):
        given = {"lora": lora, "regional_lora": regional_lora, "embeddings": embeddings}
        alone = _alone(path, name, placement, [option for option, value in given.items() if value], variant)
        return _masking(alone, mask_resampling)
    folder, parts = _read(source, placement.dtype, tokenizer, prediction, variant)
    parts, options = _amend(parts, _listed(lora), _listed(embeddings))
    held = {name: Path(file).expanduser() for name, file in (regional_lora or {}).items()}
    loras = read_regional(parts, held)
    options += [f"regional lora {name} {_sha256(file)}" for name, file in sorted(held.items())]
    if vae_tiling:
        parts.vae.enable_tiling()
        options.append("vae tiling")
    if vae_slicing:
        parts.vae.enable_slicing()
    native = None if folder is None else native_of(folder)
    model = assemble(parts, name=name, placement=placement, native=native, options=tuple(options))
    if folder is not None:
        model = with_relatives(model, folder, placement)
    if folder is not None and not lora and not loras:  # which may bring words of their own
        model = replace(model, vocabulary=Vocabulary.read(folder))
    if exemplar is not None:
        model = with_exemplars(model, exemplar, image_encoder, placement)
    if adapters:
        model = with_adapters(model, adapters, placement)
    if fuser is not None:
        model = with_fuser(model, fuser, placement)
    if segmenter is not None:
        model = with_segmenter(model, segmenter, placement)
    if loras:
        model = with_loras(model, loras, placement)
    return _masking(model, mask_resampling)


def _alone(folder: Path, name: str, placement: Placement, given: Sequence[str], variant: str | None) -> Model:
    """A folder of Paint by Example as the model itself. given: options of which it takes none."""
    if given:
        what = "no embeddings" if given[0] == "embeddings" else "no LoRAs"
        raise CapabilityError(
            f'"{folder}" is a folder of Paint by Example, which takes {what}; load a text model with the rest, and '
            f"the folder with it: {spelled('load(..., exemplar=FOLDER)', '--exemplar-model FOLDER')}."
        )
    return model_of(read_exemplar_folder(folder, placement.dtype, variant), name=name, placement=placement)


def _amend(parts: Parts, lora: Sequence[Added], embeddings: Sequence[str | Path]) -> tuple[Parts, list[str]]:
    """Fuse LoRAs and add learned words; what a record says of them."""
    loras = [(Path(x[0]), float(x[1])) if isinstance(x, tuple) else (Path(x), 1.0) for x in lora]
    words = [Path(x) for x in embeddings]
    if loras or words:
        from cloisonne.models.checkpoints.embedding_file import add_embeddings
        from cloisonne.models.checkpoints.lora.fuse import add_loras

        parts = add_embeddings(add_loras(parts, loras), words)
    told = [f"lora {_sha256(file)} {scale:g}" for file, scale in loras]
    return parts, told + [f"embedding {_sha256(file)}" for file in words]


def _masking(model: Model, resampling: Resampling) -> Model:
    """The model, its holes for exemplars resampled so."""
    if resampling not in get_args(Resampling):
        raise CapabilityError(f'mask_resampling is "{resampling}"; choose one of {", ".join(get_args(Resampling))}.')
    if resampling == "bilinear" or model.exemplar is None:
        return model
    engine = replace(model.exemplar, mask_resampling=resampling)
    return replace(model, exemplar=engine, options=(*model.options, f"mask resampling {resampling}"))


def _read(
    source: str | Path,
    dtype: torch.dtype,
    tokenizer: str | Path | None,
    prediction: Parameterization | None,
    variant: str | None,
) -> tuple[Path | None, Parts]:
    """The folder of a source that is one, and its parts."""
    if source == "builtin":
        if not (BUILTIN / "model_index.json").is_file():
            raise CheckpointError(f'The built-in family is missing from "{BUILTIN}"; install cloisonne again.')
        return BUILTIN, read_folder(BUILTIN, dtype)
    check_source(source)
    path = Path(source).expanduser()
    if path.is_dir():
        return path, read_folder(path, dtype, variant)
    if path.is_file():
        from cloisonne.models.checkpoints.ldm.single_file import read_single_file

        words = None if tokenizer is None else Path(tokenizer).expanduser()
        return None, read_single_file(path, dtype=dtype, tokenizer=words, prediction=prediction)
    from cloisonne.models.checkpoints.hub import snapshot

    folder = snapshot(str(source), variant)
    return folder, read_folder(folder, dtype, variant)


def _listed(values: Any) -> list[Any]:
    """One value or several, as several; a pair of file and scale is one value."""
    if isinstance(values, str | Path):
        return [values]
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], int | float):
        return [values]
    return list(values)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _device(device: str | torch.device) -> torch.device:
    """The device, once a tensor has been put there."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    # What torch raises for a device it was built without depends on the device: AssertionError for "cuda".
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CapabilityError(f'The device "{device}" cannot be used on this machine; choose "cpu".') from error
    return place
