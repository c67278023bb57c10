"""Add-ons of a loaded model: control adapters, exemplar networks, a segmenter and LoRAs by region."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cloisonne.errors import CapabilityError, CheckpointError
from cloisonne.models.adapters.paint_by_example import ExemplarEngine
from cloisonne.models.checkpoints.assemble import Placement
from cloisonne.models.checkpoints.files import files_of
from cloisonne.models.checkpoints.load_options import is_exemplar_folder, named
from cloisonne.models.checkpoints.paint_by_example_folder import engine_of, read_exemplar_folder
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.sources import check_kinds, is_ip_adapter
from cloisonne.models.denoiser import Denoiser
from cloisonne.models.family_members import read_family_members, segmenter_of, with_family_members
from cloisonne.models.mmdit.denoiser import JointDenoiser
from cloisonne.models.model import Model
from cloisonne.models.model_spec import ModelSpec
from cloisonne.models.options import Resampling
from cloisonne.models.unet.denoiser import UNetDenoiser, unet_of
from cloisonne.models.unet.region_lora import Lora
from cloisonne.scene.conditions.lora import Lora as Named

if TYPE_CHECKING:
    # Imported where they are used, because most models have none.
    from cloisonne.models.adapters.block_controlnet import BlockControlNet
    from cloisonne.models.adapters.controlnet import ControlNet
    from cloisonne.models.adapters.t2i_adapter import Adapter

T = TypeVar("T")


class Readings:
    """Add-ons that were read from files, by kind and path. Models that have an add-on in common share its networks.

    earlier: those of the model that another one is made from. used: those of this model.
    """

    def __init__(self, earlier: Mapping[Hashable, Any]) -> None:
        self._earlier = earlier
        self.used: dict[Hashable, Any] = {}

    def of(self, read: Callable[[], T], *key: Hashable) -> T:
        """The add-on of this key, read where the earlier model has none."""
        whole = tuple(part.absolute() if isinstance(part, Path) else part for part in key)
        if whole not in self.used:
            self.used[whole] = self._earlier[whole] if whole in self._earlier else read()
        return self.used[whole]


def with_add_ons(model: Model, spec: ModelSpec, parts: Parts, placement: Placement, readings: Readings) -> Model:
    """Add everything that the spec names and that is not in the parts already."""
    if spec.exemplar is not None:
        model = with_exemplars(model, spec.exemplar, spec.image_encoder, placement, readings)
    if spec.adapters:
        model = with_adapters(model, spec.adapters, placement, readings)
    if spec.fuser is not None:
        model = with_fuser(model, spec.fuser, placement, readings)
    if spec.segmenter is not None:
        model = with_segmenter(model, spec.segmenter, placement, readings)
    if spec.regional_lora:
        model = with_regional_loras(model, parts, spec.regional_lora, placement, readings)
    return with_mask_resampling(model, spec.mask_resampling)


def with_members_of(
    family: Path, model: Model, fused: tuple[tuple[str, float], ...], placement: Placement, readings: Readings
) -> Model:
    """Add the further members of the source's folder.

    fused: the LoRAs in the UNet's weights, from which the exemplar network's follow.
    """
    key = ("family members", family, fused)
    return with_family_members(model, readings.of(lambda: read_family_members(model, family, placement), *key))


def with_adapters(model: Model, adapters: Mapping[str, str], placement: Placement, readings: Readings) -> Model:
    """Add T2I-Adapters or ControlNets, by kind of control."""
    from cloisonne.models.adapters.block_controlnet import BlockControlNet
    from cloisonne.models.adapters.controlnet import ControlNet

    check_kinds(adapters)
    t2i, controlnets = dict(model.adapters), dict(model.controlnets)
    files, warnings = [*model.files], [*model.warnings]
    for kind, source in adapters.items():
        path = Path(source).expanduser()
        if isinstance(model.net, UNetDenoiser):
            read = partial(_control, model, kind, path, placement)
            found = readings.of(read, "adapter", kind, path)
        else:
            found = _block_control(model, kind, path, placement, readings)
        t2i.pop(kind, None)
        controlnets.pop(kind, None)
        if isinstance(found, ControlNet | BlockControlNet):
            controlnets[kind] = found
        else:
            t2i[kind] = found
        files += files_of([path]) if path.is_dir() else [path]
        warnings += found.warnings
    return replace(model, adapters=t2i, controlnets=controlnets, files=tuple(files), warnings=tuple(warnings))


def _control(model: Model, kind: str, path: Path, placement: Placement) -> "Adapter | ControlNet":
    """The T2I-Adapter or ControlNet of a path. Raises CheckpointError where it does not fit the model."""
    from cloisonne.models.adapters.controlnet import check_controlnet, is_controlnet, read_controlnet
    from cloisonne.models.adapters.t2i_adapter import check_adapter, read_adapter

    unet: Any = unet_of(model.net, f"An adapter for {kind}").unet
    if is_controlnet(path):
        controlnet = read_controlnet(path, unet, placement.dtype, placement.device)
        check_controlnet(controlnet, kind, unet.config, model.vae.factor, model.name)
        return controlnet
    adapter = read_adapter(path, placement.dtype, placement.device)
    check_adapter(adapter, kind, unet.config, model.name)
    return adapter


def _block_control(model: Model, kind: str, path: Path, placement: Placement, readings: Readings) -> "BlockControlNet":
    """The ControlNet of a transformer; kinds of one union share its network. Raises as :func:`bound`."""
    from cloisonne.models.adapters.block_controlnets import bound, read_block_controlnet

    network: Any = model.net.modules[0]
    read = partial(read_block_controlnet, path, model.family, network.config, placement.dtype, placement.device)
    net = bound(readings.of(read, "ControlNet", path), model, kind)
    if placement.offload and net.shares_layers:
        raise CapabilityError(
            f"The ControlNet for {kind} takes layers of the model's own network, which is not on the device while the "
            "ControlNet runs; load the model without offloading."
        )
    return net


def with_fuser(model: Model, source: str, placement: Placement, readings: Readings) -> Model:
    """Add a CoAdapter's fuser, which combines the model's T2I-Adapters."""
    from cloisonne.models.adapters.coadapter import check_fuser, read_fuser

    file = Path(source).expanduser()
    unet: Any = unet_of(model.net, f'The fuser "{file}"').unet.config
    if not model.adapters:
        raise CapabilityError(
            f'The fuser "{file}" combines T2I-Adapters, and "{model.name}" has none; give them as {named("adapters")}.'
        )
    fuser = readings.of(lambda: read_fuser(file, placement.device), "fuser", file)
    check_fuser(fuser, tuple(model.adapters), unet["block_out_channels"], model.name)
    return replace(model, fuser=fuser, files=(*model.files, file), warnings=(*model.warnings, *fuser.warnings))


@dataclass(frozen=True, eq=False)
class _ReadExemplarFolder:
    """Paint by Example's network, its files, and notes and warnings about them."""

    engine: ExemplarEngine
    files: tuple[Path, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def with_exemplars(
    model: Model, source: str, image_encoder: str | None, placement: Placement, readings: Readings
) -> Model:
    """Add a second network for exemplars (Paint by Example), or an IP-Adapter to the model's own network.

    image_encoder: the IP-Adapter's folder of it; None means next to the IP-Adapter's file, as published.
    """
    path = Path(source).expanduser()
    if is_ip_adapter(path):
        from cloisonne.models.checkpoints.ip_adapter_file import read_ip_adapter, with_ip_adapter

        encoder = None if image_encoder is None else Path(image_encoder).expanduser()
        read = readings.of(lambda: read_ip_adapter(model, path, encoder, placement), "IP-Adapter", path, encoder)
        return with_ip_adapter(model, read)
    found = readings.of(lambda: _exemplar_folder(model, path, placement), "exemplar", path)
    return replace(
        model,
        exemplar=found.engine,
        files=(*model.files, *found.files),
        notes=(*model.notes, *found.notes),
        warnings=(*model.warnings, *found.warnings),
    )


def _exemplar_folder(model: Model, folder: Path, placement: Placement) -> _ReadExemplarFolder:
    """Read a folder of Paint by Example. Raises CheckpointError where it cannot share the model's canvas."""
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
    return _ReadExemplarFolder(engine, parts.files, parts.notes, parts.warnings)


def with_segmenter(model: Model, source: str, placement: Placement, readings: Readings) -> Model:
    """Add CLIPSeg, which is read at its first use."""
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise CheckpointError(f'"{folder}" is no folder of CLIPSeg; give one with config.json, weights and tokenizer.')
    segmenter = readings.of(lambda: segmenter_of(folder, None, placement.device), "segmenter", folder)
    return replace(model, segmenter=segmenter, files=(*model.files, *files_of([folder])))


def with_regional_loras(
    model: Model, parts: Parts, files: Mapping[str, str], placement: Placement, readings: Readings
) -> Model:
    """Add unfused LoRAs, by the names that regions use for them. Call it last: other add-ons replace the network."""
    from cloisonne.models.checkpoints.lora.fuse import read_lora

    def placed(file: Path) -> Lora:
        return read_lora(parts, file).to(placement.device, placement.dtype)

    paths = {Named(name=name).name: Path(file).expanduser() for name, file in files.items()}
    loras = {name: readings.of(lambda file=file: placed(file), "regional LoRA", file) for name, file in paths.items()}
    if isinstance(model.net, JointDenoiser):
        extended: Denoiser = model.net.with_loras(loras)
    else:
        net = unet_of(model.net, f'The LoRA "{next(iter(loras), "")}" by region')
        extended = UNetDenoiser(net.unet, net.spec, net.text_attention, net.image_prompts, loras)
    warnings = (warning for lora in loras.values() for warning in lora.warnings)
    return replace(model, net=extended, warnings=(*model.warnings, *warnings))


def with_mask_resampling(model: Model, resampling: Resampling) -> Model:
    """The model, its exemplar masks resized by this method.

    Raises CapabilityError for a model without Paint by Example's network.
    """
    if resampling == "bilinear":
        return model
    if model.exemplar is None:
        raise CapabilityError(
            f'mask_resampling is "{resampling}", which applies to Paint by Example, and "{model.name}" has no '
            "such network; leave it out."
        )
    engine = replace(model.exemplar, mask_resampling=resampling)
    return replace(model, exemplar=engine, options=(*model.options, f"mask resampling {resampling}"))
