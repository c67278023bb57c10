"""The styles of world images: deterministic filters of the whole image, RGB float32 [h, w, 3] in 0..255."""

from collections.abc import Callable

import cv2
import numpy as np


def stylise(rgb: np.ndarray, style: str) -> np.ndarray:
    """Apply a style of ``picture.STYLES``."""
    return _FILTERS[style](np.clip(rgb, 0, 255).astype(np.float32))


def _grey(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114], np.float32)


def _edges(rgb: np.ndarray) -> np.ndarray:
    """Edge strength [h, w] in 0..1."""
    grey = _grey(rgb)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(grey, cv2.CV_32F, 0, 1, ksize=3)
    return np.clip(np.hypot(dx, dy) / 300, 0, 1)


def _natural(rgb: np.ndarray) -> np.ndarray:
    return rgb


def _pencil(rgb: np.ndarray) -> np.ndarray:
    shade = 0.25 * (_grey(rgb) - 255)
    paper = 250 + shade - 190 * _edges(rgb)
    return np.repeat(paper[..., None], 3, -1)


def _blocks(rgb: np.ndarray, cells: int, levels: int) -> np.ndarray:
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (cells, max(1, cells * h // w)), interpolation=cv2.INTER_AREA)
    small = np.rint(small / 255 * levels) / levels * 255
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_NEAREST)


def _pixel_art(rgb: np.ndarray) -> np.ndarray:
    return _blocks(rgb, 32, 6)


def _mosaic(rgb: np.ndarray) -> np.ndarray:
    h, w = rgb.shape[:2]
    out = _blocks(rgb, 24, 12)
    edges = (np.arange(24 + 1) * w / 24).astype(int)
    out[:, np.clip(edges, 0, w - 1)] *= 0.55
    out[np.clip((np.arange(24 + 1) * h / 24).astype(int), 0, h - 1)] *= 0.55
    return out


def _blueprint(rgb: np.ndarray) -> np.ndarray:
    line = _edges(rgb)[..., None]
    base = np.array([25, 60, 135], np.float32) + 0.12 * (_grey(rgb)[..., None] - 128)
    return base * (1 - line) + np.array([225, 235, 250], np.float32) * line


def _sepia(rgb: np.ndarray) -> np.ndarray:
    return _grey(rgb)[..., None] * np.array([1.02, 0.84, 0.62], np.float32) + np.array([8, 5, 0], np.float32)


def _watercolour(rgb: np.ndarray) -> np.ndarray:
    soft = cv2.bilateralFilter(rgb, 7, 60, 4)
    return np.clip(255 - (255 - soft) * 0.72 - 40 * _edges(soft)[..., None], 0, 255)


def _neon(rgb: np.ndarray) -> np.ndarray:
    line = cv2.GaussianBlur(_edges(rgb), (0, 0), 0.8)[..., None]
    top = rgb.max(-1, keepdims=True) + 1
    return np.clip(line * 330 * (rgb / top) ** 1.5 + 0.05 * rgb, 0, 255)


_FILTERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "natural": _natural,
    "pencil sketch": _pencil,
    "pixel art": _pixel_art,
    "mosaic": _mosaic,
    "blueprint": _blueprint,
    "sepia print": _sepia,
    "watercolour": _watercolour,
    "neon on black": _neon,
}
