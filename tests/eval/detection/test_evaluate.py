"""Runs of a benchmark that a detector judges: resumed without repetition, and tables that count what was judged."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_evaluation
import numpy as np
import pytest
from killed_evaluation import IMAGES, METHODS, generate, layout_list, run

from cloisonne.errors import OutputError
from cloisonne.eval.detection.coco_mig import LEVELS
from cloisonne.eval.detection.evaluate import NEXT_IMAGE, PHOTOGRAPHS
from cloisonne.eval.detection.published import MIG_IOU, MIG_SUCCESS, SPATIAL
from cloisonne.eval.report import Table
from cloisonne.scene import Scene

TOTAL = 8 * IMAGES * len(METHODS)


class Counted:
    """The generator of ``killed_evaluation``, with a list of its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Scene, str, int]] = []

    def __call__(self, scene: Scene, method: str, seed: int) -> np.ndarray:
        self.calls.append((scene, method, seed))
        return generate(scene, method, seed)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("count", [0, 1, 13])
def test_a_killed_run_goes_on_where_it_ended(count: int, tmp_path: Path) -> None:
    run(tmp_path / "whole")
    program = [sys.executable, killed_evaluation.__file__, str(tmp_path / "parts"), str(count)]
    assert subprocess.run(program, check=False).returncode == -signal.SIGKILL
    rest = Counted()
    run(tmp_path / "parts", generate=rest)
    assert len(rest.calls) == TOTAL - count
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_a_line_that_was_cut_off_is_judged_again(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    run(tmp_path / "parts")
    items = tmp_path / "parts" / "items-caption.jsonl"
    items.write_bytes(items.read_bytes()[:-20])
    rest = Counted()
    run(tmp_path / "parts", generate=rest)
    assert len(rest.calls) == 1
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_rows_have_the_same_scenes_and_seeds(tmp_path: Path) -> None:
    counted = Counted()
    run(tmp_path, generate=counted, seed=5)
    layouts = layout_list().layouts
    asked = {method: [(scene, seed) for scene, own, seed in counted.calls if own == method] for method in METHODS}
    seeds = [5 + layout.index + k * NEXT_IMAGE for layout in layouts for k in range(IMAGES)]
    assert [seed for _, seed in asked["bounded"]] == [seed for _, seed in asked["caption"]] == seeds
    assert len(set(seeds)) == len(seeds)
    assert [scene for scene, _ in asked["bounded"]] == [one.scene() for one in layouts for _ in range(IMAGES)]
    assert [scene for scene, _ in asked["caption"]] == [one.captioned() for one in layouts for _ in range(IMAGES)]


def test_limit_and_methods_are_added_without_repetition(tmp_path: Path) -> None:
    run(tmp_path, methods=("bounded",), limit=3)
    more = Counted()
    run(tmp_path, limit=5, generate=more)
    assert sum(method == "bounded" for _, method, _ in more.calls) == 2 * IMAGES
    assert sum(method == "caption" for _, method, _ in more.calls) == 5 * IMAGES


@pytest.mark.parametrize("change", [{"seed": 1}, {"images": 1}, {"about": {"judge": "another"}}])
def test_another_run_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    run(tmp_path, limit=1)
    with pytest.raises(OutputError, match="holds results"):
        run(tmp_path, limit=1, **change)


def test_pictures_are_saved(tmp_path: Path) -> None:
    run(tmp_path, limit=2, save_pictures=True)
    saved = sorted(file.relative_to(tmp_path / "pictures").as_posix() for file in tmp_path.rglob("*.png"))
    assert saved == [f"{row}/0000{layout}-{k}.png" for row in METHODS for layout in (0, 1) for k in range(IMAGES)]


def test_photographs_are_one_more_row(tmp_path: Path) -> None:
    asked: list[int] = []

    def photograph(layout: Any) -> np.ndarray:
        asked.append(layout.index)
        return np.zeros((16, 16, 3), np.uint8)

    report = run(tmp_path, limit=4, photograph=photograph)
    assert asked == [0, 1, 2, 3]
    boxes = next(table for table in report.tables() if table.name == "boxes")
    assert [row[0] for row in boxes.rows] == [*METHODS, PHOTOGRAPHS]


def figures(folder: Path, row: str) -> list[tuple[int, dict[str, Any]]]:
    """Level and figures of every judged instance."""
    lines = (folder / f"items-{row}.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    return [(len(item["regions"]), region) for item in items for region in item["regions"]]


def table(report: Any, name: str) -> Table:
    return next(one for one in report.tables() if one.name == name)


@pytest.mark.parametrize(
    ("name", "figure", "published"),
    [("mig-success", "success", MIG_SUCCESS), ("mig-iou", "mig_iou", MIG_IOU), ("mig-colour", "colour", {})],
)
def test_levels_are_means_over_their_instances(name: str, figure: str, published: Any, tmp_path: Path) -> None:
    found = table(run(tmp_path), name)
    rows = {row[0]: row[1:] for row in found.rows}
    for method in METHODS:
        judged = figures(tmp_path, method)
        for place, level in enumerate((*LEVELS, None)):
            own = [region[figure] for n, region in judged if level in (n, None) and region[figure] is not None]
            cell = rows[method][place]
            if not own:
                assert cell is None
                continue
            assert cell.value == pytest.approx(sum(own) / len(own))
            assert cell.n == len(own)
            assert cell.low <= cell.value <= cell.high
    assert [row for row in rows if row not in METHODS] == [f"*{name}*" for name in published]


def test_published_figures_are_those_of_the_readme(tmp_path: Path) -> None:
    text = run(tmp_path, limit=2).markdown()
    assert "| *MIGC* | 74.0 | 67.0 | 67.0 | 63.0 | 66.0 | 66.0 |" in text
    assert "| *GLIGEN* | 37.0 | 29.0 | 25.3 | 26.0 | 26.0 | 27.0 |" in text
    # The last figure is over instances: two of level 2, three of level 3, ...
    for levels in MIG_SUCCESS.values():
        mean = sum(n * value for n, value in zip(LEVELS, levels[:-1], strict=True)) / sum(LEVELS)
        assert mean == pytest.approx(levels[-1], abs=0.011)
    assert set(SPATIAL) >= {"SDXL", "GLIGEN"}


def test_rows_are_compared_with_the_first(tmp_path: Path) -> None:
    found = table(run(tmp_path), "boxes-differences")
    (row,) = found.rows
    means = [np.mean([region["found"] for _, region in figures(tmp_path, method)]) for method in METHODS]
    assert row[0] == "caption"
    assert row[1].value == pytest.approx(means[1] - means[0])


def test_intervals_cover_layouts_not_images(tmp_path: Path) -> None:
    found = table(run(tmp_path), "boxes")
    cell: Any = found.rows[0][1]
    assert cell.scenes == 8
    assert cell.n == sum(len(layout.instances) for layout in layout_list().layouts) * IMAGES
