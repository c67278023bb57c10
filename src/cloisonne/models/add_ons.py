"""Add-ons of a loaded model: control adapters, exemplar networks, a segmenter and LoRAs by region."""

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
from cloisonne.models.unet.denoiser import UNetDenoiser, unet_of
from cloisonne.models.unet.region_lora import Lora
from cloisonne.scene.conditions.lora import Lora as Named


def with_adapters(model: Model, adapters: Mapping[str, str | Path], placement: Placement) -> Model:
    """Add T2I-Adapters or ControlNets, by kind of control."""
    from cloisonne.models.adapters.controlnet import check_controlnet, is_controlnet, read_controlnet
    from cloisonne.models.adapters.t2i_adapter import check_adapter, read_adapter

    t2i, controlnets, files = dict(model.adapters), dict(model.controlnets), []
    base = unet_of(model.net, f"An adapter for {next(iter(adapters), 'controls')}").unet
    unet: Any = base.config
    check_kinds(adapters)
    for kind, source in adapters.items():
        path = Path(source).expanduser()
        t2i.pop(kind, None)
        controlnets.pop(kind, None)
        if is_controlnet(path):
            controlnets[kind] = read_controlnet(path, base, placement.dtype, placement.device)
            check_controlnet(controlnets[kind], kind, unet, model.vae.factor, model.name)
        else:
            t2i[kind] = read_adapter(path, placement.dtype, placement.device)
            check_adapter(t2i[kind], kind, unet, model.name)
        files += files_of([path]) if path.is_dir() else [path]
    added = [t2i[kind] if kind in t2i else controlnets[kind] for kind in adapters]
    warnings = (*model.warnings, *(warning for one in added for warning in one.warnings))
    return replace(model, adapters=t2i, controlnets=controlnets, files=(*model.files, *files), warnings=warnings)


def with_fuser(model: Model, source: str | Path, placement: Placement) -> Model:
    """Add a CoAdapter's fuser, which combines the model's T2I-Adapters."""
    from cloisonne.models.adapters.coadapter import check_fuser, read_fuser

    file = Path(source).expanduser()
    unet: Any = unet_of(model.net, f'The fuser "{file}"').unet.config
    if not model.adapters:
        raise CapabilityError(
            f'The fuser "{file}" combines T2I-Adapters, and "{model.name}" has none; give them as {named("adapters")}.'
        )
    fuser = read_fuser(file, placement.device)
    check_fuser(fuser, tuple(model.adapters), unet["block_out_channels"], model.name)
    return replace(model, fuser=fuser, files=(*model.files, file), warnings=(*model.warnings, *fuser.warnings))


def with_exemplars(model: Model, source: str | Path, image_encoder: str | Path | None, placement: Placement) -> Model:
    """Add a second network for exemplars (Paint by Example), or an IP-Adapter to the model's own network.

    image_encoder: the IP-Adapter's folder of it; None means next to the IP-Adapter's file, as published.
    """
    folder = Path(source).expanduser()
    from cloisonne.models.checkpoints.ip_adapter_file import with_ip_adapter

    if is_ip_adapter(folder):
        encoder_folder = None if image_encoder is None else Path(image_encoder).expanduser()
        return with_ip_adapter(model, folder, encoder_folder, placement)
    if not is_exemplar_folder(folder):
        raise CheckpointError(
            f'"{folder}" is no folder of Paint by Example; give one with an image_encoder, or the .safetensors file of '
            "an IP-Adapter."
        )
    parts = read_exemplar_folder(folder, placement.dtype)
    engine = engine_of(parts, placement)
    ours, theirs = model.spec.latent, engine.net.spec.latent
    if ours != theirs:
        raise CheckpointError(
            f'"{folder}" has another latent space ({theirs}) than "{model.name}" ({ours}), so they cannot share a '
            "canvas; load two models of one family, such as Stable Diffusion 1.x."
        )
    return replace(
        model,
        exemplar=engine,
        files=(*model.files, *parts.files),
        notes=(*model.notes, *parts.notes),
        warnings=(*model.warnings, *parts.warnings),
    )


def with_segmenter(model: Model, source: str | Path, placement: Placement) -> Model:
    """Add CLIPSeg, which is read at its first use."""
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(f'"{folder}" is no folder of CLIPSeg; give one with config.json, weights and tokenizer.')
    segmenter = segmenter_of(folder, None, placement.device)
    return replace(model, segmenter=segmenter, files=(*model.files, *files_of([folder])))


def read_regional(parts: Parts, files: Mapping[str, Path]) -> dict[str, Lora]:
    """Read LoRAs by the names that regions use for them, without fusing them."""
    if not files:
        return {}
    from cloisonne.models.checkpoints.lora.fuse import read_lora

    return {Named(name=name).name: read_lora(parts, file) for name, file in files.items()}


def with_loras(model: Model, loras: Mapping[str, Lora], placement: Placement) -> Model:
    """Add unfused LoRAs to the model's network. Call it last: other add-ons replace the network."""
    net = unet_of(model.net, f'The LoRA "{next(iter(loras), "")}" by region')
    placed = {name: lora.to(placement.device, placement.dtype) for name, lora in loras.items()}
    extended = UNetDenoiser(net.unet, net.spec, net.text_attention, net.image_prompts, placed)
    warnings = (warning for lora in loras.values() for warning in lora.warnings)
    return replace(model, net=extended, warnings=(*model.warnings, *warnings))
