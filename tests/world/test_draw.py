"""Rendered images and their ground truth: the same bytes from the same seed, tight boxes, true colours."""

import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from cloisonne.world.draw import Drawn, draw
from cloisonne.world.glyphs import COLOURS, CORE
from cloisonne.world.picture import BACKGROUNDS, EVERYTHING, STYLES, Item, Picture, Recipe, sample

SEEDS = range(40)
HUES = {
    "red": (-12, 15),
    "orange": (15, 40),
    "yellow": (40, 65),
    "green": (90, 150),
    "blue": (200, 240),
    "purple": (260, 295),
    "pink": (315, 345),
}
"""Degrees that people call by these names."""


def digest(seeds: range) -> str:
    total = hashlib.sha256()
    for seed in seeds:
        drawn = draw(sample(seed, EVERYTHING))
        total.update(drawn.rgb.tobytes() + drawn.labels.tobytes() + drawn.masks.tobytes())
    return total.hexdigest()


def alone(
    char: str, colour: str | None = None, *, background: str = "studio", style: str = "natural", seed: int = 0
) -> Picture:
    item = Item(char=char, colour=colour, box=(0.1, 0.1, 0.9, 0.9), flip=False, angle=0.0)
    return Picture(seed=seed, background=background, style=style, items=(item,))


@pytest.fixture(scope="module", params=[(128, 128), (96, 160)], ids=str)
def drawings(request: pytest.FixtureRequest) -> list[Drawn]:
    width, height = request.param
    return [draw(sample(seed, Recipe(overlapping=0.8)), width, height) for seed in SEEDS]


def test_same_seed_same_bytes() -> None:
    assert digest(range(20)) == digest(range(20))
    assert digest(range(20)) != digest(range(1, 21))


