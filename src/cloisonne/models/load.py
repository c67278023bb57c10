"""``load``: read a model by its name, folder, file or hub id."""

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
from cloisonne.models.family_members import with_family_members
from cloisonne.models.model import Model
from cloisonne.models.text.vocabulary import Vocabulary

Added: TypeAlias = str | Path | tuple[str | Path, float]
"""A LoRA's file, or (file, scale); the scale is 1 if not given."""


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
    """Load a model: Stable Diffusion 1.x, 2.x or XL, plain or for inpainting, a ReCo checkpoint, or Paint by Example.

    Only a hub id that is not in the local cache is downloaded.

    Args:
        source: the built-in family ("builtin"), a diffusers folder, a single ``.safetensors`` file, or a hub id
            ("owner/name").
        device: where the networks run.
        dtype: of the networks; None means float32 on the CPU and float16 elsewhere.
        lora: LoRA files of any trainer, fused at their scales.
        regional_lora: LoRA files by name, {"ink": FILE}, not fused: each applies only in the regions whose ``lora``
            names it.
        embeddings: textual inversions. A file that names no word gives its own name to the word.
        exemplar: a folder of Paint by Example, whose network generates the regions' exemplars next to this model's, or
            the ``.safetensors`` file of an IP-Adapter. A folder of Paint by Example may also be the source, for scenes
            without text.
        image_encoder: the folder of the IP-Adapter's image encoder; None means next to its file, as published.
        adapters: T2I-Adapters or ControlNets by kind of control, {"canny": PATH}.
        fuser: a CoAdapter's file, which combines T2I-Adapters.
        segmenter: a folder of CLIPSeg, for MRGD's losses.
        tokenizer: a folder, for a single file, which has no tokenizer.
        prediction: what the network predicts, for a single file that does not declare it.
        variant: of a folder's weights, such as "fp16"; None means the plain weights, or the ones there are.
        offload: keep each network in the CPU's memory except while it runs.
        vae_tiling: decode in tiles; images differ slightly at the seams.
        vae_slicing: decode image by image.
        mask_resampling: how exemplar masks are resized to the latents, "nearest" as in diffusers' pipeline; published
            weights were trained with "bilinear".

    Raises:
        CheckpointError: a file is missing, damaged, not supported, or does not fit the model.
        CapabilityError: the device cannot be used, or an option does not apply to the model.
    """
    place = _device(device)
    placement = Placement(place, dtype or (torch.float32 if place.type == "cpu" else torch.float16), offload)
    name = "builtin" if source == "builtin" else base_name(source)
    path = Path(source).expanduser()
    if is_exemplar_folder(path):
        given = {"lora": lora, "regional_lora": regional_lora, "embeddings": embeddings}
        refused = [option for option, value in given.items() if value]
        return _with_mask_resampling(_paint_by_example(path, name, placement, refused, variant), mask_resampling)
    folder, parts = _read(source, placement.dtype, tokenizer, prediction, variant)
    parts, options = _with_loras_and_embeddings(parts, _listed(lora), _listed(embeddings))
    regional = {name: Path(file).expanduser() for name, file in (regional_lora or {}).items()}
    loras = read_regional(parts, regional)
    options += [f"regional lora {name} {_sha256(file)}" for name, file in sorted(regional.items())]
    if vae_tiling:
        parts.vae.enable_tiling()
        options.append("vae tiling")
    if vae_slicing:
        parts.vae.enable_slicing()
    native = None if folder is None else native_of(folder)
    model = assemble(parts, name=name, placement=placement, native=native, options=tuple(options))
    if folder is not None:
        model = with_family_members(model, folder, placement)
    if folder is not None and not lora and not loras:  # a LoRA may add trained words
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
    return _with_mask_resampling(model, mask_resampling)


def _paint_by_example(
    folder: Path, name: str, placement: Placement, refused: Sequence[str], variant: str | None
) -> Model:
    """A folder of Paint by Example as the model itself. refused: given options that do not apply to it."""
    if refused:
        what = "no embeddings" if refused[0] == "embeddings" else "no LoRAs"
        raise CapabilityError(
            f'"{folder}" is a folder of Paint by Example, which takes {what}; load a text model with them, and this '
            f"folder as its exemplar model: {spelled('load(..., exemplar=FOLDER)', '--exemplar-model FOLDER')}."
        )
    return model_of(read_exemplar_folder(folder, placement.dtype, variant), name=name, placement=placement)


def _with_loras_and_embeddings(
    parts: Parts, lora: Sequence[Added], embeddings: Sequence[str | Path]
) -> tuple[Parts, list[str]]:
    """Fuse LoRAs and add textual inversions. Returns the parts and the entries of ``Model.options``."""
    loras = [(Path(x[0]), float(x[1])) if isinstance(x, tuple) else (Path(x), 1.0) for x in lora]
    words = [Path(x) for x in embeddings]
    if loras or words:
        from cloisonne.models.checkpoints.embedding_file import add_embeddings
        from cloisonne.models.checkpoints.lora.fuse import add_loras

        parts = add_embeddings(add_loras(parts, loras), words)
    options = [f"lora {_sha256(file)} {scale:g}" for file, scale in loras]
    return parts, options + [f"embedding {_sha256(file)}" for file in words]


def _with_mask_resampling(model: Model, resampling: Resampling) -> Model:
    """The model, its exemplar masks resized by this method."""
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
    """The source's folder, None for a single file, and its parts."""
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
    """One value or several, as a list; a pair of file and scale is one value."""
    if isinstance(values, str | Path):
        return [values]
    if isinstance(values, tuple) and len(values) == 2 and isinstance(values[1], int | float):
        return [values]
    return list(values)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _device(device: str | torch.device) -> torch.device:
    """The device, tested by creating a tensor on it. Raises CapabilityError where it cannot be used."""
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    # What torch raises for a device it was built without depends on the device: AssertionError for "cuda".
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CapabilityError(f'The device "{device}" cannot be used on this machine; choose "cpu".') from error
    return place
