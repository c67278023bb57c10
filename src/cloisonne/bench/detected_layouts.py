"""Runs a benchmark of layouts with this package's generator and a zero-shot detector as judge."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cloisonne.bench.layout_choice import LayoutChoice
from cloisonne.bench.settings import Settings, methods_of
from cloisonne.eval.detection.detector import Picture
from cloisonne.eval.detection.evaluate import Photograph, evaluate_detected
from cloisonne.eval.detection.layouts import BoxLayout, LayoutList
from cloisonne.eval.detection.measure import Judges
from cloisonne.eval.detection.sam import load_segmenter
from cloisonne.eval.detection.sources import detector_folder, segmenter_folder
from cloisonne.eval.detection.zero_shot import load_detector
from cloisonne.models.checkpoints.file_hash import sha256_of
from cloisonne.models.checkpoints.files import check_weights, weight_files
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.scene import Scene
from cloisonne.scene.io.image_ref import given_picture
from cloisonne.scene.io.images import open_rgb


def detected_layouts(
    settings: Settings, choice: LayoutChoice, layouts: LayoutList, *, methods: Sequence[str] | None = None
) -> str:
    """``evaluate layouts`` with a detector: the tables in markdown.

    layouts: those of the choice. methods: None means all that the model supports. Raises CheckpointError for a judge
    that cannot be read, CapabilityError for a model without text.
    """
    source = choice.judge or ""
    detector = load_detector(source, settings.device, choice.threshold)
    segmenter = None if choice.segmenter is None else load_segmenter(choice.segmenter, settings.device)
    judges = Judges(detector=detector, segmenter=segmenter, classes=layouts.classes, side=layouts.side)
    model = settings.load()

    def run(scene: Scene, method: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene.replace(method=method), model, seed=seed).image.convert("RGB"))

    keywords = settings.keywords(model)
    about = keywords["about"] | {
        "judge": _weights_hash(detector_folder(source)),
        "threshold": choice.threshold,
        "segmenter": choice.segmenter and _weights_hash(segmenter_folder(choice.segmenter)),
    }
    tables = evaluate_detected(
        run,
        judges,
        layouts,
        settings.out,
        methods=methods_of(model, methods, settings.report),
        images=choice.images,
        photograph=None if choice.photos is None else _photographs(choice.photos),
        heading=_heading(model, choice),
        **{**keywords, "about": about},
    )
    return tables.markdown()


def _heading(model: Model, choice: LayoutChoice) -> str:
    """What the figures depend on: the model and its settings, and who judged."""
    native = model.native
    confidence = "its usual confidence" if choice.threshold is None else f"confidence from {choice.threshold:g}"
    colours = "in the detected box" if choice.segmenter is None else f"in the masks of {choice.segmenter}"
    return (
        f"Model {model.name}, {native.steps} steps of {native.sampler}, guidance {native.guidance:g}. Judge "
        f"{choice.judge}, {confidence}; colours {colours}."
    )


def _photographs(folder: Path) -> Photograph:
    def photograph(layout: BoxLayout) -> Picture:
        return np.asarray(open_rgb(given_picture(folder / layout.photo), "photograph"))

    return photograph


def _weights_hash(folder: Path) -> str:
    """A hash of all weights of a network."""
    return "-".join(sha256_of(file)[:16] for file in weight_files(folder, "model", check_weights(folder, "model")))
