"""Damaged files of other tools: every value in turn replaced by others, and texts cut and changed at every place.

Each either becomes a scene or is refused by an error with a sentence; a decoder's own exception is a defect.
"""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloisonne.errors import CloisonneError
from cloisonne.scene import Scene, from_gligen_demo, from_infotext, from_instance_diffusion, from_invokeai

VALUES = (None, True, -1, 1e300, float("nan"), "text", [1], {"a": 1})
STROKE = {"type": "brush_line_with_pressure", "strokeWidth": 8, "points": [9, 9, 0.5, 20, 9, 1]}
LAYER = {
    "name": "hat",
    "isEnabled": True,
    "position": {"x": 1, "y": 2},
    "positivePrompt": "a+ hat",
    "negativePrompt": "b",
    "referenceImages": [{"config": {"image": {"image_name": "a.png"}}}],
    "autoNegative": False,
    "objects": [
        {"type": "rect", "rect": {"x": 4, "y": 4, "width": 8, "height": 8}, "compositeOperation": "source-over"},
        {"type": "lasso", "points": [0, 0, 20, 0, 0, 20]},
        STROKE | {"clip": {"x": 0, "y": 0, "width": 9, "height": 9}},
    ],
}
FILES: dict[str, tuple[Callable[[Any], tuple[Scene, tuple[str, ...]]], dict[str, Any]]] = {
    "InvokeAI": (
        from_invokeai,
        {
            "positive_prompt": "a (hall)1.2",
            "width": 64,
            "height": 64,
            "seed": 5,
            "steps": 9,
            "cfg_scale": 7.5,
            "scheduler": "euler",
            "model": {"name": "m", "base": "sdxl"},
            "loras": [{"model": {"name": "i"}, "weight": 1}],
            "canvas_v2_metadata": {"controlLayers": [], "regionalGuidance": [LAYER]},
        },
    ),
    "GLIGEN": (
        from_gligen_demo,
        {
            "prompt": "a room",
            "phrases": ["a", "b"],
            "images": ["a.png", "b.png"],
            "text_mask": [1, 1],
            "image_mask": 1,
            "input_image": "c.png",
            "locations": [[0, 0, 0.5, 0.5], [0, 0, 1, 1]],
        },
    ),
    "InstanceDiffusion": (
        from_instance_diffusion,
        {
            "caption": "a yard",
            "width": 20,
            "height": 10,
            "annos": [
                {"bbox": [1, 1, 5, 5], "mask": {"size": [2, 2], "counts": [1, 3]}, "caption": "a"},
                {"point": [9, 4], "category_name": "b"},
                {"scribble": [[1, 1], [9, 9]], "caption": "c"},
            ],
        },
    ),
}


def places(data: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in JSON."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from places(value, (*above, key))


@pytest.mark.parametrize("name", FILES)
def test_every_value_replaced(name: str) -> None:
    read, data = FILES[name]
    read(data)
    refused: list[str] = []
    for way in places(data):
        for value in VALUES:
            damaged = copy.deepcopy(data)
            owner: Any = damaged
            for key in way[:-1]:
                owner = owner[key]
            owner[way[-1]] = value
            try:
                read(damaged)
            except CloisonneError as error:
                refused.append(str(error))
    assert len(refused) > 20
    assert [message for message in refused if ";" not in message and "cannot be read" not in message] == []


TEXTS = (
    "all ADDCOMM base ADDBASE (a:1.2) ADDCOL [b::0.5] ADDROW {c}\nNegative prompt: x BREAK y\nSteps: 9, "
    'Seed: 1, Size: 64x64, RP Active: True, RP Divide mode: Matrix, RP Ratios: "1,2,3;1,1", RP Base Ratios: "0.2,0.5"',
    "a\nb\nNegative prompt: x\nSteps: 9, Sampler: Euler, Seed: 1, forge_couple: True, forge_couple_mode: Advanced, "
    'forge_couple_mapping: "[[0, 1, 0, 1, 1], [0, 0.5, 0, 1, 2]]"',
)


@pytest.mark.parametrize("text", TEXTS, ids=["regional prompter", "forge couple"])
@pytest.mark.parametrize("inserted", ["", "(", "]", '"', ",", ";", "BREAK", "-1", "\n"])
def test_every_place_of_a_text(text: str, inserted: str) -> None:
    from_infotext(text)
    refused: list[str] = []
    for place in range(len(text)):
        try:
            from_infotext(text[:place] + inserted + text[place + 1 :])
        except CloisonneError as error:
            refused.append(str(error))
    assert [message for message in refused if ";" not in message] == []
