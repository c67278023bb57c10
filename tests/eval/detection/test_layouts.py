"""Layouts from COCO's annotations, and from the files of COCO-MIG or by its procedure."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from coco_files import CLASSES, write_captions, write_instances

from cloisonne.errors import SceneError
from cloisonne.eval.detection.coco import coco_layouts
from cloisonne.eval.detection.coco_mig import LEVELS, PER_LEVEL, read_mig, sampled
from cloisonne.eval.detection.colours import HSV
from cloisonne.eval.detection.layouts import BoxLayout, Instance, interleaved
from cloisonne.eval.detection.world import world_layouts
from cloisonne.eval.layouts import layouts

LARGE = (20.0, 10.0, 100.0, 50.0)


def crowded(path: Path, count: int = 60) -> Path:
    """Photographs with 1 to 8 objects of falling size, and one too small; every fifth has a person."""
    photos: dict[int, Any] = {}
    for k in range(count):
        some = [(CLASSES[1 + (k + j) % 3], (2.0 * j, 1.0 * j, 40.0 + 5 * j, 30.0)) for j in range(1 + k % 8)]
        photos[k] = [*some, ("dog", (0.0, 0.0, 24.0, 90.0))]
        if k % 5 == 0:
            photos[k].append(("person", LARGE))
    return write_instances(path, photos)


def test_coco_layouts_are_the_large_objects_of_each_photograph(tmp_path: Path) -> None:
    photos = {
        7: [("cat", LARGE), ("apple", (150.0, 50.0, 80.0, 60.0)), ("dog", (0.0, 0.0, 24.0, 99.0))],
        8: [("dog", LARGE, 1)],
        9: [("dog", LARGE)],
        10: [("cat", LARGE)] * 7,
    }
    instances = write_instances(tmp_path / "instances.json", photos)
    captions = write_captions(tmp_path / "captions.json", {k: [f"First of {k}.", "Second."] for k in (7, 8, 10)})
    found = coco_layouts(instances, captions)
    (layout,) = found.layouts
    assert layout.caption == "First of 7."
    assert layout.photo == "000000000007.jpg"
    assert layout.instances == (
        Instance(label="cat", phrase="a cat", box=(0.1, 0.1, 0.6, 0.6)),
        Instance(label="apple", phrase="an apple", box=(0.75, 0.5, 1.0, 1.0)),
    )
    assert found.classes == CLASSES
    assert layout.sentence == "First of 7, a cat, an apple"
    assert [region.phrase for region in layout.scene().regions] == ["a cat", "an apple"]
    assert layout.scene().caption == layout.caption
    assert not layout.captioned().regions


def test_coco_order_is_fixed_and_random(tmp_path: Path) -> None:
    instances = write_instances(tmp_path / "instances.json", {k: [("cat", LARGE)] for k in range(50)})
    captions = write_captions(tmp_path / "captions.json", {k: [f"Caption {k}"] for k in range(50)})
    found = coco_layouts(instances, captions)
    texts = [layout.caption for layout in found.layouts]
    assert sorted(texts) == sorted(f"Caption {k}" for k in range(50))
    assert texts != [f"Caption {k}" for k in range(50)]
    assert [layout.index for layout in found.layouts] == list(range(50))
    assert found == coco_layouts(instances, captions)
    assert found.sha256 == coco_layouts(instances, captions).sha256


def test_syntax_in_captions_is_literal(tmp_path: Path) -> None:
    instances = write_instances(tmp_path / "instances.json", {1: [("cat", LARGE)]})
    captions = write_captions(tmp_path / "captions.json", {1: ["A cat (left) [near a {red|blue} wall"]})
    (layout,) = coco_layouts(instances, captions).layouts
    from cloisonne.scene.prompt import plain

    assert plain(layout.scene().caption) == "A cat (left) [near a {red|blue} wall"


def test_sampled_layouts_follow_the_published_procedure(tmp_path: Path) -> None:
    found = sampled(crowded(tmp_path / "instances.json"))
    prompts = [layout.caption for layout in found.layouts]
    assert len(set(prompts)) == len(prompts)
    for layout in found.layouts:
        assert len(layout.instances) in LEVELS
        assert layout.caption == "a photo of " + " and ".join(one.phrase for one in layout.instances)
        for one in layout.instances:
            assert one.label in CLASSES[1:]
            assert one.colour in HSV
            assert one.phrase == f"a {one.colour} {one.label}"
            assert min(one.box[2] - one.box[0], one.box[3] - one.box[1]) >= 1 / 8
    six = [layout for layout in found.layouts if len(layout.instances) == 6]
    areas = [[(one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) for one in layout.instances] for layout in six]
    assert any(own == sorted(own, reverse=True) and len(set(own)) > 1 for own in areas)
    # Every photograph of at least two large objects is used, but for those with a person among the first six.
    assert len(found.layouts) == sum(1 + k % 8 >= (2 if k % 5 else 6) for k in range(60))
    assert found.classes == tuple(sorted(CLASSES[1:]))


def test_sampling_is_by_seed(tmp_path: Path) -> None:
    file = crowded(tmp_path / "instances.json")
    assert sampled(file, 3) == sampled(file, 3)
    assert sampled(file, 3).sha256 != sampled(file, 4).sha256
    colours = Counter(one.colour for layout in sampled(file).layouts for one in layout.instances)
    assert set(colours) == set(HSV)


def test_levels_are_limited(tmp_path: Path) -> None:
    two = [("cat", LARGE), ("dog", LARGE)]
    found = sampled(write_instances(tmp_path / "instances.json", dict.fromkeys(range(4000), two)))
    # Of two objects in seven colours there are 49 prompts.
    assert len(found.layouts) == 49
    three = [*two, ("apple", LARGE)]
    found = sampled(write_instances(tmp_path / "instances.json", dict.fromkeys(range(4000), three)))
    assert len(found.layouts) == PER_LEVEL


def test_any_prefix_has_all_levels() -> None:
    one = Instance(label="cat", phrase="a cat", box=(0, 0, 1, 1))
    given = [BoxLayout(index=0, caption=f"{n}-{k}", instances=(one,) * n) for n in (4, 2, 3) for k in range(n)]
    ordered = interleaved(given)
    assert [len(layout.instances) for layout in ordered] == [2, 3, 4, 2, 3, 4, 3, 4, 4]
    assert [layout.index for layout in ordered] == list(range(9))
    assert sorted(layout.caption for layout in ordered) == sorted(layout.caption for layout in given)


def test_both_files_of_the_benchmark_are_the_same_layouts(tmp_path: Path) -> None:
    made = sampled(crowded(tmp_path / "instances.json"))
    phrases: dict[str, Any] = {}
    numbered: dict[str, Any] = {}
    for layout in made.layouts:
        own: dict[str, Any] = {"coco_id": str(layout.index)}
        for one in sorted(layout.instances, key=lambda one: one.phrase):
            own.setdefault(one.phrase, []).append(list(one.box))
        phrases[layout.caption] = own
        segment = [{"bbox": list(one.box), "label": one.phrase[2:]} for one in layout.instances]
        numbered[str(layout.index)] = {"caption": f"{layout.caption} ", "segment": segment, "image_id": "7"}
    (tmp_path / "anno.yaml").write_text(yaml.safe_dump(phrases, sort_keys=True))
    (tmp_path / "bench.json").write_text(json.dumps(numbered))
    assert read_mig(tmp_path / "bench.json") == made
    read = read_mig(tmp_path / "anno.yaml")
    assert read.side == made.side == 512
    by_prompt = {layout.caption: layout for layout in read.layouts}
    assert len(by_prompt) == len(made.layouts)
    for layout in made.layouts:
        assert Counter(by_prompt[layout.caption].instances) == Counter(layout.instances)


WRONG: dict[str, tuple[str, str]] = {
    "[]": ("bench.json", "holds no object"),
    "{": ("bench.json", "cannot be read"),
    "{}": ("bench.json", "has no layouts"),
    '{"a photo": ["a red cat"]}': ("bench.json", "is no prompt with phrases"),
    '{"0": {"caption": 3, "segment": []}}': ("bench.json", "without caption and segment"),
    '{"0": {"caption": "a", "segment": [{"label": "pink cat", "bbox": [0, 0, 1, 1]}]}}': ("bench.json", "pink cat"),
    '{"0": {"caption": "a", "segment": [{"label": "red cat", "bbox": [0, 0, 1]}]}}': ("bench.json", "has the box"),
    '{"0": {"caption": "a", "segment": [{"label": "red cat", "bbox": [2, 2, 3, 3]}]}}': ("bench.json", "is empty"),
    '{"0": {"caption": "a", "segment": [{"label": "red cat", "bbox": [0, 0, 1, 1]}]}}': ("bench.json", "2 to 6 boxes"),
    "a photo of a red cat:\n  a red cat: 3\n": ("anno.yaml", "without a list of boxes"),
    "a: [": ("anno.yaml", "cannot be read"),
    "a: !!python/object/apply:os.system [ls]\n": ("anno.yaml", "cannot be read"),
}


@pytest.mark.parametrize("text", WRONG)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    name, message = WRONG[text]
    (tmp_path / name).write_text(text)
    with pytest.raises(SceneError, match=message) as raised:
        read_mig(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_other_annotations_are_refused(key: str, tmp_path: Path) -> None:
    file = write_instances(tmp_path / "instances.json", {1: [("cat", LARGE)] * 2})
    data = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in data.items() if name != key}))
    with pytest.raises(SceneError, match=f'has no list "{key}"'):
        sampled(file)


def test_annotations_without_layouts_are_refused(tmp_path: Path) -> None:
    instances = write_instances(tmp_path / "instances.json", {1: [("person", LARGE)] * 2})
    captions = write_captions(tmp_path / "captions.json", {2: ["Another photograph"]})
    with pytest.raises(SceneError, match="No photograph"):
        sampled(instances)
    with pytest.raises(SceneError, match="No photograph"):
        coco_layouts(instances, captions)


def test_world_layouts_are_those_of_layouts_v1() -> None:
    found = world_layouts()
    assert len(found.layouts) == len(layouts())
    for layout, other in zip(found.layouts, layouts(), strict=True):
        assert layout.caption == other.caption
        assert [one.box for one in layout.instances] == [region.box for region in other.regions]
        assert [one.phrase for one in layout.instances] == [region.phrase for region in other.regions]
        assert {one.label for one in layout.instances} <= set(found.classes)
