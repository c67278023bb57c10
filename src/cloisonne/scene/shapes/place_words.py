"""Describes a box in words, for ReCo's baseline without position tokens (arXiv 2211.15518, section 4)."""

from cloisonne.scene.shapes.geometry import Box, area


def place(box: Box) -> str:
    """The ninth of the canvas that contains the box's centre: "top left" ... "center"."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    row, column = ("top", "", "bottom")[min(2, int(y * 3))], ("left", "", "right")[min(2, int(x * 3))]
    return " ".join(part for part in (row, column) if part) or "center"


def described_place(box: Box) -> str:
    """Size, aspect and ninth: "small square in the top left".

    The published thresholds of size, 0.0033 and 0.03 of the canvas, are scaled to the larger boxes of the built-in
    family's images.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    size = "small" if area(box) < 0.08 else "large" if area(box) > 0.16 else "medium"
    aspect = "long" if width / height > 2 else "tall" if width / height < 0.5 else "square"
    return f"{size} {aspect} in the {place(box)}"
