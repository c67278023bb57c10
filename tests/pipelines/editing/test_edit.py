"""Edits: a pair of pictures that differ in the edited regions and nowhere else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cloisonne.errors import Cancelled, OutputError, SceneError
from cloisonne.models.model import Model
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.editing.pair import Pair
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.output.files import PAIR, check_pair
from cloisonne.pipelines.progress import Progress
from cloisonne.scene.before_after import halves
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.6, 0.2, 0.9, 0.7)
TREE = Region(name="tree", box=LEFT, phrase="a tree")
ADD = Region(name="hat", box=RIGHT, edit={"kind": "add", "phrase": "a hat"})
REMOVE = Region(name="hat", box=RIGHT, edit={"kind": "remove", "phrase": "a hat"})
CHANGE = Region(name="hat", box=RIGHT, edit={"kind": "change", "from": "a red hat", "to": "a blue hat"})
EDITS = pytest.mark.parametrize("region", [ADD, REMOVE, CHANGE], ids=["add", "remove", "change"])


def scene(*regions: Region, **fields: object) -> Scene:
    return Scene(caption="on the beach", seed=3, steps=4, regions=regions, **fields)


def photo(width: int = 97, height: int = 61, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, bands), np.uint8)
    return Image.fromarray(pixels if bands > 1 else pixels[..., 0], mode)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_halves_say_what_is_there_before_and_after() -> None:
    words = [
        [[(r.name, r.phrase) for r in half.regions] for half in (parts.before, parts.after)]
        for parts in (halves(scene(TREE, region)) for region in (ADD, REMOVE, CHANGE))
    ]
    tree = ("tree", "a tree")
    assert words == [
        [[tree], [tree, ("hat", "a hat")]],
        [[tree, ("hat", "a hat")], [tree]],
        [[tree, ("hat", "a red hat")], [tree, ("hat", "a blue hat")]],
    ]


@pytest.mark.parametrize("field", ["caption", "negative", "phrase"])
def test_texts_of_several_chunks_are_refused(tiny: Model, field: str) -> None:
    long = " ".join(["cat"] * 80)
    given = scene(TREE.replace(phrase=long), CHANGE) if field == "phrase" else scene(CHANGE).replace(**{field: long})
    given = given.replace(method="multidiffusion")
    with pytest.raises(SceneError, match="takes more than 75 tokens, which edits cannot read; shorten"):
        Pair.of(given, tiny)


def test_edits_survive_json() -> None:
    given = scene(TREE, CHANGE)
    assert Scene.from_json(given.to_json()) == given
    assert json.loads(given.to_json())["regions"][1]["edit"] == {
        "kind": "change",
        "from": "a red hat",
        "to": "a blue hat",
    }


@EDITS
def test_the_first_picture_is_that_of_its_half_alone(tiny: Model, region: Region) -> None:
    given = scene(TREE, region)
    alone = generate(halves(given).before, tiny).image
    assert np.abs(pixels(edit(given, tiny).named["before"]) - pixels(alone)).max() <= 1


@EDITS
def test_nothing_but_the_region_changes(tiny: Model, region: Region) -> None:
    result = edit(scene(TREE, region), tiny)
    before, after = pixels(result.named["before"]), pixels(result.image)
    inside = region.soft_mask(*before.shape[:2]) > 0
    assert np.array_equal(before[~inside], after[~inside])
    assert (before[inside] != after[inside]).any()
    assert np.array_equal(pixels(result.named["difference"]), np.abs(before - after))
    assert (result.report["identical_outside"], result.report["max_difference_outside"]) == (True, 0)


@EDITS
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_a_given_picture_keeps_its_bytes_outside(tiny: Model, region: Region, mode: str) -> None:
    given = photo(mode=mode)
    result = edit(scene(TREE, region, background=given), tiny)
    assert (result.image.mode, result.image.size) == (given.mode, given.size)
    assert np.array_equal(pixels(result.named["before"]), pixels(given))
    inside = region.soft_mask(given.height, given.width) > 0
    assert np.array_equal(pixels(result.image)[~inside], pixels(given)[~inside])
    assert (pixels(result.image)[inside] != pixels(given)[inside]).any()
    assert result.report["identical_outside"] is True


def test_several_edits_at_once(tiny: Model) -> None:
    more = Region(name="crown", ellipse=(0.1, 0.1, 0.4, 0.4), edit={"kind": "remove", "phrase": "a crown"})
    result = edit(scene(CHANGE, more), tiny)
    assert result.report["identical_outside"] is True
    changed = pixels(result.named["difference"]).max(-1) > 0
    for region in (CHANGE, more):
        assert changed[region.soft_mask(*changed.shape) > 0].any()


def test_the_same_scene_gives_the_same_pair(tiny: Model) -> None:
    one, other = edit(scene(TREE, CHANGE), tiny), edit(scene(TREE, CHANGE), tiny)
    assert np.array_equal(pixels(one.image), pixels(other.image))
    assert not np.array_equal(pixels(one.image), pixels(edit(scene(TREE, CHANGE), tiny, seed=4).image))


def test_changed_regions_look_at_themselves_as_before(tiny: Model) -> None:
    free, led = (edit(scene(TREE, CHANGE), tiny, self_attention_share=share) for share in (0.0, 1.0))
    assert not np.array_equal(pixels(free.image), pixels(led.image))
    mixed = [
        edit(scene(CHANGE.replace(name="c", box=LEFT), ADD), tiny, self_attention_share=share) for share in (0.0, 1.0)
    ]
    assert np.array_equal(pixels(mixed[0].image), pixels(mixed[1].image))


def test_how_much_of_the_noise_is_fresh(tiny: Model) -> None:
    """The published ways begin at what was found; ours where another thing comes at fresh noise alone."""
    pair = Pair.of(scene(TREE, ADD, background=photo()), tiny)
    found, fresh = torch.randn(2, 4, *pair.grid, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pair.renoised(found, fresh, 0.0), found)
    assert torch.equal(pair.renoised(found, fresh), pair.renoised(found, fresh, 1.0))
    inside = (pair.renoised(found, fresh) == fresh).all(0)
    assert inside.any()
    half = pair.renoised(found, fresh, 0.5)[:, inside]
    torch.testing.assert_close(half, ((found + fresh) * 0.5**0.5)[:, inside])
    drawn = [
        edit(scene(TREE, CHANGE, background=photo()), tiny, preset="p2p", fresh_noise=share) for share in (0.0, 1.0)
    ]
    assert not np.array_equal(pixels(drawn[0].image), pixels(drawn[1].image))


def test_a_given_image_is_edited_in_a_close_up_crop(tiny: Model) -> None:
    """The crop holds only the edited regions; the reported scene has all regions and reproduces the result."""
    near = Region(name="hat", box=(0.7, 0.7, 0.8, 0.8), edit={"kind": "add", "phrase": "a hat"})
    asked = scene(TREE, near, background=photo(200, 160))
    far, close = (edit(asked, tiny, preset="follow", close_up=size) for size in (0.0, 2.0))
    assert close.report["identical_outside"] is True
    reach = [np.argwhere((pixels(made.named["raw"]) != pixels(made.named["before"])).any(-1)) for made in (far, close)]
    assert (np.ptp(reach[1], axis=0) <= 2 * 20 + 8).all()
    assert (np.ptp(reach[0], axis=0) > np.ptp(reach[1], axis=0)).all()
    assert [region.name for region in close.scene.regions] == ["tree", "hat"]
    assert np.array_equal(pixels(edit(close.scene, tiny).image), pixels(close.image))
    with pytest.raises(SceneError, match='Region "tree": lora'):
        edit(scene(TREE.replace(lora={"ink": 1.0}), near, background=photo(200, 160)), tiny, close_up=2.0)
    drawn = [edit(scene(TREE, ADD), tiny, preset="follow", close_up=size) for size in (0.0, 2.0)]
    assert np.array_equal(pixels(drawn[0].image), pixels(drawn[1].image))


def test_rows_are_counted(tiny: Model) -> None:
    drawn = edit(scene(TREE, CHANGE), tiny)
    assert drawn.report["rows"] == 4 * 4
    given = edit(scene(TREE, CHANGE, background=photo()), tiny, preset="follow")
    assert given.report["rows"] == 4 * (1 + 1 + 2)
    fresh = edit(scene(TREE, ADD, background=photo()), tiny)
    assert fresh.report["rows"] == 4 * 2


def test_files_carry_the_scene_and_make_the_pair_again(tiny: Model, workdir: Path) -> None:
    result = edit(scene(TREE, CHANGE, background=photo()), tiny)
    paths = result.save(workdir / "pair")
    assert [path.name for path in paths] == [f"{name}.png" for name in PAIR]
    report = json.loads((workdir / "pair" / "report.json").read_text())
    assert [output["path"] for output in report["outputs"]] == [str(path) for path in paths]
    again = edit(Scene.from_png(paths[1]), tiny)
    assert np.array_equal(pixels(again.image), pixels(result.image))
    with pytest.raises(OutputError, match="exists"):
        result.save(workdir / "pair")
    result.save(workdir / "pair", overwrite=True)
    result.save(workdir / "after.png")
    assert Scene.from_png(workdir / "after.png") == Scene.from_png(paths[1])
    with pytest.raises(OutputError, match="name a folder"):
        check_pair(workdir / "pair.png")


def test_cancelling_writes_nothing(tiny: Model, workdir: Path) -> None:
    def stop(event: Progress) -> None:
        if event.step == 3:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        edit(scene(CHANGE), tiny, on_step=stop)
    assert list(workdir.iterdir()) == []
    assert edit(scene(CHANGE), tiny).report["identical_outside"] is True


def test_what_cannot_be_edited_is_refused(tiny: Model) -> None:
    with pytest.raises(SceneError, match="No region has an edit"):
        edit(scene(TREE), tiny)
    with pytest.raises(SceneError, match=r'"hat".*one edit of kind .change'):
        edit(scene(ADD, REMOVE.replace(name="other")), tiny)
    with pytest.raises(SceneError, match=r'"hat".*makes two images; use edit\(\.\.\.\)'):
        generate(scene(ADD), tiny)
    with pytest.raises(SceneError, match=r"fresh_noise is 1\.5; give a number from 0 to 1"):
        edit(scene(ADD), tiny, fresh_noise=1.5)
    with pytest.raises(SceneError, match="self_attention_share is 2"):
        edit(scene(ADD), tiny, self_attention_share=2.0)


def test_an_edit_that_does_not_fit_the_text_is_refused(tiny: Model) -> None:
    long = [TREE.replace(name=f"t{k}", phrase="red orange blue stars " * 4) for k in range(8)]
    with pytest.raises(SceneError, match=r'"hat".*do not fit'):
        edit(scene(*long, CHANGE.replace(priority=-5), method="reco"), tiny)


def test_steps_report_their_stage_and_a_preview(tiny: Model) -> None:
    events: list[Progress] = []
    edit(scene(CHANGE, background=photo()), tiny, on_step=events.append, inversion="null-text")
    assert [event.stage for event in events] == ["inversion"] * 4 + ["null text"] * 4 + ["sampling"] * 4
    assert [event.step for event in events] == [1, 2, 3, 4] * 3
    assert {(event.verb, event.total) for event in events} == {("edit", 4)}
    assert [event.loss is None for event in events] == [True] * 4 + [False] * 4 + [True] * 4
    seen = [event.preview() for event in events]
    assert [image is None for image in seen] == [False] * 4 + [True] * 4 + [False] * 4
    assert seen[-1] is not None
    assert min(seen[-1].size) >= 16
