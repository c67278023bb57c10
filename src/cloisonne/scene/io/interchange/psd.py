"""Imports the layers of a Photoshop file (PSD, PSB) as regions, by psd-tools.

A layer's name is the phrase; its opacity, its mask and the masks of its groups are the region's mask. Layers above hide
those below. A layer's opacity is the region's weight, and a hidden layer has weight 0.
"""

import importlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.errors import CapabilityError, CloisonneError, ImageError, SceneError
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import MAX_PIXELS
from cloisonne.scene.io.interchange.imported_values import Report, canvas_size, literal, region_name
from cloisonne.scene.io.interchange.layer_folder import BACKGROUND
from cloisonne.scene.io.interchange.pixels import placed
from cloisonne.scene.io.quiet import without_warnings
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.masks import Mask
from cloisonne.scene.values import quoted

SIGNATURE = b"8BPS"
_MAX_LAYER_BYTES = 2 * 2**30
_FILLS = ("solidcolorfill", "gradientfill", "patternfill")
"""Kinds of layers without pixels that fill what their mask leaves."""


@dataclass(frozen=True)
class _Group:
    """What a layer has from its groups: titles, visibility, opacity in [0, 1] and mask [H, W], None if all 1."""

    titles: tuple[str, ...] = ()
    visible: bool = True
    opacity: float = 1.0
    mask: Mask | None = None


def from_psd(path: str | Path) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from a Photoshop file. Masks are embedded.

    Raises:
        CapabilityError: psd-tools is not installed.
        ImageError: the file cannot be read.
        SceneError: no layer is a region.
    """
    return psd_scene(ImageRef(path=Path(path)).read(), quoted(path))


def psd_scene(data: bytes, name: str) -> tuple[Scene, tuple[str, ...]]:
    """Like :func:`from_psd`, of the bytes of a file that messages call ``name``."""
    try:
        library: Any = importlib.import_module("psd_tools")
    except ImportError:
        raise CapabilityError(
            'Reading PSD files needs psd-tools, which is not installed; run pip install "cloisonne[psd]".'
        ) from None
    notes: list[str] = []
    size, regions = _read(library, data, name, notes.append)
    if not regions:
        raise SceneError(f"{name} has no layer that is a region; {' '.join(notes) or 'add layers.'}")
    fields = canvas_size(*size, notes.append)
    return Scene(**fields, overlap="priority", regions=regions), tuple(notes)


def _read(library: Any, data: bytes, name: str, report: Report) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """The size of a document and the regions of its layers."""
    try:
        with without_warnings():
            # A channel that cannot be decoded would be read as black.
            warnings.simplefilter("error", library.PSDDecompressionWarning)
            document = library.PSDImage.open(io.BytesIO(data), max_alloc_bytes=_MAX_LAYER_BYTES)
            size = (int(document.width), int(document.height))
            if size[0] * size[1] > MAX_PIXELS:
                raise ImageError(f"{name} has {size[0]} x {size[1]} pixels; shrink it.")
            return size, list(_regions(document, size, report))
    except CloisonneError:
        raise
    # The reader raises all kinds of exceptions for damaged files.
    except Exception as error:
        raise ImageError(f"{name} cannot be read as a PSD ({error}); save it again from its original.") from None


def _regions(document: Any, size: tuple[int, int], report: Report) -> Iterator[dict[str, Any]]:
    taken: list[str] = []
    for layer, group, clip in _layers(document, _Group(), size):
        name = region_name("/".join((*group.titles, layer.name)), taken)
        alpha = _alpha(layer, size)
        if alpha is None:
            report(f'The layer "{name}" ({layer.kind}) has no pixels and was left out.')
            continue
        for factor in (group.mask, clip):
            alpha = alpha if factor is None else alpha * factor
        if layer.name.lower().startswith(BACKGROUND) and alpha.min() == 1:
            report(f'The layer "{name}" is opaque everywhere and was left out; a region needs another name.')
            continue
        if not alpha.any():
            report(f'The layer "{name}" is empty and was left out.')
            continue
        taken.append(name)
        if layer.kind == "pixel" and layer.has_vector_mask() and not (layer.mask and layer.mask.has_real()):
            report(f'Region "{name}": its vector mask was not carried.')
        weight = round(group.opacity * layer.opacity / 255, 3)
        visible = group.visible and layer.visible
        if not visible:
            report(f'Region "{name}" is hidden in the file; its weight is 0.')
        elif weight != 1:
            report(f'Region "{name}": its opacity became its weight, {weight:g}.')
        mask = np.rint(alpha * 255).astype(np.uint8)
        yield {
            "name": name,
            "mask": mask,
            "mask_channel": "luminance",
            "phrase": literal(" ".join(layer.name.split())),
            "priority": len(taken) - 1,
            "weight": weight if visible else 0.0,
        }


def _layers(parent: Any, group: _Group, size: tuple[int, int]) -> Iterator[tuple[Any, _Group, Mask | None]]:
    """The layers in a group and its groups from back to front: each with its groups, and the mask that clips it."""
    base: Mask | None = None
    for layer in parent:
        clip = base if layer.clipping else None
        if layer.is_group():
            own = _layer_mask(layer, size)
            masks = [mask for mask in (group.mask, own, clip) if mask is not None]
            inner = replace(
                group,
                titles=(*group.titles, layer.name),
                visible=group.visible and layer.visible,
                opacity=group.opacity * layer.opacity / 255,
                mask=np.prod(masks, axis=0) if masks else None,
            )
            yield from _layers(layer, inner, size)
        else:
            yield layer, group, clip
        if not layer.clipping:
            base = None if layer.is_group() else _alpha(layer, size)


def _alpha(layer: Any, size: tuple[int, int]) -> Mask | None:
    """The alpha [H, W] of a layer with its own mask, on the canvas; None if it has neither pixels nor a fill."""
    own = _layer_mask(layer, size)
    if layer.has_pixels():
        shape = layer.numpy("shape")
        values = np.ones((layer.height, layer.width), np.float32) if shape is None else shape[..., 0]
        alpha = placed(values, (layer.left, layer.top), size, 0.0)
    elif layer.kind in _FILLS:
        alpha = np.ones((size[1], size[0]), np.float32)
    else:
        return None
    return alpha if own is None else alpha * own


def _layer_mask(layer: Any, size: tuple[int, int]) -> Mask | None:
    """The mask [H, W] of a layer or group; None if it has none, or it is disabled."""
    mask = layer.mask
    if mask is None or mask.disabled:
        return None
    values, outside = layer.numpy("mask"), mask.background_color / 255
    if values is None:
        return np.full((size[1], size[0]), outside, np.float32)
    return placed(values[..., 0], (mask.left, mask.top), size, outside)
