"""Which benchmark of layouts runs, and who judges: what does not fit is refused with what to give instead."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coco_files import write_captions, write_instances

from cloisonne.bench.layout_choice import LayoutChoice
from cloisonne.errors import CheckpointError, SceneError

LARGE = (20.0, 10.0, 100.0, 50.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One file of every benchmark, and a folder that passes for a detector until it is loaded."""
    write_instances(tmp_path / "instances.json", {1: [("cat", LARGE), ("dog", LARGE)]})
    write_captions(tmp_path / "captions.json", {1: ["A cat and a dog"]})
    (tmp_path / "prompts.txt").write_text("a cat next to a dog\n")
    box = {"label": "red cat", "bbox": [0, 0, 0.5, 0.5]}
    (tmp_path / "bench.json").write_text(json.dumps({"0": {"caption": "two cats", "segment": [box, box]}}))
    for name, kind in (("judge", "owlv2"), ("sam", "sam")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": kind}))
        (tmp_path / name / "model.safetensors").write_text("")
    return tmp_path


def choice(folder: Path, **given: Any) -> LayoutChoice:
    """File names are those in the folder."""
    named = ("file", "instances", "captions", "photos")
    paths = {name: folder / value for name, value in given.items() if name in named}
    texts = {name: str(folder / value) for name, value in given.items() if name in ("judge", "segmenter") and value}
    return LayoutChoice(**given | paths | (texts if given.get("judge") not in (None, "builtin") else {}))


FITTING: dict[str, dict[str, Any]] = {
    "layouts-v1": {},
    "layouts-v1, a detector": {"judge": "judge"},
    "coco": {"benchmark": "coco", "judge": "judge", "instances": "instances.json", "captions": "captions.json"},
    "coco-mig": {"benchmark": "coco-mig", "judge": "judge", "file": "bench.json", "segmenter": "sam"},
    "coco-mig, made": {"benchmark": "coco-mig", "judge": "judge", "instances": "instances.json", "layout_seed": 3},
    "spatial": {"benchmark": "spatial", "judge": "judge", "file": "prompts.txt", "images": 10, "threshold": 0.3},
}


@pytest.mark.parametrize("name", FITTING)
def test_each_benchmark_has_its_layouts(name: str, folder: Path) -> None:
    chosen = choice(folder, **FITTING[name])
    chosen.check()
    found = chosen.layouts()
    assert found.name == name.partition(",")[0]
    assert found.layouts
    assert chosen.detected == ("judge" in FITTING[name])


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "benchmark": ({"benchmark": "coco-pose"}, 'no benchmark "coco-pose"; choose one of layouts-v1, coco, coco-mig'),
    "judge of coco": ({**FITTING["coco"], "judge": "builtin"}, "The built-in judge knows only .*; give --judge"),
    "judge of spatial": ({**FITTING["spatial"], "judge": None}, "The built-in judge knows only .*; give --judge"),
    "no instances": ({"benchmark": "coco", "judge": "judge"}, "needs COCO's instances_val2017.json; give --instances"),
    "no captions": (
        {"benchmark": "coco", "judge": "judge", "instances": "instances.json"},
        "needs COCO's captions_val2017.json; give --captions",
    ),
    "no prompts": ({"benchmark": "spatial", "judge": "judge"}, "needs the benchmark's file; give --file"),
    "file of coco": ({**FITTING["coco"], "file": "bench.json"}, "does not use --file; leave it out"),
    "photos of coco-mig": ({**FITTING["coco-mig"], "photos": "."}, "does not use --photos"),
    "instances of layouts-v1": ({"instances": "instances.json"}, "does not use --instances"),
    "both of coco-mig": ({**FITTING["coco-mig"], "instances": "instances.json"}, "give one of them"),
    "none of coco-mig": ({"benchmark": "coco-mig", "judge": "judge"}, "give one of them"),
    "layout seed": ({**FITTING["coco-mig"], "layout_seed": 1}, "--layout-seed is for layouts .* made"),
    "threshold": ({**FITTING["coco"], "threshold": 1.5}, r"--threshold is 1\.5; give a confidence from 0 to 1"),
    "segmenter alone": ({"segmenter": "sam"}, "The built-in judge has no --segmenter"),
    "threshold alone": ({"threshold": 0.2}, "The built-in judge has no --threshold"),
    "images alone": ({"images": 2}, "measures one image of each layout"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str, folder: Path) -> None:
    given, message = WRONG[name]
    with pytest.raises(SceneError, match=message):
        choice(folder, **given).check()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"instances": "absent.json"}, SceneError, r"There is no file \".*absent.json\" \(COCO's instances"),
        ({"photos": "absent"}, SceneError, r"There is no file \".*absent\" \(the folder of COCO's photographs\)"),
        ({"judge": "absent"}, CheckpointError, 'There is no judge ".*absent"'),
        ({"segmenter": "absent"}, CheckpointError, 'There is no segmenter ".*absent"'),
    ],
)
def test_missing_files_are_named(changes: dict[str, Any], error: type[Exception], message: str, folder: Path) -> None:
    with pytest.raises(error, match=message):
        choice(folder, **FITTING["coco"] | changes).check()


def test_files_are_read_before_any_network_library_is_imported(folder: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from cloisonne.bench.layout_choice import LayoutChoice\n"
        "for name, path in (('coco-mig', 'bench.json'), ('spatial', 'prompts.txt')):\n"
        "    choice = LayoutChoice(benchmark=name, judge=str(Path('judge').resolve()), file=Path(path))\n"
        "    choice.check()\n"
        "    assert choice.layouts().layouts\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'scipy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
