"""Imports a folder of PNG layers, as Krita, GIMP and Photoshop export them: one file a region.

The name of a file is the region's phrase, its alpha channel the mask; a layer without one is white on black. Numbers at
the start of all names, as in "01 a red hat.png", give the order from back to front. A scene in ``scene.json``, with the
files as masks of its regions, has the caption, the settings and everything else; files that it does not name are
further regions.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cloisonne.errors import SceneError
from cloisonne.scene.io.embedded import references
from cloisonne.scene.io.image_ref import ImageRef
from cloisonne.scene.io.images import opened
from cloisonne.scene.io.interchange.imported_values import Report, canvas_size, literal, region_name
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.shapes.mask_reading import Channel, read_mask
from cloisonne.scene.values import quoted

SCENE = "scene.json"
BACKGROUND = "background"
"""Start of the name of a layer that, opaque everywhere, is no region."""
_NUMBERED = re.compile(r"(\d{1,6})[ _.-]+(?=\S)")


class _Layer(NamedTuple):
    """path: the file. number: its place from the back, or None. phrase: its name without the number."""

    path: Path
    number: int | None
    phrase: str

    @classmethod
    def of(cls, path: Path) -> "_Layer":
        found = _NUMBERED.match(path.stem)
        title = path.stem[found.end() :] if found else path.stem
        return cls(path, int(found[1]) if found else None, " ".join(title.replace("_", " ").split()))


def from_layers(folder: str | Path) -> tuple[Scene, tuple[str, ...]]:
    """Make a scene from a folder of PNG layers; those in its folders too.

    Masks are references to the files.

    Raises:
        SceneError: there is no folder or no layer, or the layers differ in size.
        ImageError: a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SceneError(f"{quoted(folder)} is no folder; give a folder of PNG layers.")
    scene = Scene.load(folder / SCENE) if (folder / SCENE).is_file() else None
    layers = _layers(folder, scene)
    if scene is None and not layers:
        raise SceneError(f"There is no PNG in {quoted(folder)}; export one for each layer.")
    for region in scene.regions if scene else ():
        if region.mask is not None:
            region.read_mask()
    warnings: list[str] = []
    size = _common_size(layers)
    ordered = bool(layers) and all(one.number is not None for one in layers)
    regions = list(scene.regions if scene else ())
    for layer in sorted(layers, key=lambda one: one.number or 0) if ordered else layers:
        title = layer.path.relative_to(folder).with_name(layer.phrase).as_posix()
        name = region_name(title, [str(one.name) for one in regions])
        region = _region(layer, name, warnings.append)
        if region is not None:
            regions.append(region.replace(priority=layer.number) if ordered else region)
    if scene is not None:
        return scene.replace(regions=regions), tuple(warnings)
    assert size is not None, "there are layers"
    fields = canvas_size(*size, warnings.append) | ({"overlap": "priority"} if ordered else {})
    return Scene(**fields, regions=regions), tuple(warnings)


def _layers(folder: Path, scene: Scene | None) -> list[_Layer]:
    """The PNG files of a folder that its scene does not name, by their names."""
    values = [value for *_, value in references(scene)] if scene else []
    named = {value.path.resolve() for value in values if isinstance(value, ImageRef) and value.path is not None}
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png" and path.is_file())
    return [_Layer.of(path) for path in files if path.resolve() not in named and not path.name.startswith(".")]


def _common_size(layers: list[_Layer]) -> tuple[int, int] | None:
    """The size of all layers; None if there are none. Raises SceneError if they differ."""
    sizes = {layer.path: opened(ImageRef(path=layer.path), "layer").size for layer in layers}
    if len(set(sizes.values())) > 1:
        first, *others = sizes.items()
        path, size = next(one for one in others if one[1] != first[1])
        other = f"{quoted(first[0])} has {first[1][0]} x {first[1][1]}"
        raise SceneError(
            f"{quoted(path)} has {size[0]} x {size[1]} pixels, but {other}; "
            "export all layers at the size of the whole image."
        )
    return next(iter(sizes.values()), None)


def _region(layer: _Layer, name: str, report: Report) -> Region | None:
    """The region of a layer; None, with a sentence, where it is empty or the image's background."""
    picture = ImageRef(path=layer.path)
    image = opened(picture, "layer")
    clear = "A" in image.getbands() or "transparency" in image.info
    alpha = np.asarray(image.convert("RGBA"))[..., 3] if clear else None
    opaque = alpha is None or alpha.min() == 255
    if opaque and layer.phrase.lower().startswith(BACKGROUND):
        report(f'The layer "{name}" is opaque everywhere and was left out; a region needs another name.')
        return None
    channel: Channel = "auto" if opaque else "alpha"
    found = read_mask(picture, name, channel)
    if not found.values.any():
        report(f'The layer "{name}" is empty and was left out.')
        return None
    for note in found.notes:
        report(f'Region "{name}": the layer {note}')
    return Region(name=name, mask=picture, mask_channel=channel, phrase=literal(layer.phrase))
