"""The tables of the spatial benchmark."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cloisonne.eval.detection.evaluate import evaluate_detected
from cloisonne.eval.detection.spatial import BOTTOM, LEFT, NEAR, RELATIONS, RIGHT, TOP, read_spatial

REGION = {"found": True, "iou": 1.0, "crop": True, "colour": None, "success": True, "mig_iou": 1.0}


def test_scores_are_means_by_relation(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("".join(f"a cat {relation} a dog\n" for relation in RELATIONS * 2))
    scores = {relation: k / 10 for k, relation in enumerate(RELATIONS)}

    def judge(rgb: np.ndarray, layout: Any) -> dict[str, Any]:
        both = layout.relation != "near"
        regions = [{**REGION, "leakage": 0.0, "somewhere": True}] * 2
        position = scores[layout.relation] > 0.25 if both else None
        return {"regions": regions, "score": scores[layout.relation], "both": both, "position": position}

    report = evaluate_detected(
        lambda scene, method, seed: np.zeros((8, 8, 3), np.uint8),
        judge,
        read_spatial(file),
        tmp_path / "out",
        methods=("bounded",),
        report=lambda line: None,
    )
    tables = {table.name: table for table in report.tables()}
    own: Any = tables["spatial"].rows[0]
    assert own[1].value == pytest.approx(np.mean(list(scores.values())))
    assert own[2].value == pytest.approx(3 / 6)
    assert own[2].n == 12
    assert own[3].value == pytest.approx(6 / 7)
    assert [row[1] for row in tables["spatial"].rows if row[0] == "*SDXL*"] == ["20.32"]
    relations: Any = tables["spatial-relations"].rows[0]
    expected = [scores[one] for one in (LEFT, RIGHT, TOP, BOTTOM)]
    near = [scores[one] for one in NEAR]
    assert [cell.value for cell in relations[1:]] == pytest.approx([*expected, np.mean(near)])
