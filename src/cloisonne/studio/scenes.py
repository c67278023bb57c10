"""Scenes from outside: their size is limited before they are read, and they name no files.

Pictures of a scene are ids of stored pictures, ``{"picture": ID}``, or embedded as data URIs, which are stored and
replaced by ids. A worker puts the stored bytes in their place.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cloisonne.errors import ImageError, SceneError
from cloisonne.scene import Scene
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.elements import is_elements
from cloisonne.scene.io.image_ref import FILE, ImageRef, given_learned, given_picture
from cloisonne.scene.io.mrgd_layout import is_layout
from cloisonne.scene.values import brief
from cloisonne.studio.settings import Limits
from cloisonne.studio.storage.ids import is_id

ID = "picture"
"""Key of an object that refers to a stored picture."""


def check_json(data: Any, limits: Limits) -> None:
    """Raise SceneError for JSON that is nested too deeply or has too much text. Embedded pictures do not count."""
    texts = 0
    for value, depth in _values(data):
        if depth > limits.depth:
            raise SceneError(f"The request is nested deeper than {limits.depth} levels; give it as in the examples.")
        if isinstance(value, str) and not value.startswith("data:"):
            if len(value) > limits.text:
                raise SceneError(
                    f"A text has {len(value)} characters, but at most {limits.text} are allowed; shorten "
                    f"{brief(value)}."
                )
            texts += len(value)
    if texts > limits.texts:
        raise SceneError(f"All texts have {texts} characters, but at most {limits.texts} are allowed; shorten them.")


def _values(data: Any) -> Iterator[tuple[Any, int]]:
    """All values in JSON with their depth; names of fields too. Lists of numbers have limits of their own."""
    waiting = [(data, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, Mapping):
            waiting += [(one, depth + 1) for one in (*value, *value.values())]
        elif isinstance(value, list) and not all(type(one) in (int, float) for one in value):
            waiting += [(one, depth + 1) for one in value]


def check_sizes(data: Mapping[str, Any], limits: Limits) -> None:
    """Raise SceneError for a scene's object with more regions, points, runs or mask pixels than allowed."""
    regions = data.get("regions")
    if not isinstance(regions, list):
        return
    found = {"regions": len(regions), "points": 0, "runs of an rle": 0, "pixels of rle masks": 0}
    for region in regions:
        if not isinstance(region, Mapping):
            continue
        polygon, rle = region.get("polygon"), region.get("rle")
        found["points"] += len(polygon) if isinstance(polygon, list) else 0
        if isinstance(rle, Mapping):
            counts, size = rle.get("counts"), rle.get("size")
            found["runs of an rle"] += len(counts) if isinstance(counts, list | str) else 0
            if isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size):
                found["pixels of rle masks"] += size[0] * size[1]
    allowed = (limits.regions, limits.vertices, limits.rle_runs, limits.rle_pixels)
    for (what, count), most in zip(found.items(), allowed, strict=True):
        if count > most:
            raise SceneError(f"The scene has {count} {what}, but at most {most} are allowed; give fewer.")


NATIVE = 1024
"""Side, in pixels, of the largest canvas that a scene without a size has."""


def check_canvas(scene: Scene, limits: Limits) -> None:
    """Raise SceneError for more steps or a larger canvas than allowed."""
    if (scene.steps or 0) > limits.steps:
        raise SceneError(f"steps is {scene.steps}, but at most {limits.steps} are allowed; give fewer.")
    enlarged = 1.0 if scene.hires is None else scene.hires.scale
    # A model's own size is allowed; it is known only where the model is, and at most that of XL.
    width, height = (scene.width or (enlarged > 1 and NATIVE), scene.height or (enlarged > 1 and NATIVE))
    if width and height and width * height * enlarged**2 > limits.canvas_pixels:
        most, times = round(limits.canvas_pixels**0.5), f", enlarged {enlarged:g} times" if enlarged > 1 else ""
        raise SceneError(
            f"The canvas is {width} x {height} pixels{times}, but at most {most} x {most} are allowed; shrink it."
        )
    for side in ("width", "height"):
        if ((getattr(scene, side) or 0) * enlarged) ** 2 > 4 * limits.canvas_pixels:
            raise SceneError(f"{side} is {getattr(scene, side)}; give at most {round(2 * limits.canvas_pixels**0.5)}.")


