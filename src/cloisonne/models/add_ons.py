"""What a user adds to a loaded model: adapters, what draws exemplars, what finds words."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.checkpoints.assemble import Placement
from cloisonne.models.checkpoints.files import files_of
from cloisonne.models.checkpoints.load_options import is_exemplar_folder, named
from cloisonne.models.checkpoints.paint_by_example_folder import engine_of, read_exemplar_folder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.sources import check_kinds, is_ip_adapter
from cloisonne.models.family_members import segmenter_of
from cloisonne.models.model import Model
from cloisonne.models.unet.denoiser import DiffusersNet
from cloisonne.models.unet.region_lora import Lora
from cloisonne.scene.conditions.lora import Lora as Named


def with_adapters(model: Model, adapters: Mapping[str, str | Path], placement: Placement) -> Model:
    """T2I-Adapters or ControlNets by kind of control."""
    from cloisonne.models.adapters.controlnet import check_controlnet, is_controlnet, read_controlnet
    from cloisonne.models.adapters.t2i_adapter import check_adapter, read_adapter

    found, beside, files = dict(model.adapters), dict(model.controlnets), []
    unet: Any = model.net.unet.config
    check_kinds(adapters)
    for kind, source in adapters.items():
        path = Path(source).expanduser()
        found.pop(kind, None)
        beside.pop(kind, None)
        if is_controlnet(path):
            beside[kind] = read_controlnet(path, model.net.unet, placement.dtype, placement.device)
            check_controlnet(beside[kind], kind, unet, model.vae.factor, model.name)
        else:
            found[kind] = read_adapter(path, placement.dtype, placement.device)
            check_adapter(found[kind], kind, unet, model.name)
        files += files_of([path]) if path.is_dir() else [path]
    added = [found[kind] if kind in found else beside[kind] for kind in adapters]
    warnings = (*model.warnings, *(warning for one in added for warning in one.warnings))
    return replace(model, adapters=found, controlnets=beside, files=(*model.files, *files), warnings=warnings)


def with_fuser(model: Model, source: str | Path, placement: Placement) -> Model:
    """What a CoAdapter's file holds."""
    from cloisonne.models.adapters.coadapter import check_fuser, read_fuser

    file = Path(source).expanduser()
    unet: Any = model.net.unet.config
    if not model.adapters:
        raise CapabilityError(
            f'The fuser "{file}" joins T2I-Adapters, and "{model.name}" has none; give them as {named("adapters")}.'
        )
    found = read_fuser(file, placement.device)
    check_fuser(found, tuple(model.adapters), unet["block_out_channels"], model.name)
    return replace(model, fuser=found, files=(*model.files, file), warnings=(*model.warnings, *found.warnings))


def with_exemplars(model: Model, source: str | Path, image_encoder: str | Path | None, placement: Placement) -> Model:
    """Paint by Example beside the model, or an IP-Adapter in it. image_encoder: of an IP-Adapter, if not beside it."""
    folder = Path(source).expanduser()
    from cloisonne.models.checkpoints.ip_adapter_file import with_ip_adapter

    if is_ip_adapter(folder):
        seer = None if image_encoder is None else Path(image_encoder).expanduser()
        return with_ip_adapter(model, folder, seer, placement)
    if not is_exemplar_folder(folder):
        raise CheckpointError(
            f'"{folder}" is no folder of Paint by Example; give one with an image_encoder, or an IP-Adapter\'s '
            ".safetensors file."
        )
    parts = read_exemplar_folder(folder, placement.dtype)
    engine = engine_of(parts, placement)
    ours, theirs = model.spec.latent, engine.net.spec.latent
    if ours != theirs:
        raise CheckpointError(
            f'"{folder}" draws on other latents ({theirs}) than "{model.name}" ({ours}), so that they cannot share a '
            "canvas; load two of one line, such as Stable Diffusion 1.x."
        )
    return replace(
        model,
        exemplar=engine,
        files=(*model.files, *parts.files),
        notes=(*model.notes, *parts.notes),
        warnings=(*model.warnings, *parts.warnings),
    )


def with_segmenter(model: Model, source: str | Path, placement: Placement) -> Model:
    """CLIPSeg beside the model, read when it is first asked."""
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(f'"{folder}" is no folder of CLIPSeg; give one with config.json, weights and tokenizer.')
    segmenter = segmenter_of(folder, None, placement.device)
    return replace(model, segmenter=segmenter, files=(*model.files, *files_of([folder])))


def read_regional(parts: Parts, files: Mapping[str, Path]) -> dict[str, Lora]:
    """LoRAs by the names that regions call them by; they are not fused."""
    if not files:
        return {}
    from cloisonne.models.checkpoints.lora.fuse import read_lora

    return {Named(name=name).name: read_lora(parts, file) for name, file in files.items()}


def with_loras(model: Model, loras: Mapping[str, Lora], placement: Placement) -> Model:
    """The model whose network holds LoRAs beside its weights; nothing else may have been added to it after that."""
    net = model.net
    placed = {name: lora.to(placement.device, placement.dtype) for name, lora in loras.items()}
    held = DiffusersNet(net.unet, net.spec, net.text_attention, net.pictures, placed)
    warnings = (warning for lora in loras.values() for warning in lora.warnings)
    return replace(model, net=held, warnings=(*model.warnings, *warnings))
