"""What a generated PNG carries under the key ``cloisonne``: the whole scene and what it was made with.

Only the fields below, no dates and no absolute paths. Read back it is data: its size is capped and its schema checked.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import AfterValidator, Field, field_validator

from cloisonne.errors import SceneError
from cloisonne.scene.io import json_text as wire
from cloisonne.scene.io.image_ref import (
    LEARNED,
    Picture,
    data_uri,
    encoded,
    given_background,
    given_learned,
    given_mask,
)
from cloisonne.scene.io.images import opened
from cloisonne.scene.shapes.mask_reading import Channel, read_mask
from cloisonne.scene.values import Text, Value, shown

KEY = "cloisonne"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_EMBEDDED_BYTES = 8 * 2**20
"""An input larger than this is named by path and hash."""
MAX_RECORD_BYTES = 32 * 2**20
"""All embedded inputs of a scene together: as base64 they stay below the 64 MiB of text that Pillow reads of a PNG."""


def _without_place(text: str) -> str:
    if _is_absolute(text):
        raise SceneError(f"{shown(text)} is an absolute path, which a picture must not carry; give a name.")
    return text


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def _checked_picture(picture: Any, role: str, region: str | None) -> Any:
    """A picture's file must be relative and known by its hash: a scene from elsewhere must not bring in other files."""
    by_hash = isinstance(picture, Mapping) and picture.get("sha256") and not _is_absolute(str(picture.get("path", "")))
    if not by_hash and not str(picture).startswith("data:"):
        wanted = "embedded or a relative path with its sha256"
        raise SceneError(f"The {role} {shown(picture)} is not {wanted}; give the scene as JSON instead.")
    return picture


_Short = Annotated[Text, Field(max_length=200), AfterValidator(_without_place)]


class Record(Value):
    """The scene of one picture, resolved and with the picture's own seed, and where it was made.

    scene: as :func:`self_contained` makes it. model_hash: of the weights. versions: of the packages by name.
    device, dtype, threads: what computed it. place, batch: which row of how many it was, where that changes bits.
    """

    version: Literal[1] = 1
    scene: dict[str, Any]
    model_hash: _Short = ""
    versions: Annotated[dict[_Short, _Short], Field(max_length=32)] = Field(default_factory=dict)
    device: _Short = "cpu"
    dtype: _Short = "float32"
    threads: int = Field(default=1, strict=True, ge=1, le=65536)
    place: int = Field(default=0, strict=True, ge=0, le=1_000_000)
    batch: int = Field(default=1, strict=True, ge=1, le=1_000_000)

    @field_validator("scene")
    @classmethod
    def _check_pictures(cls, scene: dict[str, Any]) -> dict[str, Any]:
        wire.with_pictures(scene, _checked_picture)
        return scene

    def text(self) -> str:
        """The record as one line of ASCII JSON."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":"))


def self_contained(scene: Mapping[str, Any], folder: Path, *, embed: bool = True) -> dict[str, Any]:
    """A complete scene's object (``Scene.to_dict(complete=True)``) that a picture in ``folder`` can carry.

    Masks become grey PNG inside of it, as they were read (mask channel "luminance"); so does the background, byte for
    byte, if ``embed``. What is larger than MAX_EMBEDDED_BYTES becomes a path relative to ``folder`` and a SHA-256. A
    model's folder becomes its name.
    """
    room = MAX_RECORD_BYTES
    channels = _mask_channels(scene)
    embedded: set[str | None] = set()

    def kept(given: Any, role: str, region: str | None) -> Any:
        nonlocal room
        picture = {"mask": given_mask, LEARNED: given_learned}.get(role, given_background)(given)
        content = picture.read()
        if role == "mask":
            content = encoded(read_mask(picture, region, channels.get(region, "auto")).image)
        if role == "outside":
            # Its pixels alone: it carries a scene of its own, and in that perhaps the one that came before it.
            content = encoded(opened(picture, role))
        # What was named by its hash before stays so: a replayed picture has the bytes of the first.
        # What was learned for this picture is in no other place.
        made = role == "mask" or (role == LEARNED and picture.data is not None)
        if (made or (embed and picture.sha256 is None)) and len(content) <= min(room, MAX_EMBEDDED_BYTES):
            room -= len(content)
            embedded.update({region} if role == "mask" else ())
            return data_uri(content)
        path = None if picture.path is None else Path(wire.relative(picture.path, folder))
        return Picture(path=path, sha256=hashlib.sha256(picture.read()).hexdigest()).wire()

    data = wire.with_pictures(scene, kept)
    for region in data.get("regions", ()):
        if region.get("name") in embedded:
            region["mask_channel"] = "luminance"
    if _is_absolute(data["model"]):
        data["model"] = PureWindowsPath(data["model"]).name
    return data


def _mask_channels(scene: Mapping[str, Any]) -> dict[str | None, Channel]:
    """By the names of the regions that have a mask."""
    masked = [region for region in scene.get("regions", ()) if region.get("mask") is not None]
    return {region.get("name"): region.get("mask_channel", "auto") for region in masked}


def _of_before_channels(data: dict[str, Any]) -> dict[str, Any]:
    """A record in which no mask has a channel was written before there were any: brightness as it is."""
    scene = data.get("scene")
    for region in scene.get("regions") or () if isinstance(scene, dict) else ():
        if isinstance(region, dict) and region.get("mask") is not None:
            region.setdefault("mask_channel", "luminance")
    return data


def read_record(png: bytes, name: str) -> Record:
    """The record in a PNG file's bytes; SceneError, which calls it ``name``, where there is none or it is damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
                text = image.info.get(KEY)
    # A damaged file makes the decoder raise whatever it trips over.
    except Exception as error:
        raise SceneError(f"{name} cannot be read as a PNG ({error}); give one that cloisonne has written.") from None
    if not isinstance(text, str):
        raise SceneError(f"{name} carries no scene; give a PNG that cloisonne has written, or the scene's JSON.")
    return Record(**_of_before_channels(wire.parse(text)))
