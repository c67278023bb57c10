"""Flat colours, each in the HSV range of its name alone."""

PAINT = {
    "red": (220, 30, 30),
    "blue": (30, 60, 220),
    "green": (30, 180, 40),
    "yellow": (240, 230, 30),
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "brown": (120, 70, 20),
}
GROUND = (140, 60, 200)
"""In the range of none."""
