"""The layouts benchmark from end to end, with a generator and a judge that understand each other's painted boxes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cloisonne.errors import OutputError
from cloisonne.eval import benchmark
from cloisonne.eval.benchmark import CEILINGS, evaluate_layouts
from cloisonne.eval.judge import CLASS_OF, EMBEDDING, Verdict
from cloisonne.eval.layouts import layouts
from cloisonne.eval.report import Table
from cloisonne.scene import Scene
from cloisonne.world.glyphs import COLOURS, TRAINING

METHODS = ("reco", "caption")
CHAR_OF = {region.phrase: region.char for layout in layouts() for region in layout.regions}


class Painter:
    """Paints each region in the colour of its class; from a caption it can only guess the middle."""

    def __init__(self, stop_after: int = 1_000_000) -> None:
        self.calls: list[tuple[Scene, str, int]] = []
        self.left = stop_after

    def __call__(self, scene: Scene, method: str, seed: int) -> np.ndarray:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        self.calls.append((scene, method, seed))
        rgb = np.zeros((128, 128, 3), np.uint8)
        for region in scene.regions:
            x0, y0, x1, y1 = (round(value * 128) for value in region.box)
            rgb[y0:y1, x0:x1] = paint(CLASS_OF[CHAR_OF[region.phrase]])
        return rgb


def paint(number: int) -> tuple[int, int, int]:
    return (number // 256, number % 256, 255)


@torch.no_grad()
def judge(pictures: Tensor) -> Verdict:
    """Reads ``paint`` at the middle of each cell; real drawings say nothing to it."""
    rgb = (pictures[:, :, 4::8, 4::8] * 127.5 + 127.5).round().long()
    number = torch.where(rgb[:, 2] == 255, rgb[:, 0] * 256 + rgb[:, 1], 0)
    number = torch.where(number <= len(TRAINING), number, 0)
    seen = torch.nn.functional.one_hot(number, 1 + len(TRAINING)).permute(0, 3, 1, 2).float()
    n = len(pictures)
    colours = torch.zeros(n, 1 + len(COLOURS), 16, 16)
    return Verdict(seen * 20, colours, torch.zeros(n, 8), pictures.mean((1, 2, 3))[:, None].expand(n, EMBEDDING))


def through_vae(rgb: np.ndarray) -> np.ndarray:
    return rgb // 2


def run(out: Path, painter: Painter, **options: Any) -> Any:
    settings = {"methods": METHODS, "limit": 12, "report": lambda line: None} | options
    return evaluate_layouts(painter, judge, through_vae, out, **settings)


def test_a_generator_that_obeys_is_found_and_one_that_cannot_know_is_not(tmp_path: Path) -> None:
    painter = Painter()
    group = run(tmp_path, painter).groups["all"]
    assert list(group.rows) == [*METHODS, *CEILINGS]
    reco, caption = group.rows["reco"], group.rows["caption"]
    assert group.scenes == reco["found"].scenes == 10
    assert group.regions == reco["found"].n
    assert reco["found"].value > 0.9
    assert reco["crop"].value == 1
    assert reco["leakage"].value == 0
    assert caption["found"].value == caption["somewhere"].value == 0
    assert group.differences["caption"]["found"].value == -reco["found"].value
    assert reco["frechet_whole"] is None, "12 pictures are too few"


def test_rows_get_the_same_scenes_and_seeds(tmp_path: Path) -> None:
    painter = Painter()
    run(tmp_path, painter, seed=5)
    asked = {method: [(s, seed) for s, m, seed in painter.calls if m == method] for method in METHODS}
    assert [seed for _, seed in asked["reco"]] == [5 + layout.seed for layout in layouts()[:12]]
    assert [seed for _, seed in asked["reco"]] == [seed for _, seed in asked["caption"]]
    assert [scene for scene, _ in asked["reco"]] == [layout.scene() for layout in layouts()[:12]]
    assert [scene for scene, _ in asked["caption"]] == [layout.captioned() for layout in layouts()[:12]]


def test_groups(tmp_path: Path) -> None:
    groups = run(tmp_path, Painter(), limit=20).groups
    chosen = layouts()[:20]
    assert groups["all"].scenes == 16
    assert groups["held-out"].scenes == 4
    assert groups["overlapped"].scenes == 4
    assert groups["overlapped"].regions == sum(
        layout.overlapped(k) for layout in chosen if not layout.held_out for k in range(len(layout.regions))
    )
    assert groups["all"].regions + groups["held-out"].regions == sum(len(layout.regions) for layout in chosen)


def test_stopped_run_continues_and_ends_the_same(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Painter())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Painter(stop_after=7))
    rest = Painter()
    parts = run(tmp_path / "parts", rest)
    assert len(rest.calls) == 2 * 12 - 7
    assert parts == whole
    for file in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "parts" / file.name).read_text() == file.read_text()


def test_a_line_an_item_and_none_for_what_is_there(tmp_path: Path) -> None:
    lines: list[str] = []
    run(tmp_path, Painter(), limit=3, report=lines.append)
    assert lines == [f"{done} of 3 layouts" for done in (1, 2, 3)]
    lines.clear()
    run(tmp_path, Painter(), limit=5, report=lines.append)
    assert lines == ["4 of 5 layouts", "5 of 5 layouts"]
    lines.clear()
    run(tmp_path, Painter(), limit=5, report=lines.append)
    assert lines == ["5 of 5 layouts"]


def test_finished_run_asks_nothing_and_a_larger_limit_only_the_rest(tmp_path: Path) -> None:
    run(tmp_path, Painter(), limit=3)
    run(tmp_path, Painter(stop_after=0), limit=3)
    more = Painter()
    run(tmp_path, more, limit=5)
    assert {seed for _, _, seed in more.calls} == {layout.seed for layout in layouts()[3:5]}


def test_other_models_do_not_join_a_run(tmp_path: Path) -> None:
    run(tmp_path, Painter(), limit=1, about={"model": "a"})
    with pytest.raises(OutputError, match="holds results with model 'a', not 'b'"):
        run(tmp_path, Painter(), limit=1, about={"model": "b"})
    with pytest.raises(OutputError, match="seed"):
        run(tmp_path, Painter(), limit=1, about={"model": "a"}, seed=1)


def test_limit_below_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        run(tmp_path, Painter(), limit=0)
    assert not list(tmp_path.iterdir())


def test_files(tmp_path: Path) -> None:
    results = run(tmp_path, Painter(), limit=2, save_pictures=True)
    assert (tmp_path / "layouts.md").read_text() == results.report().markdown()
    assert json.loads((tmp_path / "run.json").read_text())["layouts"] == benchmark.SHA256
    written = json.loads((tmp_path / "layouts.json").read_text())["tables"]
    assert [Table.of(table).markdown() for table in written] == [one.markdown() for one in results.report().tables()]
    pictures = sorted(path.relative_to(tmp_path / "pictures").as_posix() for path in tmp_path.glob("pictures/*/*"))
    assert pictures == sorted(f"{row}/{k:04d}.png" for row in (*METHODS, *CEILINGS) for k in range(2))
    assert not list(tmp_path.rglob("*.partial"))
