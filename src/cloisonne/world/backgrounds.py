"""Backgrounds of world images, each a function of a generator and a size: RGB float32 [h, w, 3] in 0..255."""

from collections.abc import Callable

import cv2
import numpy as np

Colour = tuple[float, float, float]


def paint(kind: str, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Render a background of ``picture.BACKGROUNDS``; size is (height, width) in pixels."""
    canvas = _PAINTERS[kind](rng, *size)
    light = (
        rng.uniform(0.88, 1.08)
        * (1 + rng.uniform(-0.06, 0.06) * np.linspace(-1, 1, size[1], dtype=np.float32))[None, :, None]
    )
    return np.clip(canvas * light, 0, 255).astype(np.float32)


def _noise(rng: np.random.Generator, h: int, w: int, cells: tuple[int, int], amount: float) -> np.ndarray:
    """Smooth noise [h, w, 1] of about ``amount`` grey levels, with ``cells`` (rows, columns) grid points."""
    coarse = rng.standard_normal(cells).astype(np.float32) * amount
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)[..., None]


def _gradient(h: int, w: int, top: Colour, bottom: Colour) -> np.ndarray:
    t = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
    row = np.asarray(top, np.float32) * (1 - t) + np.asarray(bottom, np.float32) * t
    return np.repeat(row, w, 1)


def _split(
    rng: np.random.Generator,
    h: int,
    w: int,
    low: float,
    high: float,
    upper: np.ndarray,
    lower: np.ndarray,
    wave: float = 0.0,
) -> np.ndarray:
    """Join an upper and a lower part at a random horizon between ``low`` and ``high``, fractions of the height."""
    horizon = rng.uniform(low, high) * h
    line = horizon + wave * h * np.sin(np.linspace(0, rng.uniform(2, 5), w) + rng.uniform(0, 6))
    below = np.clip(np.arange(h)[:, None] - line[None] + 0.5, 0, 1).astype(np.float32)[..., None]
    return upper * (1 - below) + lower * below


def _meadow(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    sky = _gradient(h, w, (110, 180, 240), (205, 230, 250)) + _noise(rng, h, w, (4, 5), 8)
    grass = _gradient(h, w, (130, 200, 90), (60, 145, 50)) + _noise(rng, h, w, (16, 12), 9)
    return _split(rng, h, w, 0.25, 0.5, sky, grass, 0.04)


def _beach(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    sky = _gradient(h, w, (120, 200, 245), (215, 240, 250)) + _noise(rng, h, w, (3, 4), 5)
    sea = _gradient(h, w, (40, 150, 200), (70, 190, 210)) + _noise(rng, h, w, (20, 5), 6)
    sand = _gradient(h, w, (240, 220, 165), (225, 195, 130)) + _noise(rng, h, w, (14, 14), 4)
    return _split(rng, h, w, 0.45, 0.65, _split(rng, h, w, 0.2, 0.36, sky, sea), sand, 0.02)


def _night(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    canvas = _gradient(h, w, (12, 14, 45), (45, 40, 95)) + _noise(rng, h, w, (4, 4), 6)
    for _ in range(rng.integers(8, 20)):
        centre = (int(rng.integers(w)), int(rng.integers(h)))
        cv2.circle(canvas, centre, int(rng.integers(0, 2)), (235, 235, 215), -1, cv2.LINE_AA)
    return canvas


def _desert(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    sky = _gradient(h, w, (250, 190, 120), (255, 225, 180))
    far = _gradient(h, w, (225, 150, 80), (215, 140, 75)) + _noise(rng, h, w, (6, 8), 5)
    near = _gradient(h, w, (205, 125, 60), (175, 95, 45)) + _noise(rng, h, w, (8, 6), 5)
    return _split(rng, h, w, 0.6, 0.75, _split(rng, h, w, 0.3, 0.45, sky, far, 0.05), near, 0.06)


def _snow(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    sky = _gradient(h, w, (175, 195, 220), (220, 230, 240))
    ground = _gradient(h, w, (240, 245, 252), (215, 226, 242)) + _noise(rng, h, w, (6, 6), 4)
    return _split(rng, h, w, 0.3, 0.5, sky, ground, 0.05)


def _table(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    canvas = _gradient(h, w, (170, 115, 65), (140, 90, 48)) + _noise(rng, h, w, (24, 3), 8)
    planks, shift = int(rng.integers(4, 7)), rng.uniform(0, 1)
    for k in range(planks + 1):
        y = int((k + shift) * h / planks)
        cv2.line(canvas, (0, y), (w, y), (95, 58, 30), max(1, h // 128))
    return canvas


def _bricks(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    tint = rng.uniform(-12, 12)
    canvas = _gradient(h, w, (178 + tint, 90, 70), (160 + tint, 78, 60)) + _noise(rng, h, w, (10, 8), 9)
    rows = int(rng.integers(7, 10))
    tall, wide, shift = h / rows, 2.2 * h / rows, rng.uniform(0, 20)
    for row in range(rows + 1):
        y = int(row * tall)
        cv2.line(canvas, (0, y), (w, y), (205, 190, 178), max(1, h // 100))
        for k in range(-1, int(w / wide) + 2):
            x = int(k * wide + shift + (wide / 2 if row % 2 else 0))
            cv2.line(canvas, (x, y), (x, int(y + tall)), (205, 190, 178), max(1, h // 100))
    return canvas


def _ocean(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    canvas = _gradient(h, w, (60, 185, 215), (10, 60, 120)) + _noise(rng, h, w, (8, 6), 6)
    floor = _gradient(h, w, (70, 120, 140), (120, 130, 110))
    return _split(rng, h, w, 0.82, 0.95, canvas, floor, 0.03)


def _city(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    canvas = _gradient(h, w, (150, 190, 225), (235, 225, 215))
    x = -rng.uniform(0, 0.1) * w
    while x < w:
        wide, top = rng.uniform(0.12, 0.24) * w, rng.uniform(0.15, 0.5) * h
        shade = rng.uniform(85, 150)
        cv2.rectangle(canvas, (int(x), int(top)), (int(x + wide), h), (shade * 0.92, shade * 0.97, shade * 1.08), -1)
        lit = (shade + 50, shade + 48, shade + 25)
        pitch = h / 11
        for row in np.arange(top + 0.4 * pitch, 0.8 * h, pitch):
            for column in np.arange(x + 0.03 * w, x + wide - 0.05 * w, 0.065 * w):
                cv2.rectangle(
                    canvas, (int(column), int(row)), (int(column + 0.03 * w), int(row + 0.4 * pitch)), lit, -1
                )
        x += wide + rng.uniform(0, 0.02) * w
    road = _gradient(h, w, (95, 95, 102), (75, 75, 82))
    return _split(rng, h, w, 0.78, 0.86, canvas, road)


def _room(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    hue = np.asarray([(225, 205, 190), (200, 215, 225), (215, 225, 195), (230, 220, 180)][rng.integers(4)], np.float32)
    wall = np.broadcast_to(hue, (h, w, 3)) + _noise(rng, h, w, (3, 3), 4)
    floor = _gradient(h, w, (175, 130, 90), (140, 100, 65)) + _noise(rng, h, w, (3, 10), 5)
    canvas = np.ascontiguousarray(_split(rng, h, w, 0.6, 0.75, wall, floor))
    x, y = rng.uniform(0.05, 0.6) * w, rng.uniform(0.06, 0.18) * h
    cv2.rectangle(canvas, (int(x), int(y)), (int(x + 0.28 * w), int(y + 0.26 * h)), (245, 245, 240), -1)
    cv2.rectangle(
        canvas, (int(x + 0.02 * w), int(y + 0.02 * h)), (int(x + 0.26 * w), int(y + 0.24 * h)), (165, 210, 240), -1
    )
    return canvas


def _studio(rng: np.random.Generator, h: int, w: int) -> np.ndarray:
    colour = rng.uniform(70, 245, 3)
    return _gradient(h, w, tuple(colour), tuple(colour * rng.uniform(0.8, 1.0)))  # type: ignore[arg-type]


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "meadow": _meadow,
    "beach": _beach,
    "night": _night,
    "desert": _desert,
    "snow": _snow,
    "table": _table,
    "bricks": _bricks,
    "ocean": _ocean,
    "city": _city,
    "room": _room,
    "studio": _studio,
}
