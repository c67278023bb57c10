"""The text encoder of a model that takes no text (Paint by Example)."""

from collections.abc import Sequence
from typing import NoReturn

from torch import nn

from cloisonne.errors import CapabilityError, spelled
from cloisonne.models.text.encoder import EncodedText
from cloisonne.models.text.learned_words import LearnedWords
from cloisonne.scene.prompt import Piece


class NoText:
    """Stands for the text encoder of a model that takes no text; encoding raises CapabilityError.

    width: of the tokens that condition its network.
    """

    length, capacity, pooled_width = 1, 0, 0
    learned = LearnedWords()
    zero_when_empty = has_positions = False
    modules: tuple[nn.Module, ...] = ()
    added_words: tuple[str, ...] = ()

    def __init__(self, model: str, width: int) -> None:
        self._model = model
        self.width = width

    def encode(self, pieces: Sequence[Piece], *, region: str | None = None, blank: bool = False) -> EncodedText:
        """Raises CapabilityError."""
        self._refuse(region)

    def count(self, text: str) -> int:
        """Raises CapabilityError."""
        self._refuse(None)

    def blank(self) -> EncodedText:
        """Raises CapabilityError."""
        self._refuse(None)

    def _refuse(self, region: str | None) -> NoReturn:
        own = spelled(f'load(..., exemplar="{self._model}")', f"--exemplar-model {self._model}")
        raise CapabilityError(
            f'The model "{self._model}" (Paint by Example) takes no text, only exemplars; leave captions and phrases '
            f"out, or load a text model with it: {own}.",
            region=region,
        )
