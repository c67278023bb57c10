"""``load``: read a model by its name, folder, file or hub id."""

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
        prediction: what the network predicts, for a single file that does not declare it; for a folder only the
            value in its scheduler's configuration.
        variant: of a folder's weights, such as "fp16"; None means the plain weights, or the ones there are.
        offload: keep each network in the CPU's memory except while it runs.
        vae_tiling: decode in tiles; images differ slightly at the seams.
        vae_slicing: decode image by image.
        mask_resampling: how exemplar masks are resized to the latents, "nearest" as in diffusers' pipeline; published
            weights were trained with "bilinear".

    Raises:
        CheckpointError: a file is missing, damaged, not supported, or does not fit the model.
        CapabilityError: the device cannot be used, or an option does not apply to the source.
    """
    place = _device(device)
    placement = Placement(place, dtype or (torch.float32 if place.type == "cpu" else torch.float16), offload)
    name = "builtin" if source == "builtin" else base_name(source)
    given = {"lora": lora, "regional_lora": regional_lora, "embeddings": embeddings, "exemplar": exemplar}
    given |= {"image_encoder": image_encoder, "adapters": adapters, "fuser": fuser, "segmenter": segmenter}
    given |= {"tokenizer": tokenizer, "prediction": prediction, "variant": variant}
    path = _local(source, given, variant)
    if is_exemplar_folder(path):
        model = _paint_by_example(path, name, placement, variant, tiling=vae_tiling, slicing=vae_slicing)
        return _with_mask_resampling(model, mask_resampling)
    folder, parts = _read(path, placement.dtype, tokenizer, prediction, variant)
    parts, options = _with_loras_and_embeddings(parts, _listed(lora), _listed(embeddings))
    regional = {name: Path(file).expanduser() for name, file in (regional_lora or {}).items()}
    loras = read_regional(parts, regional)
    options += [f"regional lora {name} {_sha256(file)}" for name, file in sorted(regional.items())]
    if prediction is not None and folder is None:
        options.append(f"prediction {prediction}")
    options += _with_tiling(parts.vae, tiling=vae_tiling, slicing=vae_slicing)
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
    folder: Path, name: str, placement: Placement, variant: str | None, *, tiling: bool, slicing: bool
) -> Model:
    """A folder of Paint by Example as the model itself."""
    parts = read_exemplar_folder(folder, placement.dtype, variant)
    options = _with_tiling(parts.vae, tiling=tiling, slicing=slicing)
    return replace(model_of(parts, name=name, placement=placement), options=tuple(options))


def _with_tiling(vae: AutoencoderKL, *, tiling: bool, slicing: bool) -> list[str]:
    """Make the VAE decode in tiles, or image by image. Returns the entries of ``Model.options``."""
    if slicing:
        vae.enable_slicing()
    if tiling:
        vae.enable_tiling()
    return ["vae tiling"] if tiling else []


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
    if resampling == "bilinear":
        return model
    if model.exemplar is None:
        raise CapabilityError(
            f'mask_resampling is "{resampling}", which applies to Paint by Example, and "{model.name}" has no '
            "such network; leave it out."
        )
    engine = replace(model.exemplar, mask_resampling=resampling)
    return replace(model, exemplar=engine, options=(*model.options, f"mask resampling {resampling}"))


def _local(source: str | Path, given: Mapping[str, Any], variant: str | None) -> Path:
    """The folder or file of a source, after a check of the options; a hub id is downloaded unless it is cached."""
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
    """The source's folder, None for a single file, and its parts."""
    if path.is_dir():
        return path, read_folder(path, dtype, variant)
    from cloisonne.models.checkpoints.ldm.single_file import read_single_file

    words = None if tokenizer is None else Path(tokenizer).expanduser()
    return None, read_single_file(path, dtype=dtype, tokenizer=words, prediction=prediction)


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
