"""Regional Prompter's regions: the grid of the ratios, common and base prompts, masks, and what is refused.

The oracle is the extension's rule: a cell's result is ratio * base + (1 - ratio) * text.
"""

import colorsys
from typing import Any

import numpy as np
import pytest

from cloisonne.errors import SceneError
from cloisonne.scene import Scene, from_infotext, region_weights

SETTINGS = "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 64x64"


def text(prompt: str, negative: str = "", **given: str) -> str:
    keys = {
        "Active": "True",
        "Divide_mode": "Matrix",
        "Matrix_submode": "Columns",
        "Calc_Mode": "Attention",
        "Ratios": "1,1",
        "Base_Ratios": "0.2",
        "Use_Base": "False",
        "Use_Common": "False",
        "Use_Ncommon": "False",
        "Options": "No Options",
        "LoRA_Stop_Step": "0",
        "threshold": "0.4",
        "Flip": "False",
    } | given
    quoted = ", ".join(f'RP {name.replace("_", " ")}: "{value}"' for name, value in keys.items())
    return f"{prompt}\nNegative prompt: {negative}\n{SETTINGS}, {quoted}"


def boxes(scene: Scene) -> dict[str, list[float]]:
    return {region.phrase: [round(side, 4) for side in region.bounding_box()] for region in scene.regions}


@pytest.mark.parametrize(
    ("prompt", "ratios", "way", "expected"),
    [
        (
            "a BREAK b BREAK c",
            "1,2,1",
            "Columns",
            {"a": [0, 0, 0.25, 1], "b": [0.25, 0, 0.75, 1], "c": [0.75, 0, 1, 1]},
        ),
        ("a AND b", "3,1", "Rows", {"a": [0, 0, 1, 0.75], "b": [0, 0.75, 1, 1]}),
        ("a ADDROW b", "1,3", "Columns", {"a": [0, 0, 1, 0.25], "b": [0, 0.25, 1, 1]}),
        ("a ADDCOL b", "1,3", "Rows", {"a": [0, 0, 0.25, 1], "b": [0.25, 0, 1, 1]}),
        (
            "a BREAK b BREAK c",
            "1,1,3;3,1",
            "Columns",
            {"a": [0, 0, 0.25, 0.25], "b": [0.25, 0, 1, 0.25], "c": [0, 0.25, 1, 1]},
        ),
        (
            "a ADDCOL b ADDROW c",
            "1,1,3;3,1",
            "Columns",
            {"a": [0, 0, 0.25, 0.25], "b": [0.25, 0, 1, 0.25], "c": [0, 0.25, 1, 1]},
        ),
        (
            "a ADDROW b ADDCOL c",
            "1;1;3,3;1",
            "Rows",
            {"a": [0, 0, 0.25, 0.25], "b": [0, 0.25, 0.25, 1], "c": [0.25, 0, 1, 1]},
        ),
        ("a ADDCOL b ADDROW c ADDCOL d", "1,1", "Columns", None),
        ("a BREAK b", "1,1,1", "Columns", {"a": [0, 0, 0.5, 1], "b": [0.5, 0, 1, 1]}),
        ("a BREAK b BREAK c", "1,1", "Columns", {"a": [0, 0, 0.5, 1], "b, c": [0.5, 0, 1, 1]}),
        (
            "a ADDCOL b ADDCOL c",
            "1,1",
            "Columns",
            {"a": [0, 0, 1 / 3, 1], "b": [1 / 3, 0, 2 / 3, 1], "c": [2 / 3, 0, 1, 1]},
        ),
    ],
)
def test_the_grid(prompt: str, ratios: str, way: str, expected: dict[str, list[float]] | None) -> None:
    scene, _ = from_infotext(text(prompt, Ratios=ratios, Matrix_submode=way))
    quarters = {"a": [0, 0, 0.5, 0.5], "b": [0.5, 0, 1, 0.5], "c": [0, 0.5, 0.5, 1], "d": [0.5, 0.5, 1, 1]}
    wanted = quarters if expected is None else {k: [round(side, 4) for side in box] for k, box in expected.items()}
    assert boxes(scene) == wanted
    covered = np.sum([region.soft_mask(48, 48) for region in scene.regions], axis=0)
    assert (covered == 1).all(), "cells leave no gap and do not overlap"


