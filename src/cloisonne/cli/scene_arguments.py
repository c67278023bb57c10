"""Scenes from the command line: a file, or a caption and regions, with options that override their fields."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from cloisonne.errors import SceneError
from cloisonne.scene import Region, Scene
from cloisonne.scene.shapes.mask_reading import Channel
from cloisonne.scene.values import brief


def scene_from(file: str | None, caption: str | None, regions: Sequence[str], overrides: dict[str, Any]) -> Scene:
    """The scene of a file ("-" is standard input), or of ``caption`` and ``regions``, with ``overrides`` applied.

    Overrides that are None are ignored. Raises SceneError if neither or both are given, or for an invalid value.
    """
    inline = caption is not None or bool(regions)
    if (file is None) != inline:
        given = "both a scene file and --caption or --region" if file else "neither a scene file nor --caption"
        raise SceneError(f"You gave {given}; give one of the two.")
    scene = Scene.load(file) if file is not None else inline_scene(caption or "", regions)
    changes = {name: value for name, value in overrides.items() if value is not None}
    return scene.replace(**changes) if changes else scene


def inline_scene(caption: str, regions: Sequence[str]) -> Scene:
    """A scene of boxes; each region is "x0,y0,x1,y1:phrase" in fractions of the canvas."""
    return Scene(caption=caption, regions=[_region(text, f"region-{k}") for k, text in enumerate(regions)])


def where(mask: Path | None, box: str | None, channel: str) -> dict[str, Any]:
    """The region fields of --mask with --mask-channel, or of --box.

    Raises SceneError if neither or both are given.
    """
    if (mask is None) == (box is None):
        given = "neither --mask nor --box" if mask is None else "both --mask and --box"
        raise SceneError(f"You gave {given}; give one of the two.")
    if box is None:
        assert mask is not None, "one of the two is given"
        return masked(mask, channel)
    if (numbers := _four(box)) is None:
        raise SceneError(
            f'--box is "{box}"; give "x0,y0,x1,y1" with fractions of the image, as in "0.05,0.05,0.45,0.45".'
        )
    return {"box": numbers}


def masked(mask: Path, channel: str) -> dict[str, Any]:
    """The region fields of ``--mask`` and ``--mask-channel``. Raises SceneError for an unknown channel."""
    channels = get_args(Channel)
    if channel not in channels:
        raise SceneError(f'--mask-channel is "{channel}"; choose one of {", ".join(channels)}.')
    return {"mask": str(mask), "mask_channel": channel}


def _four(text: str) -> list[float] | None:
    """Parse "x0,y0,x1,y1"; None for any other text."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == 4 else None


def _region(text: str, name: str) -> Region:
    box, colon, phrase = text.partition(":")
    numbers = _four(box)
    if not colon or numbers is None:
        raise SceneError(
            f'--region is "{text}"; give "x0,y0,x1,y1:phrase" with fractions of the canvas, as in '
            '"0.05,0.05,0.45,0.45:a doughnut".',
            region=name,
        )
    return Region(name=name, box=numbers, phrase=phrase.strip())


def option_and_values(text: str) -> tuple[str, list[Any]]:
    """Split "pet.similarity=1,2.5" into a field and its values: numbers, booleans, else text. Raises SceneError."""
    field, equals, values = text.partition("=")
    parts = [part.strip() for part in values.split(",")]
    if not equals or not field.strip() or not all(parts):
        raise SceneError(f"--sweep is {brief(text)}; give a field and its values, as in guidance=1,2.5,5.")
    return field.strip(), [_value(part) for part in parts]


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and math.isfinite(value) else text
