import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import cloisonne as cl
from cloisonne.cli.main import app
from cloisonne.cli.scene_arguments import option_and_values
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.output.contact_sheet import contact_sheet
from cloisonne.pipelines.sweep import swept
from cloisonne.scene import Region, Scene

CAT = Region(name="pet", box=(0.1, 0.1, 0.6, 0.6), phrase="a cat")
CAR = Region(name="my.car", box=(0.5, 0.5, 1.0, 1.0), phrase="a car")
THING = Region(name="thing", box=(0.0, 0.6, 0.4, 1.0), exemplar=np.zeros((8, 8, 3), np.uint8))
EDGES = Region(name="edges", box=(0.6, 0.0, 1.0, 0.4), control={"kind": "canny", "image": np.zeros((8, 8), np.uint8)})
SCENE = Scene(caption="on the beach", seed=3, steps=3, regions=(CAT, CAR))


@pytest.mark.parametrize(
    ("field", "values", "changes"),
    [
        ("guidance", [1, 2.5], [{"guidance": 1}, {"guidance": 2.5}]),
        ("seed", [0, 7], [{"seed": 0}, {"seed": 7}]),
        ("method", ["attention", "caption"], [{"method": "attention"}, {"method": "caption"}]),
        ("pet.weight", [0.5], [{"regions": (CAT.replace(weight=0.5), CAR)}]),
        ("feather", [0.2], [{"regions": (CAT.replace(feather=0.2), CAR.replace(feather=0.2))}]),
    ],
)
def test_each_is_what_generate_draws(tiny: Model, field: str, values: list[Any], changes: list[dict[str, Any]]) -> None:
    drawn = cl.sweep(SCENE, tiny, field, values)
    alone = [cl.generate(SCENE.replace(**change), tiny) for change in changes]
    assert [one.image.tobytes() for one in drawn] == [one.image.tobytes() for one in alone]
    assert [one.scene for one in drawn] == [one.scene for one in alone]


def test_one_seed_is_drawn_for_all(tiny: Model) -> None:
    free = SCENE.replace(seed=None)
    assert len({result.scene.seed for result in cl.sweep(free, tiny, "guidance", [1, 2, 3])}) == 1
    assert [scene.seed for scene in swept(free, "seed", [4, 5])] == [4, 5]


def test_regions_and_their_parts_are_turned() -> None:
    scene = SCENE.replace(regions=(CAT, CAR, THING, EDGES))
    (similar,) = swept(scene, "similarity", [3])
    assert [region.similarity for region in similar.regions] == [None, None, 3.0, None]
    (weak,) = swept(scene, "exemplar.strength", [0.5])
    assert [region.exemplar and region.exemplar.strength for region in weak.regions] == [None, None, 0.5, None]
    (loose,) = swept(scene, "edges.control.strength", [0.25])
    assert loose.regions[3].control is not None
    assert loose.regions[3].control.strength == 0.25
    (other,) = swept(scene, "my.car.phrase", ["a dog"])
    assert [region.phrase for region in other.regions] == ["a cat", "a dog", "", ""]
    (both,) = swept(scene, "pet.guidance", [2])
    assert (both.guidance, both.regions[0].guidance) == (None, 2.0)


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("guidence", [1], 'There is no option "guidence" to sweep; did you mean "guidance"?'),
        ("hue", [1], "choose seed, steps, guidance"),
        ("pet.featherr", [1], 'Region "pet": There is no option "featherr" to sweep; did you mean "feather"?'),
        ("dog.feather", [1], 'no region "dog" to sweep feather of; the scene\'s regions are: "pet", "my.car"'),
        ("similarity", [1], 'no region gives the field "exemplar"'),
        ("pet.similarity", [1], 'Region "pet": similarity cannot be swept without exemplar'),
        ("guidance", [1, -2], "guidance is -2; give a number from 0 to 100"),
        ("steps", [2.5], "steps is 2.5; give a whole number"),
        ("sampler", ["magic"], 'sampler is "magic"; give one of'),
        ("pet.feather", ["soft"], 'Region "pet": feather is "soft"'),
        ("strength", [0.5], "there is no background"),
        ("guidance", [], "no values"),
    ],
)
def test_refusals(option: str, values: list[Any], expected: str) -> None:
    with pytest.raises(SceneError) as refused:
        swept(SCENE, option, values)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_option_of_regions_without_regions() -> None:
    with pytest.raises(SceneError, match="feather is an option of regions, but the scene has no regions"):
        swept(Scene(caption="x"), "feather", [0.1])


def test_all_are_checked_before_the_first_is_drawn(tiny_sd: Path) -> None:
    seen: list[object] = []
    with pytest.raises(CapabilityError, match="position tokens"):
        cl.sweep(SCENE, load(tiny_sd), "method", ["attention", "reco"], on_step=seen.append)
    assert seen == []


def test_progress_has_the_index_of_the_value(tiny: Model) -> None:
    seen: list[tuple[str, int, int]] = []
    cl.sweep(
        SCENE, tiny, "steps", [1, 2], on_step=lambda event: seen.append((event.verb, event.image, event.num_images))
    )
    assert seen == [("sweep", 0, 2), ("sweep", 1, 2), ("sweep", 1, 2)]


def test_values_are_read() -> None:
    assert option_and_values("a.b=1, 2.5,true,ddim,nan") == ("a.b", [1, 2.5, True, "ddim", "nan"])
    for text in ("guidance", "=1", "guidance=", "guidance=1,,2"):
        with pytest.raises(SceneError, match="give a field and its values"):
            option_and_values(text)


def test_a_sheet_holds_the_pictures_in_rows() -> None:
    pictures = [Image.new("RGB", (100, 60), (40 * k, 0, 0)) for k in range(6)]
    sheet = np.asarray(contact_sheet(pictures, ["a label that is longer than its picture is wide, by far"] * 6))
    found = [np.argwhere((sheet == (40 * k, 0, 0)).all(-1)) for k in range(1, 6)]
    # Enlarged five times to 500 x 300 pixels each.
    assert [len(places) for places in found] == [500 * 300] * 5
    tops = [int(places[:, 0].min()) for places in found]
    assert tops[0] == tops[1] < tops[2] == tops[3] == tops[4]


def test_on_the_command_line(tiny_family: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.json").write_text(SCENE.to_json())
    out = tmp_path / "sheet.png"
    given = ["sweep", str(tmp_path / "scene.json"), "-o", str(out), "--model", str(tiny_family)]
    result = CliRunner().invoke(app, [*given, "--sweep", "pet.feather=0,0.25,0.5", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["dial"], report["sheet"]["path"]) == ("pet.feather", str(out))
    assert [one["value"] for one in report["pictures"]] == [0, 0.25, 0.5]
    feathers = [one["report"]["scene"]["regions"][0]["feather"] for one in report["pictures"]]
    assert feathers == [0, 0.25, 0.5]
    with pytest.raises(SceneError):
        Scene.from_png(out)
    refused = CliRunner().invoke(app, [*given, "--sweep", "seed=1,2"])
    assert "--overwrite" in str(refused.exception)
    assert CliRunner().invoke(app, [*given, "--sweep", "seed=1,2", "--overwrite"]).stdout == f"{out}\n"