def test_flipped_ratios_and_the_older_name_of_the_mode() -> None:
    prompt = "a ADDCOL b ADDROW c"
    plain = from_infotext(text(prompt, Ratios="1,1,3;3,1"))[0]
    assert from_infotext(text(prompt, Ratios="1;1;3,3;1", Flip="True"))[0] == plain
    older = text("a BREAK b", Divide_mode="Vertical")
    assert boxes(from_infotext(older)[0]) == {"a": [0, 0, 1, 0.5], "b": [0, 0.5, 1, 1]}


def shares(scene: Scene, side: int = 32) -> dict[str, np.ndarray]:
    """The share of each text in each pixel's mean, over all regions that have it."""
    active = scene.active_regions
    masks = [region.soft_mask(side, side) for region in active]
    weights = region_weights(masks, [one.weight for one in active], [0] * len(masks), scene.overlap)
    total = np.sum(weights, axis=0)
    assert (total >= 1 - 1e-6).all(), "nothing is left to the caption"
    found: dict[str, np.ndarray] = {}
    for region, weight in zip(active, weights, strict=True):
        found[region.phrase] = found.get(region.phrase, np.zeros((side, side))) + weight / total
    return found


@pytest.mark.parametrize("keyword", [True, False])
@pytest.mark.parametrize("ratios", ["0.2", "0.2,0.5", "0,0.5", "1,0.25", "1"])
def test_base_and_cells_have_the_shares_of_the_rule(ratios: str, keyword: bool) -> None:
    prompt = "all ADDCOMM base ADDBASE a BREAK b" if keyword else "all BREAK base BREAK a BREAK b"
    scene, warnings = from_infotext(
        text(prompt, Base_Ratios=ratios, Use_Base=str(not keyword), Use_Common=str(not keyword))
    )
    assert scene.caption == "all"
    assert warnings == ()
    given = [float(one) for one in ratios.split(",")]
    left, right = given[0], given[-1]
    zero = np.zeros((32, 32))
    found = shares(scene)
    base, a, b = zero.copy(), zero.copy(), zero.copy()
    base[:, :16], base[:, 16:], a[:, :16], b[:, 16:] = left, right, 1 - left, 1 - right
    for name, expected in (("base", base), ("a", a), ("b", b)):
        np.testing.assert_allclose(found.get(name, zero), expected, atol=1e-6)


def test_negative_prompts_by_region() -> None:
    scene, warnings = from_infotext(text("a BREAK b", "x BREAK y"))
    assert [region.negative for region in scene.regions] == ["x", "y"]
    assert (scene.negative, warnings) == ("", ())
    scene, _ = from_infotext(text("a BREAK b", "all BREAK x BREAK y", Use_Ncommon="True"))
    assert (scene.negative, [region.negative for region in scene.regions]) == ("all", ["x", "y"])
    scene, _ = from_infotext(text("base ADDBASE a BREAK b", "z BREAK x BREAK y"))
    assert {region.phrase: region.negative for region in scene.regions} == {"a": "x", "b": "y", "base": "z"}
    scene, warnings = from_infotext(text("a BREAK b", "x BREAK y BREAK z"))
    assert (scene.negative, [region.negative for region in scene.regions]) == ("x, y, z", ["", ""])
    assert "3 parts for 2 prompts" in warnings[0]


@pytest.mark.parametrize(
    ("given", "phrases", "warning"),
    [
        ({"prompt": "a BREAK "}, ["a"], 'Region "region-1" has no text'),
        ({"prompt": "a <lora:x:1> BREAK b"}, ["a <lora:x:1>", "b"], "acted on the whole image"),
        ({"prompt": "a BREAK b", "Calc_Mode": "Latent"}, ["a", "b"], 'RP Calc Mode "Latent"'),
        ({"prompt": "a BREAK b", "LoRA_Stop_Step": "7"}, ["a", "b"], 'RP LoRA Stop Step: "7"'),
        ({"prompt": "a BREAK b", "Ratios": "1,x"}, ["a", "b"], 'have "x", which is taken as 1'),
        ({"prompt": "a AND c BREAK b", "Options": "disable convert 'AND' to 'BREAK'"}, ["a AND c", "b"], ""),
        ({"prompt": "a BREAK c ADDCOL b", "Options": "Use BREAK to change chunks"}, ["a , c", "b"], ""),
        ({"prompt": "all BREAK a BREAK b", "Use_Common": "True", "Options": "Flip prompts"}, ["b", "a"], ""),
    ],
)
def test_options_and_what_is_changed(given: dict[str, str], phrases: list[str], warning: str) -> None:
    scene, warnings = from_infotext(text(**given))
    assert [region.phrase for region in scene.regions] == phrases
    assert warning in " ".join(warnings)
    assert bool(warnings) == bool(warning)


