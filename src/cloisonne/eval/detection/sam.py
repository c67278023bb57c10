"""Segment Anything (Kirillov et al. 2023, arXiv 2304.02643), prompted by a box, as transformers has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cloisonne.eval.detection.detector import Mask, Picture, Segmenter
from cloisonne.eval.detection.sources import refuse_code_in, segmenter_folder
from cloisonne.models.checkpoints.files import pretrained, read
from cloisonne.scene import Box


@dataclass(frozen=True, kw_only=True)
class SamSegmenter:
    """SAM and its processor."""

    network: Any
    processor: Any

    @torch.no_grad()
    def __call__(self, rgb: Picture, boxes: Sequence[Box]) -> list[Mask]:
        """See ``Segmenter``: of three masks for each box, the one with the best predicted quality."""
        height, width = rgb.shape[:2]
        pixels = [[x0 * width, y0 * height, x1 * width, y1 * height] for x0, y0, x1, y1 in boxes]
        inputs = self.processor([rgb], input_boxes=[pixels], return_tensors="pt")
        sizes, resized = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        given = {name: inputs[name].to(self.network.device) for name in ("pixel_values", "input_boxes")}
        given["input_boxes"] = given["input_boxes"].float()
        output = self.network(**given, multimask_output=True)
        masks = self.processor.image_processor.post_process_masks(output.pred_masks.float().cpu(), sizes, resized)[0]
        best = output.iou_scores[0].argmax(-1).tolist()
        return [masks[place, chosen].numpy().astype(bool) for place, chosen in enumerate(best)]


def load_segmenter(source: str, device: str = "cpu") -> Segmenter:
    """Read SAM. source: "sam" or a folder in transformers' layout. Raises CheckpointError."""
    folder = segmenter_folder(source)
    refuse_code_in(folder)
    network, processor = read(folder, partial(_read, device=device))
    return SamSegmenter(network=network, processor=processor)


def _read(folder: Path, device: str) -> tuple[Any, Any]:
    from transformers import SamModel, SamProcessor

    network = pretrained(SamModel, folder, dtype=torch.float32)
    return network.eval().requires_grad_(False).to(device), SamProcessor.from_pretrained(folder, local_files_only=True)
