"""Inputs of a translation: latents of the background, and the learned concept."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from cloisonne.core.run import Run
from cloisonne.errors import SceneError, spelled
from cloisonne.models.finite import explained
from cloisonne.models.model import Model
from cloisonne.models.text.learned_concept import Concept
from cloisonne.pipelines.inpaint import BackgroundEdit, as_tensor, resized
from cloisonne.pipelines.prepare import Prepared, size_of
from cloisonne.pipelines.progress import Reporter
from cloisonne.pipelines.translation.checkpoint import learning_digest
from cloisonne.pipelines.translation.learn_concept import embedded, fit, words_of
from cloisonne.scene.conditions.concept import ConceptImage
from cloisonne.scene.conditions.translation_presets import Translating
from cloisonne.scene.io.image_ref import ImageRef


@dataclass(frozen=True, eq=False)
class Given:
    """Inputs of a prepared scene, before encoding."""

    prepared: Prepared
    concept: ConceptImage
    reference: Image.Image | None
    model: Model
    translating: Translating

    def latents(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Latents [C, H, W] of uint8 pixels [height, width, 3]."""
        return _latents(pixels, self.model)

    @cached_property
    def known(self) -> Tensor:
        """Latents [C, H, W] of the background's window."""
        edit = edit_of(self.prepared)
        return self.latents(resized(edit.source.rgb[edit.window.slices], size_of(self.prepared.scene)))

    def learned(self, run: Run, reporter: Reporter, cache: Path | None) -> tuple[Concept, str]:
        """The concept from its file, or found now from the reference's centre crop in the canvas's shape; its words.

        Raises SceneError where it is to be interrogated, and there are no words to choose from.
        """
        word = self.concept.word
        if self.concept.file is not None:
            return Concept.read(self.concept.file.read()), word
        assert self.reference is not None, "a concept has an image or a file"
        known = learned_from(self.reference, size_of(self.prepared.scene), self.model)
        if not self.translating.interrogate:
            return self._fitted(known, self.translating, word, self.seed, run, reporter, cache), word
        found = self._words(known, candidates(self.model, word), run)
        return Concept(embedded(self.model.text, found)), found

    def _words(self, known: Tensor, alternatives: Mapping[str, str], run: Run) -> str:
        """Of alternatives, the words whose name CLIP finds nearest to the reference; the loss's without a CLIP."""
        words = list(alternatives.values())
        if len(words) == 1:
            return words[0]
        if self.model.segmenter is None:
            return words_of(known, self.model, words, self.translating, seed=self.seed, run=run)
        assert self.reference is not None, "there is something to interrogate"
        segmenter = self.model.segmenter()
        image = segmenter.encode_images(as_tensor(np.asarray(self.reference)).to(segmenter.module.device))
        near = F.cosine_similarity(image, segmenter.encode_texts(list(alternatives)))
        return words[int(near.argmax())]

    @property
    def seed(self) -> int:
        """The seed of the resolved scene."""
        seed = self.prepared.scene.seed
        assert seed is not None, "a resolved scene has a seed"
        return seed

    def content(self, run: Run, reporter: Reporter, cache: Path | None) -> Concept | None:
        """The background's embeddings; None where the preset learns none.

        They are read from their file where that was learned from this background by this model with these settings,
        else learned now, for all seeds alike: with seed 0.
        """
        if not self.translating.content_vectors:
            return None
        settings = content_settings(self.translating)
        name = f"<content {learning_digest(self.known, self.model, settings, '', 0)}>"
        if self.concept.content is not None and (found := Concept.read(self.concept.content.read())).name == name:
            return found
        learned = self._fitted(self.known, settings, "", 0, run, reporter, cache)
        return replace(learned, name=name)

    def _fitted(
        self,
        known: Tensor,
        settings: Translating,
        word: str,
        seed: int,
        run: Run,
        reporter: Reporter,
        cache: Path | None,
    ) -> Concept:
        def watch(step: int, total: int, loss: float) -> None:
            reporter("learning", step, total, loss=loss)

        with explained(self.model):
            return fit(known, self.model, settings, word=word, seed=seed, run=run, cache=cache, watch=watch).concept


def candidates(model: Model, word: str) -> dict[str, str]:
    """The words that a concept may be, by name: the given alternatives, or phrases of the styles that the model knows.

    Raises SceneError where there are none.
    """
    if found := [part.strip() for part in word.split("|") if part.strip()]:
        return {own: own for own in found}
    styles = () if model.vocabulary is None else model.vocabulary.groups.get("styles", ())
    if not styles:
        given = spelled("as the concept's word", "with --word")
        raise SceneError(
            f'The translating preset "interrogate" needs words, but the model "{model.name}" has no list of styles; '
            f'give alternatives {given}, such as "an oil painting | a pencil sketch".'
        )
    return {entry[0]: entry[-1] for entry in styles}


def content_settings(translating: Translating) -> Translating:
    """The settings of learning the content's embeddings."""
    return replace(translating, vectors=translating.content_vectors, rounds=translating.content_rounds)


def learned_from(reference: Image.Image, size: tuple[int, int], model: Model) -> Tensor:
    """Latents [C, H, W] of an image's centre crop, resized to a canvas of size (width, height)."""
    return _latents(np.asarray(ImageOps.fit(reference, size, Image.Resampling.LANCZOS)), model)


def _latents(pixels: NDArray[np.uint8], model: Model) -> Tensor:
    return model.vae.encode(as_tensor(pixels).to(model.device))[0]


def edit_of(prepared: Prepared) -> BackgroundEdit:
    """The background's edit."""
    assert prepared.edit is not None, "a scene with a concept has a background"
    return prepared.edit


def with_learned(prepared: Prepared, learned: Concept, word: str, content: Concept | None) -> Prepared:
    """The same scene with the learned concept, and the content's embeddings, as its files, and the words it has."""
    scene = prepared.scene
    found = scene.translated
    assert found is not None, "the scene has a concept"
    assert found.concept is not None, "the region has a concept"
    files: dict[str, Any] = {"word": word}
    files |= {} if found.concept.file is not None else {"file": ImageRef(data=learned.data())}
    files |= {} if content is None else {"content": ImageRef(data=content.data())}
    own = found.replace(concept=found.concept.replace(**files))
    regions = tuple(own if region is found else region for region in scene.regions)
    return replace(prepared, scene=scene.replace(regions=regions))
