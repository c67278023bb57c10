"""Zero-shot detectors of transformers: OWLv2 and OWL-ViT (arXiv 2306.09683), Grounding DINO (arXiv 2303.05499).

Boxes are those of transformers' own post-processing when it is given one class at a time.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloisonne.eval.detection.detector import Detection, Detector, Picture, distinct
from cloisonne.eval.detection.layouts import phrase_of
from cloisonne.eval.detection.sources import OWL, detector_folder, refuse_code_in
from cloisonne.extras import check_extra
from cloisonne.models.checkpoints.files import pretrained, read
from cloisonne.models.checkpoints.json_file import read_json

THRESHOLDS = {"owlv2": 0.1, "owlvit": 0.1, "grounding-dino": 0.25, "mm-grounding-dino": 0.25}
"""Least confidence of a box: the defaults of transformers; COCO-MIG has the same for Grounding DINO."""
BATCH = 8
"""Most classes in one forward pass of Grounding DINO, which evaluates the image once for each."""


@dataclass(frozen=True, kw_only=True)
class _Networks:
    """A detector's network and its processor. threshold: least confidence of a box."""

    network: Any
    processor: Any
    threshold: float

    @torch.no_grad()
    def run(self, **inputs: Any) -> Any:
        """The network's output for the processor's inputs."""
        device = self.network.device
        return self.network(**{name: value.to(device) for name, value in inputs.items()})


@dataclass(frozen=True, kw_only=True)
class OwlDetector(_Networks):
    """OWLv2 or OWL-ViT. Queries do not depend on each other, so all classes share one forward pass."""

    padded: bool
    """Whether images are padded to squares, bottom and right, as OWLv2 does."""

    def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
        """See ``Detector``."""
        logits, boxes = self._output(rgb, labels)
        scores = logits.sigmoid()
        found = {}
        for place, label in enumerate(labels):
            confident = scores[:, place] > self.threshold
            found[label] = distinct(boxes[confident].tolist(), scores[confident, place].tolist())
        return found

    def classify(self, rgb: Picture, labels: Sequence[str]) -> str:
        """See ``Detector``."""
        logits, _ = self._output(rgb, labels)
        return labels[int(logits.amax(0).argmax())]

    def _output(self, rgb: Picture, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Logits of the confidences [boxes, classes], and boxes [boxes, 4] in fractions of the image."""
        queries = [f"a photo of {phrase_of(label)}" for label in labels]
        inputs = self.processor(text=[queries], images=[rgb], return_tensors="pt", truncation=True)
        output = self.run(**inputs)
        height, width = rgb.shape[:2]
        side = max(height, width)
        size = (side / width, side / height) if self.padded else (1.0, 1.0)
        scale = torch.tensor([*size, *size])
        return output.logits[0].float().cpu(), _corners(output.pred_boxes[0]) * scale


@dataclass(frozen=True, kw_only=True)
class GroundingDetector(_Networks):
    """Grounding DINO. A class is a sentence of its own; the text's tokens are scored, not classes."""

    def find(self, rgb: Picture, labels: Sequence[str]) -> dict[str, list[Detection]]:
        """See ``Detector``."""
        found: dict[str, list[Detection]] = {}
        for first in range(0, len(labels), BATCH):
            some = labels[first : first + BATCH]
            output, _ = self._output(rgb, [_sentence(label) for label in some])
            for label, logits, boxes in zip(some, output.logits, output.pred_boxes, strict=True):
                scores = logits.sigmoid().max(-1).values.float().cpu()
                confident = scores > self.threshold
                found[label] = distinct(_corners(boxes)[confident].tolist(), scores[confident].tolist())
        return found

    def classify(self, rgb: Picture, labels: Sequence[str]) -> str:
        """See ``Detector``. Where the classes are too many for one text, they are divided among several."""
        best = (-math.inf, labels[0])
        for some in self._texts(labels):
            output, ids = self._output(rgb, [" ".join(map(_sentence, some))])
            tokens = output.logits[0].float().amax(0).cpu()
            # Every token belongs to the class before the next full stop.
            stops = torch.tensor([token == self._stop for token in ids[0].tolist()]).cumsum(0)
            for place, label in enumerate(some):
                own = (stops == place) & (ids[0] != self._stop) & (ids[0] != self.processor.tokenizer.cls_token_id)
                best = max(best, (float(tokens[: len(own)][own].max()), label), key=lambda one: one[0])
        return best[1]

    @property
    def _stop(self) -> int:
        return self.processor.tokenizer.convert_tokens_to_ids(".")

    def _texts(self, labels: Sequence[str]) -> list[list[str]]:
        """The classes, divided so that each part is a text of at most the network's length."""
        most = self.network.config.max_text_len - 2
        parts: list[list[str]] = []
        used = most
        for label in labels:
            length = len(self.processor.tokenizer(_sentence(label), add_special_tokens=False)["input_ids"])
            if used + length > most:
                parts.append([])
                used = 0
            parts[-1].append(label)
            used += length
        return parts

    def _output(self, rgb: Picture, texts: Sequence[str]) -> tuple[Any, Tensor]:
        """The network's output for an image with each of several texts, and the texts' token ids."""
        images = [rgb] * len(texts)
        inputs = self.processor(text=list(texts), images=images, return_tensors="pt", padding=True)
        return self.run(**inputs), inputs["input_ids"]


def _sentence(label: str) -> str:
    return f"{label.strip().lower()}."


def _corners(boxes: Tensor) -> Tensor:
    """Boxes [n, 4] as centre and size, as corners on the CPU."""
    centre, size = boxes.float().cpu().split(2, -1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def load_detector(source: str, device: str = "cpu", threshold: float | None = None) -> Detector:
    """Read a detector. source: "owlv2", "grounding-dino" or a folder in transformers' layout.

    threshold: least confidence of a box; None means that of ``THRESHOLDS``. Raises CheckpointError where a file is
    missing, damaged or of another kind, CapabilityError where a library is missing.
    """
    folder = detector_folder(source)
    refuse_code_in(folder)
    kind = str(read_json(folder / "config.json")["model_type"]).replace("_", "-")
    least = THRESHOLDS[kind] if threshold is None else threshold
    network, processor = read(folder, partial(_read, device=device))
    if kind not in OWL:
        return GroundingDetector(network=network, processor=processor, threshold=least)
    _check_scipy(processor)
    return OwlDetector(network=network, processor=processor, threshold=least, padded=kind == "owlv2")


def _read(folder: Path, device: str) -> tuple[Any, Any]:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    network = pretrained(AutoModelForZeroShotObjectDetection, folder, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    return network.eval().requires_grad_(False).to(device), processor


def _check_scipy(processor: Any) -> None:
    """The image processor of OWLv2 that does without torchvision resizes by scipy."""
    if getattr(processor.image_processor, "backend", "") == "pil":
        check_extra("eval", "OWLv2's image processor", "scipy")
