"""The judge: a small network that locates and classifies objects in world images. No method uses it."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from cloisonne.errors import CheckpointError
from cloisonne.world.glyphs import COLOURS, TRAINING
from cloisonne.world.picture import STYLES

SIZE = 128
EMBEDDING = 64
NONE = 0
CLASS_OF = {char: k + 1 for k, char in enumerate(TRAINING)}
COLOUR = "of seven"
"""How a crop's colour is read. It is part of a run's settings, so that a table does not mix two readings."""


@dataclass(frozen=True)
class Verdict:
    """The judge's output for R images, on 16 × 16 cells."""

    classes: Tensor
    """Logits [R, 1 + glyphs, 16, 16]; class 0 is none."""
    colours: Tensor
    """Logits [R, 1 + 7, 16, 16]; colour 0 is "the object's own, or none"."""
    styles: Tensor
    """Logits [R, 8]."""
    embedding: Tensor
    """[R, 64], for retrieval (by cosine) and Fréchet distances."""

    def object_scores(self) -> Tensor:
        """Probability mass of every glyph over all cells, [R, glyphs]; the argmax is the class of a crop."""
        return self.classes.softmax(1)[:, 1:].sum((2, 3))

    def colour_scores(self) -> Tensor:
        """Probability mass of each of the seven colours over the cells that show an object, [R, 7].

        The argmax is the colour of a crop. "The object's own" is no answer to which of the seven it is.
        """
        seen = 1 - self.classes.softmax(1)[:, :1]
        return (self.colours.softmax(1)[:, 1:] * seen).sum((2, 3))


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
        self.conv1, self.conv2 = (
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))


class Judge(nn.Module):
    """Images [R, 3, 128, 128] in [-1, 1] -> Verdict. About 1.5 M parameters."""

    def __init__(self, widths: tuple[int, int, int] = (56, 112, 128), glyphs: int = len(TRAINING)) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "glyphs": glyphs}
        fine, middle, coarse = widths
        self.stem = nn.Conv2d(48, fine, 3, padding=1)
        self.fine = nn.Sequential(_Block(fine), _Block(fine))
        self.down1 = nn.Conv2d(fine, middle, 3, stride=2, padding=1)
        self.middle = nn.Sequential(_Block(middle), _Block(middle))
        self.down2 = nn.Conv2d(middle, coarse, 3, stride=2, padding=1)
        self.coarse = nn.Sequential(_Block(coarse), _Block(coarse))
        self.up = nn.Conv2d(coarse, middle, 1)
        self.joined = _Block(middle)
        self.norm = nn.GroupNorm(8, middle)
        self.class_head = nn.Conv2d(middle, 1 + glyphs, 1)
        self.colour_head = nn.Conv2d(middle, 1 + len(COLOURS), 1)
        self.style_head = nn.Linear(middle + coarse, len(STYLES))
        self.embedding_head = nn.Linear(middle, EMBEDDING)

    def forward(self, pictures: Tensor) -> Verdict:
        x = self.stem(F.pixel_unshuffle(pictures, 4).contiguous(memory_format=torch.channels_last))
        middle = self.middle(self.down1(self.fine(x)))
        coarse = self.coarse(self.down2(middle))
        features = F.silu(
            self.norm(self.joined(middle + F.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")))
        )
        classes = self.class_head(features)
        seen = 1 - classes.float().softmax(1)[:, :1]
        pooled = (features.float() * seen).sum((2, 3)) / (seen.sum((2, 3)) + 1)
        everywhere = torch.cat([features.float().mean((2, 3)), coarse.float().mean((2, 3))], 1)
        return Verdict(
            classes=classes.float(),
            colours=self.colour_head(features).float(),
            styles=self.style_head(everywhere).float(),
            embedding=self.embedding_head(pooled).float(),
        )

    @classmethod
    def load(cls, folder: Path) -> "Judge":
        """Load the frozen judge from ``config.json`` and ``model.safetensors`` in a folder. Raises CheckpointError."""
        try:
            config = json.loads((folder / "config.json").read_text())
            tensors = load_file(folder / "model.safetensors")
        except FileNotFoundError as error:
            missing = Path(error.filename or "").name
            raise CheckpointError(
                f"The judge's folder {folder} lacks {missing}: reinstall, or train it with `cloisonne train family`."
            ) from error
        judge = cls(tuple(config["widths"]), config["glyphs"])
        judge.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return judge.eval().requires_grad_(False)
