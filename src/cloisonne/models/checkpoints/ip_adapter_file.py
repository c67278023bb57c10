"""Read a published IP-Adapter's file and its image encoder into a model (arXiv 2308.06721).

``image_proj.*`` projects CLIP's image embedding to tokens; diffusers' converter reads it. ``ip_adapter.<n>.to_k_ip``
and ``to_v_ip`` project tokens to keys and values of the n-th attention layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from cloisonne.errors import CheckpointError, spelled
from cloisonne.models.adapters.ip_adapter import IpAdapter
from cloisonne.models.checkpoints.assemble import Placement, put
from cloisonne.models.checkpoints.files import check_weights, files_of, pretrained, read, read_json, variant_notes
from cloisonne.models.checkpoints.network_config import check_vision
from cloisonne.models.checkpoints.pickles import PICKLES
from cloisonne.models.checkpoints.tensor_file import TensorFile
from cloisonne.models.model import Model
from cloisonne.models.unet.denoiser import ImagePromptWeights, UNetDenoiser, unet_of
from cloisonne.models.unet.sites import layer_of

LAYERS = "ip_adapter."
"""Prefix of the layers' tensors."""


@dataclass(frozen=True, eq=False)
class ReadIpAdapter:
    """An IP-Adapter read for a model: its layers' weights, its image encoder, its files, and warnings about them."""

    weights: Mapping[str, ImagePromptWeights]
    adapter: IpAdapter
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def read_ip_adapter(model: Model, file: Path, image_encoder: Path | None, placement: Placement) -> ReadIpAdapter:
    """Read an IP-Adapter; the model does not change.

    image_encoder: a folder; None looks for one next to the file. Raises CheckpointError where the file is no
    IP-Adapter, has an unsupported layout, or does not fit the model.
    """
    opened = _opened(file)
    projection, layers = _split(opened)
    _check_known(projection, layers, file)
    weights = _by_layer(layers, opened, model)
    unet: Any = unet_of(model.net, f'The IP-Adapter "{file}"').unet
    projector = read(file, lambda _: _projector(unet, projection, file, model))
    folder = _encoder_folder(projection, file, image_encoder)
    vision, warn = _vision(folder, placement.dtype)
    put([vision, projector], placement)
    # With offloading they stay in the CPU's memory like the networks; a layer uses them once a run.
    device = torch.device("cpu") if placement.offload else placement.device
    placed = {name: (k.to(device, placement.dtype), v.to(device, placement.dtype)) for name, (k, v) in weights.items()}
    return ReadIpAdapter(
        placed,
        IpAdapter(vision, projector, placement.device, placed),
        (file, *files_of([folder])),
        (*opened.settle("IP-Adapter"), *warn),
    )


def with_ip_adapter(model: Model, found: ReadIpAdapter) -> Model:
    """Add an IP-Adapter to the model, in place of any other exemplar model."""
    net = unet_of(model.net, "An IP-Adapter")
    return replace(
        model,
        net=UNetDenoiser(net.unet, model.spec, net.text_attention, found.weights),
        exemplar=None,
        ip_adapter=found.adapter,
        files=(*model.files, *found.files),
        warnings=(*model.warnings, *found.warnings),
    )


def _vision(folder: Path, dtype: torch.dtype) -> tuple[CLIPVisionModelWithProjection, list[str]]:
    """The image encoder of a folder, and warnings about what in it is not used."""
    taken = check_weights(folder, "model")
    check_vision(folder / "config.json", read_json(folder / "config.json"), CLIPVisionConfig)
    warn = list(variant_notes(folder.name, {"the image encoder": taken})[1])
    theirs = {"dtype": dtype, "variant": taken}
    return read(folder, lambda path: pretrained(CLIPVisionModelWithProjection, path, warn=warn, **theirs)), warn


def _opened(file: Path) -> TensorFile:
    if not file.is_file():
        raise CheckpointError(f'There is no IP-Adapter "{file}"; check its path.')
    if file.suffix in PICKLES:
        out = file.with_suffix(".safetensors")
        raise CheckpointError(
            f'"{file}" is a pickle, which can run code when it is read; convert it once with '
            f'"cloisonne convert {file} {out}".'
        )
    return TensorFile.open(file)