def test_another_process_draws_the_same_bytes() -> None:
    program = (
        "import hashlib\n"
        "from cloisonne.world.draw import draw\n"
        "from cloisonne.world.picture import EVERYTHING, sample\n"
        "total = hashlib.sha256()\n"
        "for seed in reversed(range(20)): draw(sample(seed, EVERYTHING))\n"
        "for seed in range(20):\n"
        "    drawn = draw(sample(seed, EVERYTHING))\n"
        "    total.update(drawn.rgb.tobytes() + drawn.labels.tobytes() + drawn.masks.tobytes())\n"
        "print(total.hexdigest())"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(range(20))


def test_shapes(drawings: list[Drawn]) -> None:
    for drawn in drawings:
        height, width = drawn.labels.shape
        assert drawn.rgb.shape == (height, width, 3)
        assert drawn.masks.shape == (len(drawn.picture.items), height, width)
        assert (drawn.rgb.dtype, drawn.labels.dtype, drawn.masks.dtype) == (np.uint8, np.uint8, bool)
    assert len({drawn.labels.shape for drawn in drawings}) == 1


def test_boxes_are_tight(drawings: list[Drawn]) -> None:
    for drawn in drawings:
        height, width = drawn.labels.shape
        for mask, (x0, y0, x1, y1) in zip(drawn.masks, drawn.boxes(), strict=True):
            columns, rows = slice(round(x0 * width), round(x1 * width)), slice(round(y0 * height), round(y1 * height))
            inside = mask[rows, columns]
            assert inside.sum() == mask.sum() > 0
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_labels_are_the_frontmost_mask(drawings: list[Drawn]) -> None:
    for drawn in drawings:
        expected = np.zeros_like(drawn.labels)
        for k, mask in enumerate(drawn.masks):
            expected = np.where(mask, k + 1, expected)
        np.testing.assert_array_equal(drawn.labels, expected)
        for k, share in enumerate(drawn.visible()):
            assert share == pytest.approx((expected == k + 1).sum() / drawn.masks[k].sum())


def test_later_items_lie_in_front() -> None:
    red, blue = (Item(char="🎈", colour=c, box=(0.2, 0.2, 0.8, 0.8), flip=False, angle=0.0) for c in ("red", "blue"))
    drawn = draw(Picture(seed=0, background="studio", style="natural", items=(red, blue)))
    assert drawn.visible()[1] == 1
    assert drawn.visible()[0] < 0.1
    r, _, b = drawn.rgb[drawn.labels == 2].mean(0)
    assert b > r


def test_objects_lie_where_they_should() -> None:
    """Within the canvas, and about their box: the centres differ by less than a tenth of the canvas."""
    for seed in range(100):
        drawn = draw(sample(seed))
        for item, (x0, y0, x1, y1) in zip(drawn.picture.items, drawn.boxes(), strict=True):
            assert abs((x0 + x1) - (item.box[0] + item.box[2])) / 2 < 0.1
            assert abs((y0 + y1) - (item.box[1] + item.box[3])) / 2 < 0.1


def test_pixels_of_an_object_are_its_own() -> None:
    """The same object on two backgrounds: very similar well inside the mask, different outside."""
    one, other = (draw(alone("🐼", background=background)) for background in ("night", "snow"))
    inside = cv2.erode(one.labels, np.ones((5, 5), np.uint8)) > 0
    apart = np.abs(one.rgb.astype(int) - other.rgb).max(-1)
    outside = (one.labels == 0) & (other.labels == 0)
    assert np.median(apart[inside]) < np.median(apart[outside]) / 3


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_land_within_their_hue(colour: str) -> None:
    low, high = HUES[colour]
    for core in CORE:
        if not core.recolourable:
            continue
        drawn = draw(alone(core.char, colour))
        inside = cv2.erode(drawn.labels, np.ones((3, 3), np.uint8)) > 0
        hue, saturation, value = cv2.cvtColor(drawn.rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[inside].T
        tinted = (saturation > 0.3) & (value > 0.2)
        assert tinted.mean() > 0.4, f"{core.name} shows little of its colour"
        around = (hue[tinted] - low) % 360
        assert (around <= high - low).mean() > 0.75, f"{core.name} is not {colour}"


def test_colour_changes_nothing_but_the_colour() -> None:
    own, blue = draw(alone("🚗")), draw(alone("🚗", "blue"))
    np.testing.assert_array_equal(own.labels, blue.labels)
    outside = cv2.dilate(own.labels, np.ones((7, 7), np.uint8)) == 0
    np.testing.assert_array_equal(own.rgb[outside], blue.rgb[outside])
    assert (own.rgb[own.labels == 1] != blue.rgb[own.labels == 1]).any(-1).mean() > 0.3


@pytest.mark.parametrize("style", STYLES)
def test_styles(style: str) -> None:
    """A filter of the whole image that does not change the ground truth."""
    natural, styled = draw(alone("🏠")), draw(alone("🏠", style=style))
    np.testing.assert_array_equal(natural.labels, styled.labels)
    change = np.abs(natural.rgb.astype(int) - styled.rgb).mean()
    assert (change == 0) if style == "natural" else (change > 8)
    assert styled.rgb.std() > 10, "something can still be seen"


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_backgrounds(background: str) -> None:
    """Varied from seed to seed, and at any size."""
    pictures = [draw(alone("🔑", background=background, seed=seed), 96, 64) for seed in range(3)]
    assert pictures[0].rgb.shape == (64, 96, 3)
    outside = np.logical_and.reduce([drawn.labels == 0 for drawn in pictures])
    for a, b in ((0, 1), (1, 2)):
        assert (pictures[a].rgb[outside] != pictures[b].rgb[outside]).mean() > 0.2


def test_backgrounds_are_distinguishable() -> None:
    """By mean colour and roughness, the nearest background of another seed is mostly the same one."""

    def features(background: str, seed: int) -> np.ndarray:
        rgb = draw(alone("🔑", background=background, seed=seed)).rgb.astype(np.float32)
        return np.concatenate(
            [rgb[:40].mean((0, 1)), rgb[-40:].mean((0, 1)), [np.abs(np.diff(rgb, axis=0)).mean() * 4]]
        )

    kinds = [kind for kind in BACKGROUNDS if kind != "studio"]
    known = np.stack([np.mean([features(kind, seed) for seed in range(6)], 0) for kind in kinds])
    right = [
        int(np.argmin(((known - features(kind, seed)) ** 2).sum(1))) == k
        for k, kind in enumerate(kinds)
        for seed in range(100, 104)
    ]
    assert np.mean(right) > 0.8
