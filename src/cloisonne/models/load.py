"""``load``: a model by name, folder, file or hub id."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, get_args

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from cloisonne.core.parameterization import Parameterization
from cloisonne.errors import CapabilityError, CheckpointError
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
from cloisonne.models.checkpoints.load_options import check_options, is_exemplar_folder
from cloisonne.models.checkpoints.paint_by_example_folder import model_of, read_exemplar_folder
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
    network predicts, where a single file does not say; of a folder, only what its scheduler states. variant: of a
    folder's weights, such as "fp16"; None takes the plain ones, or what there is in place of them. offload: keep
    networks in the CPU's memory but while they are asked. vae_tiling, vae_slicing: decode in tiles (a little different
    where they meet), or picture by picture.
    mask_resampling: of holes for exemplars, "nearest" as diffusers' pipeline has it; published weights were trained
    with "bilinear".

    Raises CheckpointError where the source is not what it should be, CapabilityError where the device is not there or
    the source has no use for an option.
    """
    place = _device(device)
    placement = Placement(place, dtype or (torch.float32 if place.type == "cpu" else torch.float16), offload)
    name = "builtin" if source == "builtin" else base_name(source)
    given = {"lora": lora, "regional_lora": regional_lora, "embeddings": embeddings, "exemplar": exemplar}
    given |= {"image_encoder": image_encoder, "adapters": adapters, "fuser": fuser, "segmenter": segmenter}
    given |= {"tokenizer": tokenizer, "prediction": prediction, "variant": variant}
    path = _local(source, given, variant)
    if is_exemplar_folder(path):
        alone = _alone(path, name, placement, variant, tiling=vae_tiling, slicing=vae_slicing)
        return _masking(alone, mask_resampling)
    folder, parts = _read(path, placement.dtype, tokenizer, prediction, variant)
    parts, options = _amend(parts, _listed(lora), _listed(embeddings))
    held = {name: Path(file).expanduser() for name, file in (regional_lora or {}).items()}
    loras = read_regional(parts, held)
    options += [f"regional lora {name} {_sha256(file)}" for name, file in sorted(held.items())]
    if prediction is not None and folder is None:
        options.append(f"prediction {prediction}")
    options += _decoding(parts.vae, tiling=vae_tiling, slicing=vae_slicing)
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


def _alone(folder: Path, name: str, placement: Placement, variant: str | None, *, tiling: bool, slicing: bool) -> Model:
    """A folder of Paint by Example as the model itself."""
    parts = read_exemplar_folder(folder, placement.dtype, variant)
    options = _decoding(parts.vae, tiling=tiling, slicing=slicing)
    return replace(model_of(parts, name=name, placement=placement), options=tuple(options))


def _decoding(vae: AutoencoderKL, *, tiling: bool, slicing: bool) -> list[str]:
    """Make an autoencoder decode in tiles or picture by picture; what a record says of it."""
    if slicing:
        vae.enable_slicing()
    if tiling:
        vae.enable_tiling()
    return ["vae tiling"] if tiling else []


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
    if resampling == "bilinear":
        return model
    if model.exemplar is None:
        raise CapabilityError(
            f'mask_resampling is "{resampling}", which is of Paint by Example\'s holes, and "{model.name}" has none of '
            "its networks; leave it out."
        )
    engine = replace(model.exemplar, mask_resampling=resampling)
    return replace(model, exemplar=engine, options=(*model.options, f"mask resampling {resampling}"))


def _local(source: str | Path, given: Mapping[str, Any], variant: str | None) -> Path:
    """The folder or file of a source, its options checked; a hub id's folder is fetched if need be."""
    check_options(source, given)
    if source == "builtin":
        if not (BUILTIN / "model_index.json").is_file():
            raise CheckpointError(f'The built-in family is missing from "{BUILTIN}"; install cloisonne again.')
        return BUILTIN
    path = Path(source).expanduser()
    check_source(source)
    if path.exists():
        return path
    from cloisonne.models.checkpoints.hub import snapshot

    folder = snapshot(str(source), variant)
    check_options(folder, given)
    return folder


def _read(
    path: Path,
    dtype: torch.dtype,
    tokenizer: str | Path | None,
    prediction: Parameterization | None,
    variant: str | None,
) -> tuple[Path | None, Parts]:
    """The folder of a source that is one, and its parts."""
    if path.is_dir():
        return path, read_folder(path, dtype, variant)
    from cloisonne.models.checkpoints.ldm.single_file import read_single_file

    words = None if tokenizer is None else Path(tokenizer).expanduser()
    return None, read_single_file(path, dtype=dtype, tokenizer=words, prediction=prediction)


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