def with_stored_pictures(
    data: Mapping[str, Any], store: Callable[[bytes, str], str], limits: Limits
) -> tuple[dict[str, Any], list[str]]:
    """Replace the embedded pictures of a scene's object by ids.

    Args:
        data: the object.
        store: stores an encoded picture that messages call by its role, and returns its id.
        limits: of learned concepts.

    Returns:
        The object, and the ids of all its pictures.

    Raises:
        SceneError: the scene names a file, or is a layout of another tool.
        ImageError: a picture is damaged or too large.
    """
    if is_layout(data) or is_elements(data):
        raise SceneError("The scene is a layout of another tool; read it first, and send the scene that it becomes.")
    ids: list[str] = []

    def stored(given: Any, role: str, region: str | None) -> Any:
        if is_reference(given):
            ids.append(given[ID])
            return dict(given)
        if isinstance(given, Mapping) and set(given) == {"sha256"}:
            return dict(given)
        if not (isinstance(given, str) and given.startswith("data:")):
            raise SceneError(
                f"The {role} is {brief(given)}, but a scene from outside names no files; upload the picture and give "
                'its id, as in {"picture": ID}, or embed it as a data URI.',
                region=region if isinstance(region, str) else None,
            )
        if role == FILE:
            if len(given) > limits.file_bytes:
                raise ImageError(f"The learned concept is over {limits.file_bytes >> 20} MiB; give a smaller one.")
            given_learned(given)
            return given
        ids.append(store(given_picture(given).read(), role))
        return {ID: ids[-1]}

    return wire.with_pictures(_with_image_objects(data), stored), ids


def is_reference(value: Any) -> bool:
    """Whether a JSON value is a reference to a stored picture."""
    return isinstance(value, Mapping) and set(value) == {ID} and is_id(value[ID])


def references(data: Any) -> list[str]:
    """Ids of all pictures of a scene's object."""
    found, waiting = [], [data]
    while waiting:
        one = waiting.pop()
        if is_reference(one):
            found.append(one[ID])
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += [value for value in one if isinstance(value, dict)]
    return found


def _with_image_objects(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """A condition that is only a picture becomes an object with that picture."""
    regions = data.get("regions")
    if not isinstance(regions, list):
        return data
    return {**data, "regions": [_with_image_object(region) for region in regions]}


def _with_image_object(region: Any) -> Any:
    if not isinstance(region, Mapping):
        return region
    bare = {row.name: row.bare for row in CONDITIONS.values() if row.bare}
    given = {name: region.get(name) for name in bare}
    return {**region} | {
        name: {bare[name]: value} for name, value in given.items() if isinstance(value, str) or is_reference(value)
    }


def scene_of(data: Mapping[str, Any], read: Callable[[str], bytes] | None = None) -> Scene:
    """Make the scene of an object whose pictures are ids.

    read: gives a picture's bytes; None for a scene that is only checked and never drawn.
    Raises SceneError where the scene names a file.
    """

    def given(value: Any, role: str, region: str | None) -> Any:
        if not is_reference(value):
            return value
        return ImageRef(sha256=value[ID]) if read is None else ImageRef(data=read(value[ID]))

    return Scene.from_dict(wire.with_pictures(_with_image_objects(data), given), images="embedded")


def without_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """A scene's object whose references by path and hash keep the hash alone."""

    def by_hash(given: Any, role: str, region: str | None) -> Any:
        return {"sha256": given["sha256"]} if isinstance(given, Mapping) and given.get("sha256") else given

    return wire.with_pictures(data, by_hash)


def with_ids(data: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    """The inverse of :func:`with_stored_pictures`: data URIs become ids, by the SHA-256 of their bytes.

    Pictures that are not stored become their SHA-256 alone.
    """

    def replaced(given: Any, role: str, region: str | None) -> Any:
        if not (isinstance(given, str) and given.startswith("data:")) or role == FILE:
            return given
        digest = hashlib.sha256(given_picture(given).read()).hexdigest()
        return {ID: ids[digest]} if digest in ids else {"sha256": digest}

    return wire.with_pictures(data, replaced)
