"""``load``: read a model by its name, folder, file, hub id or spec."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import torch

from cloisonne.errors import CapabilityError, CheckpointError, spelled
from cloisonne.models.add_ons import Readings, with_add_ons, with_mask_resampling, with_members_of
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.checkpoints.assemble import Placement, assemble, base_name
from cloisonne.models.checkpoints.copies import copied, copied_networks
from cloisonne.models.checkpoints.few_steps import with_few_steps
from cloisonne.models.checkpoints.file_hash import sha256_of
from cloisonne.models.checkpoints.files import quiet
from cloisonne.models.checkpoints.folder import native_of, read_folder
from cloisonne.models.checkpoints.load_options import (
    check_options,
    is_exemplar_folder,
    is_transformer_folder,
    refuse_on_transformers,
    refuse_on_unets,
)
from cloisonne.models.checkpoints.mmdit.single_file import (
    TransformerFiles,
    is_transformer_file,
    read_transformer_files,
)
from cloisonne.models.checkpoints.paint_by_example_folder import model_of, read_exemplar_folder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.sources import check_source
from cloisonne.models.model import Model, Origin
from cloisonne.models.model_spec import ModelSource, ModelSpec
from cloisonne.models.options import LoadOptions, checked
from cloisonne.models.text.vocabulary import Vocabulary
from cloisonne.models.vae import Autoencoder
from cloisonne.product_rates import product_rate


@dataclass(frozen=True, kw_only=True, eq=False)
class _Base:
    """What add-ons are added to: a source's parts, with fused LoRAs and learned words.

    No model runs these networks: each has copies of them, which share the tensors. folder: None for a single file.
    warnings: about the source, the LoRAs and the learned words.
    """

    name: str
    parts: Parts
    folder: Path | None
    placement: Placement
    warnings: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


@quiet()
def load(source: ModelSource = "builtin", **options: Unpack[LoadOptions]) -> Model:
    """Load a model: Stable Diffusion 1.x, 2.x or XL, plain or for inpainting, a ReCo checkpoint, Paint by Example,
    FLUX.1 dev, schnell, Fill or Kontext, FLUX.2 klein, Z-Image, or Stable Diffusion 3 or 3.5.

    ``load(source, **options)`` is ``load(ModelSpec.of(source, **options))``. Only a hub id that is not in the local
    cache is downloaded.

    Args:
        source: the built-in family ("builtin"), a diffusers folder, a single ``.safetensors`` or ``.gguf``
            file, a hub id ("owner/name"), or a :class:`~cloisonne.models.model_spec.ModelSpec`, its dict or its JSON
            file.
        **options: fields of ``ModelSpec``: where and how the networks run (``device``, ``dtype``, ``offload``,
            ``compile``), how the source is read (``variant``, ``transformer``, ``text_encoders``, ``vae``,
            ``tokenizer``, ``prediction``, ``vae_tiling``, ``vae_slicing``), and add-ons (``lora``, ``regional_lora``,
            ``embeddings``, ``adapters``, ``fuser``, ``exemplar``, ``image_encoder``, ``mask_resampling``,
            ``segmenter``), which the ``with_*`` methods of a model also add.

    Raises:
        CheckpointError: a file is missing, damaged, not supported, or does not fit the model.
        CapabilityError: the device cannot be used, or an option does not apply to the source.
    """
    spec = ModelSpec.of(source, **options)
    path = _local(spec)
    name = "builtin" if spec.source == "builtin" else base_name(spec.source)
    if is_exemplar_folder(path):
        return _paint_by_example(path, name, spec)
    return _composed(_base(path, name, spec), spec, {})


@quiet()
def from_pipe(pipe: Any) -> Model:
    """A model of a loaded diffusers pipeline, which shares its weights: they are not loaded again.

    The pipeline stays as it is and may be used meanwhile. What it carries is honoured as it is at this call (adapters
    of PEFT, learned words, fused projections, FreeU, the scheduler's noise levels, devices and dtypes), or refused by
    name. The ``with_*`` methods add to the model alone.

    Args:
        pipe: a pipeline of Stable Diffusion 1.x, 2.x or XL (text to image, image to image or inpainting), FLUX.1,
            Stable Diffusion 3, FLUX.2 klein or Z-Image.

    Raises:
        CapabilityError: the pipeline, or something that it carries, is not supported.
        CheckpointError: a configuration in it is not supported.
    """
    from cloisonne.models.pipes.components import parts_of
    from cloisonne.models.pipes.shared_model import shared

    parts, carried = parts_of(pipe)
    place = Placement(parts.network.device, parts.network.dtype, move=False)
    name = base_name(pipe.config.get("_name_or_path") or type(pipe).__name__)
    base = _Base(name=name, parts=parts, folder=None, placement=place, warnings=((), (), ()))
    spec = ModelSpec(type(pipe).__name__, device=str(place.device), dtype=checked("dtype", place.dtype))
    return shared(_composed(base, spec, {}), carried)


def _base(path: Path, name: str, spec: ModelSpec) -> _Base:
    """The source's parts, with the spec's LoRAs and embeddings."""
    placement = _placement(spec, path)
    if path.is_dir():
        file = None if spec.transformer is None else Path(spec.transformer).expanduser()
        folder, parts = path, read_folder(path, placement.dtype, spec.variant, file)
    else:
        folder, parts = None, _of_file(path, spec, placement.dtype)
    _set_tiling(parts.vae, spec)
    warnings = ((*_slow(placement), *parts.warnings), (), ())
    base = _Base(name=name, parts=parts, folder=folder, placement=placement, warnings=warnings)
    return _extended(base, spec.lora, spec.embeddings)


def _of_file(file: Path, spec: ModelSpec, dtype: torch.dtype) -> Parts:
    """The parts of a single file, or of one next to files of text encoders and an autoencoder."""
    words = None if spec.tokenizer is None else Path(spec.tokenizer).expanduser()
    if not is_transformer_file(file):
        from cloisonne.models.checkpoints.ldm.single_file import read_single_file

        refuse_on_unets(f'"{file}", which holds no diffusion transformer,', spec.given())
        return read_single_file(file, dtype=dtype, tokenizer=words, prediction=spec.prediction)
    refuse_on_transformers(f'"{file}" is of a diffusion transformer, which', spec.given())
    return read_transformer_files(
        TransformerFiles(
            source=file,
            text_encoders=tuple(Path(path).expanduser() for path in spec.text_encoders),
            vae=None if spec.vae is None else Path(spec.vae).expanduser(),
            tokenizer=words,
        ),
        dtype,
    )


def _extended(base: _Base, lora: tuple[tuple[str, float], ...], embeddings: tuple[str, ...]) -> _Base:
    """Fuse LoRAs into the base's parts and add textual inversions."""
    if not lora and not embeddings:
        return base
    from cloisonne.models.checkpoints.embedding_file import add_embeddings
    from cloisonne.models.checkpoints.lora.fuse import add_loras

    loras = [(Path(file).expanduser(), scale) for file, scale in lora]
    fused = add_loras(replace(base.parts, warnings=()), loras)
    learned = add_embeddings(replace(fused, warnings=()), [Path(file).expanduser() for file in embeddings])
    own, of_loras, of_words = base.warnings
    warnings = (own, (*of_loras, *fused.warnings), (*of_words, *learned.warnings))
    return replace(base, parts=learned, warnings=warnings)


def _composed(base: _Base, spec: ModelSpec, earlier: Mapping[Hashable, Any]) -> Model:
    """The model of a spec, from the parts with its LoRAs and words. earlier: add-ons that another model has read."""
    readings, placement, folder = Readings(earlier), base.placement, base.folder
    absolute = spec.resolved(Path.cwd())
    warnings = tuple(warning for some in base.warnings for warning in some)
    parts = replace(copied_networks(base.parts), warnings=warnings)
    native = None if folder is None else native_of(folder)
    model = assemble(parts, name=base.name, placement=placement, native=native)
    model = with_few_steps(model, [Path(file) for file, _ in absolute.lora])
    if folder is not None:
        model = with_members_of(folder, model, absolute.lora, placement, readings)
        if not spec.lora and not spec.regional_lora:  # a LoRA may add trained words
            model = replace(model, vocabulary=Vocabulary.read(folder))
    model = with_add_ons(model, spec, base.parts, placement, readings)
    model = replace(model, options=(*_options(spec, single_file=folder is None), *model.options))
    return _with_origin(model, Origin(absolute, lambda other: _changed(base, absolute, other, readings.used)))


def _with_origin(model: Model, origin: Origin) -> Model:
    """The model with its origin, and with files that are found from every working directory."""
    return replace(model, origin=origin, files=tuple(file.absolute() for file in model.files))


@quiet()
def _changed(base: _Base, spec: ModelSpec, other: ModelSpec, readings: Mapping[Hashable, Any]) -> Model:
    """The model of another spec, from a model's parts and add-ons; from the files where it is more than add-ons."""
    check_options(other.source, other.given())
    added = ("lora", "embeddings", "regional_lora", "adapters", "fuser", "exemplar", "image_encoder")
    same = {name: getattr(spec, name) for name in (*added, "mask_resampling", "segmenter")}
    lora, embeddings = other.lora[: len(spec.lora)], other.embeddings[: len(spec.embeddings)]
    if replace(other, **same) != spec or (lora, embeddings) != (spec.lora, spec.embeddings):
        return load(other)
    new = (other.lora[len(lora) :], other.embeddings[len(embeddings) :])
    extended = _extended(replace(base, parts=copied(base.parts)), *new) if any(new) else base
    return _composed(extended, other, readings)


def _options(spec: ModelSpec, *, single_file: bool) -> list[str]:
    """``Model.options``: what the model's files do not determine."""
    regional = {name: sha256_of(Path(file).expanduser()) for name, file in spec.regional_lora.items()}
    return [
        *(f"lora {sha256_of(Path(file).expanduser())} {scale:g}" for file, scale in spec.lora),
        *(f"embedding {sha256_of(Path(file).expanduser())}" for file in spec.embeddings),
        *(f"regional lora {name} {digest}" for name, digest in sorted(regional.items())),
        *([f"prediction {spec.prediction}"] if spec.prediction is not None and single_file else []),
        *(["vae tiling"] if spec.vae_tiling else []),
    ]


def _paint_by_example(folder: Path, name: str, spec: ModelSpec) -> Model:
    """A folder of Paint by Example as the model itself."""
    placement = _placement(spec, folder)
    parts = read_exemplar_folder(folder, placement.dtype, spec.variant)
    _set_tiling(parts.vae, spec)
    options = ("vae tiling",) if spec.vae_tiling else ()
    model = replace(model_of(parts, name=name, placement=placement), options=options)
    model = with_mask_resampling(model, spec.mask_resampling)
    return _with_origin(model, Origin(spec.resolved(Path.cwd()), load))


def _set_tiling(vae: Autoencoder, spec: ModelSpec) -> None:
    """Make the VAE decode in tiles, or image by image."""
    if spec.vae_slicing:
        vae.enable_slicing()
    if spec.vae_tiling:
        vae.enable_tiling()


def _local(spec: ModelSpec) -> Path:
    """The folder or file of a source, after a check of the options; a hub id is downloaded unless it is cached."""
    check_options(spec.source, spec.given())
    if spec.source == "builtin":
        if not (BUILTIN / "model_index.json").is_file():
            raise CheckpointError(f'The built-in family is missing from "{BUILTIN}"; install cloisonne again.')
        return BUILTIN
    path = Path(spec.source).expanduser()
    check_source(spec.source)
    if path.exists():
        return path
    from cloisonne.models.checkpoints.hub import snapshot

    folder = snapshot(spec.source, spec.variant, without=() if spec.transformer is None else ("transformer",))
    check_options(folder, spec.given())
    return folder


def _slow(placement: Placement) -> tuple[str, ...]:
    """A warning where a CPU multiplies the dtype more slowly than float32."""
    kind, dtype = placement.device.type, placement.dtype
    if kind != "cpu" or dtype not in (torch.bfloat16, torch.float16):
        return ()
    times = product_rate(kind, torch.float32) / product_rate(kind, dtype)
    name = str(dtype).removeprefix("torch.")
    if times <= 1:
        return ()
    option = spelled('dtype="float32"', "--dtype float32")
    return (f"This processor multiplies {name} {times:.3g} times as slowly as float32; load the model with {option}.",)


def _placement(spec: ModelSpec, path: Path) -> Placement:
    """Where the networks run, tested by creating a tensor there. Raises CapabilityError where they cannot."""
    try:
        place = torch.device(spec.device)
        torch.empty(1, device=place)
    # What torch raises for a device it was built without depends on the device: AssertionError for "cuda".
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise CapabilityError(f'The device "{spec.device}" cannot be used on this machine; choose "cpu".') from error
    transformer = is_transformer_folder(path) or (path.is_file() and is_transformer_file(path))
    half = torch.bfloat16 if transformer else torch.float16  # in which they were trained
    default = torch.float32 if place.type == "cpu" else half
    dtype = default if spec.dtype is None else getattr(torch, spec.dtype)
    return Placement(place, dtype, spec.offload, compile=spec.compile)
