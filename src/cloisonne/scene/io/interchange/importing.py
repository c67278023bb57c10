"""Imports a scene from a file of any format that is read, by its content."""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from cloisonne.errors import SceneError
from cloisonne.scene.io import elements
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.importers import from_coco, from_elements, from_gligen, from_mrgd
from cloisonne.scene.io.infotext import PARAMETERS
from cloisonne.scene.io.interchange import invokeai
from cloisonne.scene.io.interchange.automatic1111 import from_infotext
from cloisonne.scene.io.interchange.gligen import from_gligen_demo, is_gligen
from cloisonne.scene.io.interchange.infotext_reading import image_texts, is_infotext
from cloisonne.scene.io.interchange.instance_diffusion import from_instance_diffusion, is_instance_diffusion
from cloisonne.scene.io.interchange.layer_folder import from_layers
from cloisonne.scene.io.interchange.psd import SIGNATURE as PSD
from cloisonne.scene.io.interchange.psd import psd_scene
from cloisonne.scene.io.mrgd_layout import is_layout
from cloisonne.scene.io.png_record import KEY, SIGNATURE, read_record
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import brief, quoted

_Imported = tuple[Scene, tuple[str, ...]]
_JPEG, _WEBP = b"\xff\xd8\xff", b"RIFF"
_COMFYUI = ("prompt", "workflow")
_OLD_INVOKEAI = ("sd-metadata", "Dream")
_GLIGEN = ("gligen_phrases", "gligen_boxes")
FORMATS = (
    "a scene, a PNG, JPEG or text with AUTOMATIC1111's or InvokeAI's metadata, the JSON of COCO, GLIGEN, "
    "InstanceDiffusion, MRGD or ComfyUI's elements, a PSD, or a folder of PNG layers"
)


class _Given(NamedTuple):
    """What messages call the file, the folder of its paths, and the options of :func:`import_scene`."""

    name: str
    base: Path | None
    image_id: int | str | None
    mask: Any
    regions: bool


def import_scene(
    path: str | Path, *, image_id: int | str | None = None, mask: Any = None, regions: bool = True
) -> tuple[Scene, tuple[str, ...]]:
    """Read a scene from another tool's file, or a folder of layers. Its content decides on the format.

    Args:
        path: the file or folder.
        image_id: which image of COCO annotations; may be omitted if there is one.
        mask: the mask image of Regional Prompter's mask mode, for an infotext.
        regions: read the regions of an infotext's extensions; False reads its prompt alone.

    Returns:
        The scene, and a sentence for each part that was changed or is not carried.

    Raises:
        SceneError: the format is unknown, or the file malformed.
        ImageError: an image in it cannot be read.
        CapabilityError: the format needs a package that is not installed.
    """
    if Path(path).is_dir():
        return from_layers(path)
    given = _Given(quoted(path), Path(path).parent, image_id, mask, regions)
    return _import(wire.read(path), given)


def import_bytes(
    data: bytes, name: str, *, image_id: int | str | None = None, mask: Any = None, regions: bool = True
) -> tuple[Scene, tuple[str, ...]]:
    """Like :func:`import_scene`, of a file's bytes. Paths in it stay as they are. Messages call it ``name``."""
    return _import(data, _Given(quoted(name), None, image_id, mask, regions))


def is_image(data: bytes) -> bool:
    """Whether a file begins as PNG, JPEG or WebP do."""
    return data.startswith((SIGNATURE, _JPEG)) or (data.startswith(_WEBP) and data[8:12] == b"WEBP")


def has_foreign_scene(data: bytes) -> bool:
    """Whether an image has metadata of another tool that are read, and none of cloisonne. Raises ImageError."""
    texts = image_texts(data, "The image")
    return KEY not in texts and (invokeai.KEY in texts or PARAMETERS in texts)


def _import(data: bytes, given: _Given) -> _Imported:
    if data.startswith(PSD):
        return psd_scene(data, given.name)
    return _of_image(data, given) if is_image(data) else _of_text(data, given)


def _of_image(data: bytes, given: _Given) -> _Imported:
    texts = image_texts(data, given.name)
    if KEY in texts and data.startswith(SIGNATURE):
        return Scene.from_dict(read_record(data, given.name).scene, base=given.base), ()
    if invokeai.KEY in texts:
        return invokeai.from_invokeai(_json(texts[invokeai.KEY], given), _size(data))
    if PARAMETERS in texts:
        return from_infotext(texts[PARAMETERS], mask=given.mask, regions=given.regions)
    if any(key in texts for key in _COMFYUI):
        raise SceneError(
            f"{given.name} has a graph of ComfyUI, which does not say what its regions are; save them in ComfyUI as "
            "elements, by the node that makes the boxes."
        )
    if any(key in texts for key in _OLD_INVOKEAI):
        raise SceneError(f"{given.name} is of InvokeAI before version 3; its metadata is not read.")
    raise SceneError(f"{given.name} has no metadata that is read; the image may have been saved without it.")


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _of_text(data: bytes, given: _Given) -> _Imported:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SceneError(f"{given.name} is of no format that is read; give {FORMATS}.") from None
    if text.lstrip().startswith(("{", "[")) and not is_infotext(text):
        return _of_json(_json(text, given), given)
    if not is_infotext(text):
        raise SceneError(
            f"{given.name} has neither the settings nor the negative prompt of an infotext; give {FORMATS}."
        )
    return from_infotext(text, mask=given.mask, regions=given.regions)


def _json(text: str, given: _Given) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"The JSON in {given.name} cannot be read ({error}); correct it there.") from None


def _of_json(data: Any, given: _Given) -> _Imported:
    if isinstance(data, list):
        return from_elements(data)
    known: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    readers: list[tuple[bool, Callable[[], _Imported]]] = [
        (elements.is_elements(known), lambda: from_elements(known)),
        (is_layout(known), lambda: from_mrgd(known)),
        ("images" in known and "annotations" in known, lambda: from_coco(known, given.image_id)),
        (is_instance_diffusion(known), lambda: from_instance_diffusion(known)),
        (is_gligen(known), lambda: _based(from_gligen_demo(known), given.base)),
        (all(name in known for name in _GLIGEN), lambda: _gligen(known)),
        (invokeai.CANVAS in known or "positive_prompt" in known, lambda: invokeai.from_invokeai(known)),
        (_is_scene(known), lambda: (Scene.from_dict(known, base=given.base), ())),
    ]
    for fits, read in readers:
        if fits:
            return read()
    fields = ", ".join(map(brief, list(known)[:5])) or brief(data)
    raise SceneError(f"The JSON in {given.name} is of no format that is read (it has {fields}); give {FORMATS}.")


def _is_scene(data: Mapping[str, Any]) -> bool:
    return "version" in data or any(name in Scene.model_fields for name in data)


def _gligen(data: Mapping[str, Any]) -> _Imported:
    return from_gligen(data["gligen_phrases"], data["gligen_boxes"], data.get("prompt", ""))


def _based(found: _Imported, base: Path | None) -> _Imported:
    """The same scene with its paths relative to the file's folder."""
    scene, warnings = found
    return Scene.from_dict(scene.to_dict(), base=base), warnings