HUES = [0, 1 / 2, 1 / 4, 3 / 4, 1 / 8, 3 / 8]
"""Of the first regions: each round halves the distances."""


def colour(index: int) -> list[int]:
    return [min(int(side * 256), 255) for side in colorsys.hsv_to_rgb(HUES[index], 0.5, 0.5)]


def mask_image(*indices: int, side: int = 32) -> np.ndarray:
    """White, with a square of each region's colour along the diagonal."""
    image = np.full((side, side, 3), 255, np.uint8)
    for place, index in enumerate(indices):
        image[place * 8 : place * 8 + 8, place * 8 : place * 8 + 8] = colour(index)
    return image


@pytest.mark.parametrize("indices", [(0, 1), (1, 3), (2, 4), (5, 0)])
@pytest.mark.parametrize("base", [None, "0.25", "0", "0,0.5"])
def test_masks_are_the_colours_in_their_order(indices: tuple[int, int], base: str | None) -> None:
    prompt = "a BREAK b" if base is None else "base ADDBASE a BREAK b"
    given = text(prompt, Divide_mode="Mask", Base_Ratios=base or "0")
    scene, warnings = from_infotext(given, mask=mask_image(*indices))
    assert warnings == ()
    ratios = [float(one) for one in (base or "0").split(",")]
    zero = np.zeros((32, 32))
    squares = [zero.copy(), zero.copy()]
    for place, square in enumerate(squares):
        square[place * 8 : place * 8 + 8, place * 8 : place * 8 + 8] = 1
    first, second = (squares[k] for k in np.argsort(indices))
    outside = 1 - first - second
    low, high = ratios[0], ratios[-1]
    expected = {"a": first * (1 - low) + (outside if base is None else 0), "b": second * (1 - high)}
    expected["base"] = zero if base is None else first * low + second * high + outside
    found = shares(scene)
    for name, share in expected.items():
        np.testing.assert_allclose(found.get(name, zero), share, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "mask", "message"),
    [
        ({"Divide_mode": "Mask"}, None, 'RP Divide mode is "Mask", but the text does not contain the mask'),
        ({"Divide_mode": "Mask"}, mask_image(0), "The mask has 1 colours of regions for 2 texts"),
        ({}, mask_image(0, 1), "A mask is given, but no regions"),
        ({"Divide_mode": "Prompt"}, None, 'RP Divide mode is "Prompt"'),
        ({"prompt": "a BREAK b ADDP c"}, None, 'RP Divide mode is "Prompt"'),
        ({"Matrix_submode": "Random"}, None, 'RP Matrix submode is "Random"'),
        ({"Ratios": "1,-1"}, None, "RP Ratios is"),
        ({"Ratios": "1,0"}, None, "leaves a region without area"),
    ],
)
def test_regions_that_cannot_be_read_are_refused_by_name(given: dict[str, str], mask: Any, message: str) -> None:
    with pytest.raises(SceneError) as caught:
        from_infotext(text(**{"prompt": "a BREAK b"} | given), mask=mask)
    assert message in str(caught.value)


@pytest.mark.parametrize("mode", ["Mask", "Prompt", "Matrix"])
def test_the_prompt_alone_has_every_part(mode: str) -> None:
    scene, warnings = from_infotext(
        text("all ADDCOMM a ADDCOL b BREAK (c:1.2)", "x BREAK y", Divide_mode=mode), regions=False
    )
    assert (scene.caption, scene.negative, scene.regions) == ("all, a, b, (c:1.2)", "x, y", ())
    assert "RP Ratios" in " ".join(warnings)


def test_an_inactive_extension_changes_nothing() -> None:
    scene, _ = from_infotext(text("a cat", Active="False"))
    assert (scene.caption, scene.regions) == ("a cat", ())
