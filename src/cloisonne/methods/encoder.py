"""Encodes what conditions a scene, and owns what was encoded: each text, image and map is encoded once."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from cloisonne.models.model import Model
from cloisonne.models.text.encoder import BatchesTexts, EncodedText, TextEncoder, with_token_ids
from cloisonne.scene.prompt import Piece, pieces
from cloisonne.scene.scene import Scene

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """The encoders of one scene. A kind of condition brings its own, by :meth:`once`.

    Attributes:
        texts: the model's text encoder.
        masked_image: encodes what of the image is known; see :meth:`known`.
        no_image: the same where there is none, or where no network may run.
        blank: no file is read and no network runs, for ``explain``; what is encoded is blank, of the same shape.
    """

    texts: TextEncoder
    masked_image: Callable[[], tuple[Tensor, Tensor]]
    no_image: Callable[[], tuple[Tensor, Tensor]]
    blank: bool = False
    _encoded: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, encode: Callable[[], T], blank: Callable[[], T]) -> T:
        """What ``encode`` returns at the first call with this key; what ``blank`` returns where nothing may run.

        key: the kind of condition and what is encoded, such as ("control", "region-0").
        """
        if key not in self._encoded:
            self._encoded[key] = blank() if self.blank else encode()
        return self._encoded[key]

    def text(self, text: str, region: str | None = None) -> EncodedText:
        """A text by the weights of its words, padded as its encoder does.

        Raises SceneError, about the region if there is one, where it is too long.
        """
        return self.text_pieces(pieces(text), region)

    def text_pieces(self, parts: Sequence[Piece], region: str | None = None) -> EncodedText:
        """The same of a text in pieces, whose places are in ``EncodedText.word_spans``."""
        text = tuple(parts)

        def encode() -> EncodedText:
            return self.texts.encode(text, region=region, blank=self.blank)

        return self.once(("text", text), encode, encode)

    def tokens(self, ids: Sequence[int], weights: Sequence[float] = ()) -> EncodedText:
        """Token ids and the weight of each; () is 1 for all. For methods that build sequences of their own."""
        encoder = with_token_ids(self.texts, "A method that builds sequences of its own needs")

        def encode() -> EncodedText:
            return encoder.encode_ids(ids, weights, blank=self.blank)

        return self.once(("ids", tuple(ids), tuple(weights)), encode, encode)

    def known(self) -> tuple[Tensor, Tensor]:
        """Latents [C, H, W] of what of the image is known, grey where nothing is, and a mask [height, width], 1 there.

        Inputs of networks that fill holes.
        """
        return self.once("known", self.masked_image, self.no_image)


def encode_together(scene: Scene, model: Model, compile_blank: Callable[[], object]) -> None:
    """Encode all texts of a scene in one batch, where the text encoder can, and keep them there.

    For devices on which one forward of several texts costs little more than of one. On the CPU a batch saves nothing,
    and the last bits of a text would depend on the others of its batch. compile_blank: compiles the scene with blank
    texts.
    """
    if isinstance(model.text, BatchesTexts):
        phrases = tuple((region.phrase, region.negative) for region in scene.regions)
        model.text.encode_together((scene.caption, scene.negative, scene.method, phrases), compile_blank)
