"""Boxes, confidences and classes are those of transformers' own post-processing of the same networks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectors import write_grounding_dino, write_owl, write_sam

from cloisonne.errors import CheckpointError
from cloisonne.eval.detection.detector import Picture, distinct
from cloisonne.eval.detection.sam import load_segmenter
from cloisonne.eval.detection.zero_shot import THRESHOLDS, load_detector

KINDS: dict[str, Callable[[Path], Path]] = {
    "owlv2": write_owl,
    "owlvit": lambda folder: write_owl(folder, version=1),
    "grounding-dino": write_grounding_dino,
    "mm-grounding-dino": lambda folder: write_grounding_dino(folder, mm=True),
}
LABELS = ("cat", "hot dog", "stop sign", "zebra")
SHAPES = ((48, 64, 3), (64, 48, 3), (40, 40, 3))


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, KINDS[request.param](tmp_path_factory.mktemp("detector") / "network")


def picture(shape: tuple[int, int, int], seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


@torch.no_grad()
def processed(kind: str, detector: Any, rgb: Picture, labels: Sequence[str], threshold: float) -> dict[str, Any]:
    """What transformers makes of an image and a list of classes."""
    texts = [f"a photo of a {label}" for label in labels] if kind.startswith("owl") else list(labels)
    cut = {"truncation": True} if kind.startswith("owl") else {}
    inputs = detector.processor(text=[texts], images=[rgb], return_tensors="pt", **cut)
    output = detector.network(**inputs)
    sizes = [rgb.shape[:2]]
    own = {} if kind.startswith("owl") else {"input_ids": inputs["input_ids"]}
    process = detector.processor.post_process_grounded_object_detection
    return process(output, threshold=threshold, target_sizes=sizes, **own)[0]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_boxes_are_those_of_transformers(checkpoint: tuple[str, Path], shape: tuple[int, int, int]) -> None:
    kind, folder = checkpoint
    rgb = picture(shape)
    every = processed(kind, load_detector(str(folder)), rgb, ["cat"], 0.0)["scores"].sort().values
    threshold = float(every[len(every) // 2 :][:2].mean())
    detector = load_detector(str(folder), threshold=threshold)
    found = detector.find(rgb, LABELS)
    assert list(found) == list(LABELS)
    for label in LABELS:
        raw = processed(kind, detector, rgb, [label], threshold)
        size = np.array([shape[1], shape[0], shape[1], shape[0]])
        expected = distinct((raw["boxes"].numpy() / size).tolist(), raw["scores"].tolist())
        assert [one.score for one in found[label]] == pytest.approx([one.score for one in expected], abs=1e-5)
        for one, other in zip(found[label], expected, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-4)
    counts = [len(found[label]) for label in LABELS]
    assert max(counts) > 0
    assert min(counts) < len(every)


@pytest.mark.parametrize("seed", range(4))
def test_class_is_that_of_the_most_confident_box(checkpoint: tuple[str, Path], seed: int) -> None:
    kind, folder = checkpoint
    detector: Any = load_detector(str(folder))
    rgb = picture((40, 40, 3), seed)
    raw = processed(kind, detector, rgb, LABELS, 0.0)
    best = int(raw["scores"].argmax())
    if kind.startswith("owl"):
        assert detector.classify(rgb, LABELS) == LABELS[int(raw["labels"][best])]
        return
    # The tokens of the best box, by falling confidence: the class of the first one that is in a class.
    inputs = detector.processor(text=[list(LABELS)], images=[rgb], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    logits = detector.network(**inputs).logits[0, :, : len(ids)].amax(0)
    words = detector.processor.tokenizer.convert_ids_to_tokens(ids)
    places = [k for k in logits.argsort(descending=True).tolist() if words[k] not in ("[CLS]", "[SEP]", ".")]
    assert detector.classify(rgb, LABELS) == LABELS[words[: places[0]].count(".")]


def test_order_and_number_of_classes_change_nothing(checkpoint: tuple[str, Path]) -> None:
    detector = load_detector(str(checkpoint[1]), threshold=0.0)
    rgb = picture(SHAPES[0])
    many = detector.find(rgb, [*LABELS, "car", "bird", "red car", "blue bird", "remote control"])
    for label in LABELS:
        alone = detector.find(rgb, [label])[label]
        assert len(alone) == len(many[label])
        for one, other in zip(alone, many[label], strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-4)


def test_classes_beyond_one_text_are_divided(tmp_path: Path) -> None:
    detector: Any = load_detector(str(write_grounding_dino(tmp_path / "short", text_length=12)))
    labels = [*LABELS, "car", "bird", "red car"]
    parts = detector._texts(labels)
    assert len(parts) > 1
    assert [label for part in parts for label in part] == labels
    for part in parts:
        text = " ".join(f"{label}." for label in part)
        assert len(detector.processor.tokenizer(text)["input_ids"]) <= 12
    assert detector.classify(picture(SHAPES[0]), labels) in labels


def test_usual_thresholds(checkpoint: tuple[str, Path]) -> None:
    kind, folder = checkpoint
    detector: Any = load_detector(str(folder))
    assert detector.threshold == THRESHOLDS[kind]


def test_masks_are_those_of_transformers(tmp_path: Path) -> None:
    segmenter: Any = load_segmenter(str(write_sam(tmp_path / "sam")))
    rgb = picture(SHAPES[0])
    boxes = ((0.1, 0.1, 0.5, 0.5), (0.5, 0.4, 0.9, 0.9))
    masks = segmenter(rgb, boxes)
    for box, mask in zip(boxes, masks, strict=True):
        pixels = [box[0] * 64, box[1] * 48, box[2] * 64, box[3] * 48]
        inputs = segmenter.processor([rgb], input_boxes=[[pixels]], return_tensors="pt")
        output = segmenter.network(**{k: inputs[k].float() for k in ("pixel_values", "input_boxes")})
        process = segmenter.processor.image_processor.post_process_masks
        three = process(output.pred_masks.detach(), inputs["original_sizes"], inputs["reshaped_input_sizes"])[0][0]
        assert mask.shape == rgb.shape[:2]
        assert np.array_equal(mask, three[int(output.iou_scores[0, 0].argmax())].numpy())


@pytest.mark.parametrize("key", ["auto_map", "_attn_implementation"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_keys_that_name_code_are_refused(checkpoint: tuple[str, Path], tmp_path: Path, name: str, key: str) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in checkpoint[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    data = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(data | {key: {"AutoModel": "code.Model"}}))
    with pytest.raises(CheckpointError, match=f'{name}" has {key}'):
        load_detector(str(folder))


def test_missing_tensors_are_refused(checkpoint: tuple[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    folder.mkdir()
    for file in checkpoint[1].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in sorted(tensors) if "class_head.dense0.weight" in name or "input_proj" in name)
    save_file({name: value for name, value in tensors.items() if name != gone}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="lacks 1 tensors"):
        load_detector(str(folder))