def _split(opened: TensorFile) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the projection, all of which are used, and of the layers, without their prefixes."""
    projection, layers = opened.take_prefix("image_proj."), opened.within(LAYERS)
    if not projection or not layers:
        raise CheckpointError(
            f'"{opened.source}" is no IP-Adapter: it lacks tensors named image_proj and ip_adapter; give one, such as '
            "ip-adapter_sd15.safetensors, or a folder of Paint by Example."
        )
    return projection, layers


def _check_known(projection: Mapping[str, Tensor], layers: Mapping[str, Tensor], file: Path) -> None:
    """Refuse FaceID adapters, which encode faces by another network than CLIP."""
    faces = any(name.startswith("perceiver_resampler.") for name in projection)
    own = "proj.0.weight" in projection and "proj.3.weight" not in projection
    if faces or own or any("_lora." in name for name in layers):
        raise CheckpointError(
            f'"{file}" is an IP-Adapter FaceID{" Plus" if faces else ""}, which takes the embedding of a face and is '
            "not supported; give a plain, Plus or Full Face one."
        )


def _by_layer(layers: Mapping[str, Tensor], opened: TensorFile, model: Model) -> dict[str, ImagePromptWeights]:
    """The weights by the network's cross-attention layers.

    Published files number all of a UNet's attention layers in diffusers' order; cross-attention layers are odd.
    """
    file = opened.source
    unet: Any = unet_of(model.net, f'The IP-Adapter "{file}"').unet
    crossing = [layer_of(name) for name in unet.attn_processors if name.endswith("attn2.processor")]
    found = sorted({int(name.split(".")[0]) for name in layers if name.split(".")[0].isdigit()})
    if len(found) != len(crossing):
        raise CheckpointError(
            f'"{file}" is for another model family than "{model.name}": it has {len(found)} layers and the network '
            f"{len(crossing)} of cross-attention; give an IP-Adapter trained for this family."
        )
    out = {}
    for number, layer in enumerate(crossing):
        names = [f"{2 * number + 1}.to_{kind}_ip.weight" for kind in ("k", "v")]
        if missing := [name for name in names if name not in layers]:
            raise CheckpointError(f'"{file}" lacks the tensor "ip_adapter.{missing[0]}"; download it again.')
        wanted = unet.get_submodule(layer).to_k.weight.shape
        if any(layers[name].shape != wanted for name in names):
            raise CheckpointError(
                f'"{file}" is for another model family than "{model.name}": ip_adapter.{names[0]} is '
                f"{list(layers[names[0]].shape)} and the network's layer {list(wanted)}; give an IP-Adapter trained "
                "for this family."
            )
        keys, values = (opened.take(f"{LAYERS}{name}") for name in names)
        out[layer] = (keys, values)
    return out


def _projector(unet: Any, projection: Mapping[str, Tensor], file: Path, model: Model) -> nn.Module:
    """diffusers' projection module, for any layout but FaceID."""
    projector = unet._convert_ip_adapter_image_proj_to_diffusers(dict(projection), low_cpu_mem_usage=False)
    norm = getattr(projector, "norm", None) or projector.norm_out
    if norm.weight.shape[0] != model.spec.token_width:
        raise CheckpointError(
            f'"{file}" is for another model family than "{model.name}": it makes tokens of width '
            f"{norm.weight.shape[0]} and the network takes {model.spec.token_width}; give an IP-Adapter trained for "
            "this family."
        )
    return projector


def _encoder_folder(projection: Mapping[str, Tensor], file: Path, given: Path | None) -> Path:
    """The folder of the image tower that the projection was trained on.

    The default folders are h94/IP-Adapter's: next to the file and, for ``sdxl_models/*_vit-h``, in ``models``.
    """
    defaults = (file.parent / "image_encoder", file.parent.parent / "models" / "image_encoder")
    folders = [given] if given else [folder for folder in defaults if (folder / "config.json").is_file()]
    if not folders:
        raise CheckpointError(
            f'No image encoder for "{file}" was found in "{defaults[0]}" or "{defaults[1]}"; '
            f"put the folder there, or name it: {_option()}."
        )
    field, width = _input_width(projection)
    widths = [read_json(folder / "config.json").get(field) for folder in folders]
    if width not in widths:
        raise CheckpointError(
            f'The image encoder "{folders[0]}" has a {field} of {widths[0]} and "{file}" reads {width}; give the one '
            f"it was trained on: {_option()}."
        )
    return folders[widths.index(width)]


def _option() -> str:
    return spelled("load(..., image_encoder=FOLDER)", "--image-encoder FOLDER")


def _input_width(projection: Mapping[str, Tensor]) -> tuple[str, int]:
    """The width that a projection takes, with its field in the image tower's config.json."""
    if "proj.weight" in projection:
        return "projection_dim", projection["proj.weight"].shape[1]
    layer = projection.get("proj.0.weight", projection.get("proj_in.weight"))
    return "hidden_size", 0 if layer is None else layer.shape[1]
