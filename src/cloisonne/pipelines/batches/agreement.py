"""Whether the images of a data set show what was asked for: each annotation is looked for by a judge."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cloisonne.errors import OutputError
from cloisonne.eval.detection.agreement import MIN_IOU, finder_of
from cloisonne.pipelines.batches.dataset import annotations_of
from cloisonne.pipelines.batches.output_folder import finished_lines
from cloisonne.scene.io.scene_list import AGREEMENT

EACH = "agreement.jsonl"
"""Name of the file with a line for each annotation; ``AGREEMENT`` has the counts."""


def write_agreement(folder: Path, judge: str, device: str = "cpu") -> dict[str, Any]:
    """Judge the annotations of a folder of images, and write ``agreement.jsonl`` and ``agreement.json``.

    A line has the file, the id of the annotation, its category and the IoU of its box with the nearest object of its
    phrase: 0 without one, null where the judge does not know the phrase. From an IoU of 0.5 an object counts as found.

    Args:
        folder: of a batch, with annotations.
        judge: "builtin", "owlv2", "grounding-dino", or a detector's folder.
        device: of the judge.

    Returns:
        The summary: ``judge``, ``images``, ``annotations``, those that were ``judged`` and ``found``, ``mean_iou``, and
        by category ``judged`` and ``found``.

    Raises:
        OutputError: a file cannot be written.
        CheckpointError: the judge cannot be loaded.
    """
    find = finder_of(judge, device)
    lines = finished_lines(folder)
    counts, judged, found, total = Counter[str](), Counter[str](), Counter[str](), 0.0
    number = 0
    try:
        with (folder / EACH).open("w", encoding="utf-8") as file:
            for line in lines:
                own = list(annotations_of(folder, line))
                with Image.open(folder / line.file) as image:
                    rgb = np.asarray(image.convert("RGB"))
                labels = [(one["caption"], _fractions(one["bbox"], line.width, line.height)) for one in own]
                for annotation, overlap in zip(own, find(rgb, labels), strict=True):
                    number += 1
                    name = annotation["caption"]
                    entry = {"file": line.file, "annotation": number, "category": name, "iou": overlap}
                    file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                    counts[name] += 1
                    if overlap is not None:
                        judged[name] += 1
                        found[name] += overlap >= MIN_IOU
                        total += overlap
        summary = {
            "judge": judge,
            "images": len(lines),
            "annotations": counts.total(),
            "judged": judged.total(),
            "found": found.total(),
            "mean_iou": total / judged.total() if judged else None,
            "categories": {name: {"judged": judged[name], "found": found[name]} for name in sorted(counts)},
        }
        text = json.dumps(summary, ensure_ascii=False, indent=1)
        (folder / AGREEMENT).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f'"{folder / EACH}" cannot be written ({error.strerror}); free space on its disk.') from None
    return summary


def agreement_text(summary: Mapping[str, Any]) -> str:
    """The summary in one line."""
    judged, found = summary["judged"], summary["found"]
    if not judged:
        return f"The judge {summary['judge']} knows none of the {summary['annotations']:,} phrases."
    return (
        f"{found:,} of {judged:,} annotations found in their boxes ({found / judged:.1%}) by {summary['judge']}; "
        f"mean IoU {summary['mean_iou']:.3f}"
    )


def _fractions(bbox: list[int], width: int, height: int) -> tuple[float, float, float, float]:
    x, y, w, h = bbox
    return x / width, y / height, (x + w) / width, (y + h) / height
