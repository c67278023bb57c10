"""Scenes from outside name no files, whichever field could name one."""

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from cloisonne.errors import ImageError, SceneError
from cloisonne.scene import Region, Scene
from cloisonne.scene.conditions.kinds import CONDITIONS
from cloisonne.scene.conditions.lora import Lora
from cloisonne.scene.io.image_ref import ImageRef, data_uri, encoded
from cloisonne.scene.values import Value

EMBEDDED = data_uri(encoded(Image.fromarray(np.full((64, 64), 255, np.uint8))))
LEARNED = data_uri(b"\x02\0\0\0\0\0\0\0{}")
MINIMAL: dict[str, dict[str, Any]] = {
    "control": {"kind": "canny"},
    "concept": {"image": EMBEDDED},
    "outside": {"image": EMBEDDED, "regions": ["pet"]},
}
"""What an object needs besides its file."""
OUTSIDE_ONLY = {"path": "x.png", "sha256": "0" * 64}


def types_in(annotation: Any) -> Iterator[type]:
    """The classes in an annotation."""
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from types_in(part)


def fields_with_files(owner: type[Value], at: str = "") -> Iterator[str]:
    """Every field, at any depth, that refers to a file or names a LoRA."""
    for name, field in owner.model_fields.items():
        for kind in set(types_in(field.annotation)) - {Region}:
            if kind in (ImageRef, Lora):
                yield f"{at}{name}"
            elif issubclass(kind, Value):
                yield from fields_with_files(kind, f"{at}{name}.")


FIELDS = [
    *((False, field) for field in fields_with_files(Scene)),
    *((True, field) for field in fields_with_files(Region)),
]


def scene_with(in_region: bool, field: str, value: Any) -> dict[str, Any]:
    whole, _, part = field.partition(".")
    given = {**MINIMAL.get(whole, {}), part: value} if part else value
    region: dict[str, Any] = {"name": "pet", "box": [0, 0, 1, 1], "phrase": "a cat"}
    scene: dict[str, Any] = {"background": EMBEDDED}
    if in_region:
        region[whole] = given
        if whole == "concept":
            region.pop("phrase")
        if whole == "mask":
            region.pop("box")
    else:
        scene[whole] = given
    return {**scene, "regions": [region]}


def test_the_tables_name_the_same_fields() -> None:
    in_regions = {field for in_region, field in FIELDS if in_region}
    named = {
        f"{row.name}.{name}" for row in CONDITIONS.values() for name in row.files if name in row.value.model_fields
    }
    assert in_regions == named | {"mask", "lora"}
    assert {field for in_region, field in FIELDS if not in_region} == {
        *("background", "outside.image", "outside.mask", "lora")
    }


PATHS = ("x.png", "/etc/passwd", "~/x.png", "../x.png", r"C:\x.png", OUTSIDE_ONLY)
NO_LORAS = ("x.png", OUTSIDE_ONLY)
"""A name like any other, and no name."""


@pytest.mark.parametrize(
    ("in_region", "field", "path"),
    [(*one, path) for one in FIELDS for path in PATHS if one[1] != "lora" or path not in NO_LORAS],
    ids=str,
)
def test_every_field_refuses_files(in_region: bool, field: str, path: Any) -> None:
    data = scene_with(in_region, field, path)
    start = 'Region "pet": ' if in_region else ""
    with pytest.raises(SceneError, match=rf"^{start}{field} ") as caught:
        Scene.from_dict(data, images="embedded")
    assert ("data:" in str(caught.value)) == (field != "lora")
    assert Scene.from_dict(data).regions


@pytest.mark.parametrize(("in_region", "field"), FIELDS)
def test_every_field_refuses_urls(in_region: bool, field: str) -> None:
    with pytest.raises((SceneError, ImageError)):
        Scene.from_dict(scene_with(in_region, field, "http://example.org/x.png"), images="embedded")


@pytest.mark.parametrize(("in_region", "field"), FIELDS)
def test_embedded_files_are_accepted(in_region: bool, field: str) -> None:
    value = "ink" if field == "lora" else LEARNED if field in ("concept.file", "concept.content") else EMBEDDED
    data = scene_with(in_region, field, value)
    assert Scene.from_dict(data, images="embedded") == Scene.from_dict(data)


def test_a_bare_image_is_the_same_field() -> None:
    with pytest.raises(SceneError, match=r'^Region "pet": exemplar\.image refers to a file, "x\.png"'):
        Scene.from_json('{"regions": [{"name": "pet", "box": [0, 0, 1, 1], "exemplar": "x.png"}]}', images="embedded")


def test_a_hash_alone_names_no_file() -> None:
    scene = Scene.from_dict({"background": {"sha256": "0" * 64}}, images="embedded")
    assert scene.background == ImageRef(sha256="0" * 64)
