"""Scenes that hold a concept: the same bytes from their PNG, other regions in the same pass, and what is refused."""

import io
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cloisonne.cli.main import app, main
from cloisonne.errors import Cancelled, CapabilityError, CheckpointError, OutputError, SceneError
from cloisonne.methods.answers import OPTIONS
from cloisonne.methods.kinds import KINDS
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.progress import Progress
from cloisonne.pipelines.sweep import sweep
from cloisonne.pipelines.translation.learn_concept import fit
from cloisonne.pipelines.translation.settings import translating_of
from cloisonne.pipelines.translation.translate import translate
from cloisonne.scene.changes import with_changes
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

ALL = (0.0, 0.0, 1.0, 1.0)
LEARNED: dict[str, Any] = {"preset": "vct", "rounds": 2, "batch": 1}


@pytest.fixture(scope="module")
def family() -> Model:
    return load("builtin")


def photo(seed: int = 0, width: int = 96, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def scene(*others: Region, concept: Any = None, background: Any = None, **fields: Any) -> Scene:
    given = photo(1) if concept is None else concept
    own = Region(name="all", box=ALL, concept=given)
    defaults = {"background": photo() if background is None else background, "seed": 0, "steps": 2, **fields}
    return Scene(regions=(own, *others), **defaults)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("embed", [True, False], ids=["embedded", "named"])
@pytest.mark.parametrize("preset", ["fast", "vct"])
def test_a_png_makes_the_same_bytes(family: Model, workdir: Path, preset: str, embed: bool) -> None:
    photo().save("a.png")
    photo(1).save("b.png")
    way = {"preset": "fast"} if preset == "fast" else LEARNED
    asked = scene(background="a.png", concept="b.png", translating=way)
    made = generate(asked, family)
    made.save("one.png", embed=embed)
    again = generate(Scene.load("one.png"), family)
    again.save("two.png", embed=embed)
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    region = Scene.load("one.png").translated
    assert region is not None
    assert region.concept is not None
    assert (region.concept.file is not None) == (preset == "vct")
    if preset == "vct":
        assert again.report["rows"] < made.report["rows"]


def test_translate_is_the_same_scene(family: Model, workdir: Path) -> None:
    photo().save("a.png")
    photo(1).save("b.png")
    args = ["translate", "a.png", "--reference", "b.png", "-o", "one.png", "--steps", "2", "--keep-structure", "0.4"]
    args += ["--guidance-scale", "3", "--sampler", "euler", "--seed", "5"]
    assert CliRunner().invoke(app, args).exit_code == 0
    assert CliRunner().invoke(app, ["generate", "one.png", "-o", "two.png"]).exit_code == 0
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    own = translate("a.png", "b.png", family, steps=2, keep_structure=0.4, guidance=3.0, sampler="euler", seed=5)
    with Image.open("one.png") as written:
        assert np.array_equal(pixels(written), pixels(own.image))


def test_outside_of_the_region_every_byte_stays(family: Model) -> None:
    part = Region(name="part", ellipse=(0.2, 0.2, 0.7, 0.8), concept=photo(1), feather=0.1)
    made = generate(Scene(background=photo(), regions=(part,), seed=0, steps=2), family)
    outside = part.soft_mask(64, 96) == 0
    assert np.array_equal(pixels(made.image)[outside], pixels(photo())[outside])
    assert not np.array_equal(pixels(made.image), pixels(photo()))
    assert made.report["identical_outside"] is True


@pytest.mark.parametrize(
    "conditions",
    [
        [{"phrase": "a cat"}, {"phrase": "a red car"}],
        [{"exemplar": photo(3)}, {"exemplar": Image.new("RGB", (64, 64), (220, 20, 20))}],
        [{"control": {"kind": "color", "from": Image.new("RGB", (8, 8), colour)}} for colour in ("red", "white")],
    ],
    ids=["phrase", "exemplar", "control"],
)
def test_other_regions_are_drawn_in_the_same_pass(family: Model, conditions: list[dict[str, Any]]) -> None:
    """What they say changes the picture where they are, more than elsewhere; and they replay to the byte."""
    others = [Region(name="other", box=(0.0, 0.0, 0.5, 1.0), priority=1, **own) for own in conditions]
    fields: dict[str, Any] = {"steps": 8, "overlap": "priority", "caption": "in a meadow"}
    asked, changed = (scene(other, background="examples/park.png", **fields) for other in others)
    mixed = generate(asked, family)
    change = np.abs(pixels(mixed.image) - pixels(generate(changed, family).image)).mean(axis=(0, 2))
    assert change[:64].mean() > 1.2 * change[64:].mean()
    assert np.array_equal(pixels(generate(mixed.scene, family).image), pixels(mixed.image))
    assert not any("caption" in warning for warning in mixed.report["warnings"])
    assert explain(asked, family).rows == mixed.report["rows"]
    assert explain(asked, family).forwards == mixed.report["forwards"]


def test_a_region_that_comes_late_leaves_the_beginning_to_the_concept(family: Model) -> None:
    other = Region(name="other", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", start=0.5)
    asked = scene(other, steps=4)
    found = explain(asked, family)
    assert found.plan.count("steps 1-2") == 2
    assert found.plan.count("steps 3-4") == 3
    assert generate(asked, family).report["rows"] == found.rows == 4 + 4 * 3 + 2 * 2


def test_the_order_of_regions_changes_nothing(family: Model) -> None:
    others = [Region(name=n, box=b, phrase="a cat") for n, b in (("a", (0, 0, 0.5, 1)), ("b", (0.2, 0, 0.8, 0.5)))]
    asked = scene(*others)
    turned = asked.replace(regions=asked.regions[::-1])
    assert np.array_equal(pixels(generate(asked, family).image), pixels(generate(turned, family).image))


@pytest.mark.parametrize("gone", [{"weight": 0.0}, {"start": 0.5, "stop": 0.5}])
def test_a_concept_that_does_not_count_is_not_there(family: Model, gone: dict[str, Any]) -> None:
    other = Region(name="other", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
    asked = scene(other)
    without = asked.replace(regions=(asked.regions[0].replace(**gone), other))
    plain = asked.replace(regions=(other,))
    assert np.array_equal(pixels(generate(without, family).image), pixels(generate(plain, family).image))


TURNED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "weight": ({"weight": 0.3}, {}),
    "feather": ({"feather": 0.4}, {}),
    "mask": ({"box": None, "mask": np.eye(64) > 0}, {}),
    "priority": ({"priority": 1}, {"overlap": "priority"}),
    "guidance": ({"guidance": 6.0}, {}),
}
REFUSED: dict[str, dict[str, Any]] = {
    "start, stop": {"stop": 0.5},
    "negative": {"negative": "x"},
    "lora": {"lora": "ink"},
    "seed": {"seed": 3},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(family: Model, option: str) -> None:
    """The table's row of a concept."""
    mark, rival = KINDS["concept"].options[option].mark, Region(name="rival", box=(0.3, 0.0, 1.0, 1.0), phrase="a cat")
    if mark == "refused":
        with pytest.raises(SceneError, match=option.replace(", ", ".*")):
            scene().regions[0].replace(**REFUSED[option])
        return
    change, fields = TURNED.get(option, ({"strict": True}, {}))
    plain = scene(rival, **fields)
    plain = plain.replace(regions=(plain.regions[0].replace(box=(0.0, 0.0, 0.8, 1.0)), rival))
    turned = plain.replace(regions=(plain.regions[0].replace(**change), rival))
    same = np.array_equal(pixels(generate(plain, family).image), pixels(generate(turned, family).image))
    assert same == (mark == "always")


def test_what_cannot_be_is_refused() -> None:
    edited = Region(name="hat", box=(0.0, 0.0, 0.5, 1.0), edit={"kind": "add", "phrase": "a hat"})
    second = Region(name="second", box=ALL, concept=photo(2))
    with pytest.raises(SceneError, match=r'"hat": .*"all" has a concept, and a scene cannot have both'):
        scene(edited)
    with pytest.raises(SceneError, match=r'"second": .*"all" already has one'):
        scene(second)
    with pytest.raises(SceneError, match=r'"all": .*no background'):
        scene().replace(background=None)
    with pytest.raises(SceneError, match=r'"all": strength is 0.5'):
        scene(strength=0.5)
    for name, value in {"phrase": "a cat", "exemplar": photo(2), "lora": "ink", "keywords": ["cat"]}.items():
        with pytest.raises(SceneError, match=f"has both concept and {name}"):
            Region(name="all", box=ALL, concept=photo(1), **{name: value})
    with pytest.raises(SceneError, match="neither an image nor a file"):
        Region(box=ALL, concept={"word": "cat"})


def test_what_a_model_cannot_do_is_refused(family: Model, tiny: Model, workdir: Path) -> None:
    with pytest.raises(CapabilityError, match=r'"all": .*"tiny|concept by the preset fast; choose the preset "vct"'):
        generate(scene(), tiny)
    with pytest.raises(SceneError, match=r'"all": The concept has a file and no image'):
        generate(scene(concept={"file": b"x"}), family)
    with pytest.raises(CheckpointError, match="no safetensors file"):
        generate(scene(concept={"file": b"x" * 40}, translating=LEARNED), family)
    with pytest.raises(SceneError, match='no preset "slow"'):
        generate(scene(translating={"preset": "slow"}), family)
    with pytest.raises(SceneError, match=r"latents were given"):
        generate(scene(), family, latents=torch.zeros(1, 8, 16, 16))


def test_an_unused_caption_is_warned_of(family: Model) -> None:
    warnings = generate(scene(caption="a cat"), family).report["warnings"]
    assert any("caption has no effect" in warning for warning in warnings)


def test_another_picture_is_learned_anew(family: Model, workdir: Path) -> None:
    made = generate(scene(translating=LEARNED), family).scene
    assert made.regions[0].concept is not None
    assert made.regions[0].concept.file is not None
    for field in ("all.concept", "all.concept.image"):
        concept = with_changes(made, {field: photo(5)}).regions[0].concept
        assert concept is not None
        assert concept.file is None


def test_several_pictures_are_each_their_own_scene(family: Model) -> None:
    other = Region(name="other", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat")
    made = generate(scene(other), family, num_images=2)
    alone = generate(made.scene.replace(seed=1), family)
    assert np.array_equal(pixels(made.images[1]), pixels(alone.image))


def test_learning_is_told_of_with_its_loss_and_can_be_cancelled(family: Model) -> None:
    asked = scene(translating={**LEARNED, "rounds": 3, "pivot": "none"})
    events: list[Progress] = []
    generate(asked, family, on_step=events.append)
    assert [(event.stage, event.step, event.total) for event in events[:3]] == [("learning", at, 3) for at in (1, 2, 3)]
    assert all(event.loss is not None and event.loss > 0 for event in events[:3])
    assert {event.stage for event in events[3:]} == {"inversion", "sampling"}

    def stop(event: Progress) -> None:
        raise Cancelled(f"{event.stage} {event.step}")

    with pytest.raises(Cancelled, match="learning 1"):
        generate(asked, family, on_step=stop)


class Terminal(io.StringIO):
    """A terminal in which Ctrl-C is pressed as soon as it shows that a concept is being learned."""

    pressed = False

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        count = super().write(text)
        if not self.pressed and re.search(r"learning, loss \d", self.getvalue()):
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return count


def test_the_command_tells_of_learning_and_ctrl_c_leaves_nothing(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = scene(translating={**LEARNED, "rounds": 100_000, "patience": 0})
    Path("scene.json").write_text(slow.to_json())
    there, terminal = sorted(workdir.rglob("*")), Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "argv", ["cloisonne", "generate", "scene.json", "-o", "out.png"])
    # Shells start what runs in the background with Ctrl-C ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (stop.value.code, capsys.readouterr().out) == (1, "")
    assert "/100000" in terminal.getvalue()
    assert "Cancelled; no partial image was written." in terminal.getvalue()
    assert sorted(workdir.rglob("*")) == there


SETTINGS = translating_of("vct", None, {"rounds": 25, "batch": 1, "patience": 0})


def known() -> torch.Tensor:
    return torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))


def test_learning_goes_on_where_it_was_interrupted(family: Model, tmp_path: Path) -> None:
    whole = fit(known(), family, SETTINGS)

    def stop(at: int, count: int, loss: float) -> None:
        if at == 14:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        fit(known(), family, SETTINGS, cache=tmp_path / "cache", watch=stop)
    rounds: list[int] = []
    found = fit(known(), family, SETTINGS, cache=tmp_path / "cache", watch=lambda at, count, loss: rounds.append(at))
    assert rounds == list(range(11, 26))
    assert torch.equal(found.vectors, whole.vectors)
    rounds.clear()
    again = fit(known(), family, SETTINGS, cache=tmp_path / "cache", watch=lambda at, count, loss: rounds.append(at))
    assert rounds == []
    assert torch.equal(again.vectors, whole.vectors)
    fit(known() + 1, family, SETTINGS, cache=tmp_path / "cache", watch=lambda at, count, loss: rounds.append(at))
    assert len(rounds) == 25
    (file, _) = sorted((tmp_path / "cache").iterdir())
    for one in (tmp_path / "cache").iterdir():
        one.write_bytes(b"no tensors")
    with pytest.raises(OutputError, match="remove it"):
        fit(known(), family, SETTINGS, cache=tmp_path / "cache")
    assert file.suffix == ".safetensors"


def test_learning_ends_where_the_loss_no_longer_falls(family: Model) -> None:
    still = translating_of("vct", None, {"rounds": 25, "batch": 1, "patience": 3, "rate": 0.0})
    rounds: list[int] = []
    fit(known(), family, still, watch=lambda at, count, loss: rounds.append(at))
    assert len(rounds) == 6


def test_a_sweep_learns_once(family: Model) -> None:
    asked = scene(translating={**LEARNED, "rounds": 3, "pivot": "none"})
    stages: list[str] = []
    drawn = sweep(asked, family, "concept.keep_structure", [0.2, 0.9], on_step=lambda event: stages.append(event.stage))
    assert stages.count("learning") == 3
    alone = [generate(with_changes(asked, {"all.concept.keep_structure": share}), family) for share in (0.2, 0.9)]
    assert [one.image.tobytes() for one in drawn] == [one.image.tobytes() for one in alone]
    assert drawn[0].image.tobytes() != drawn[1].image.tobytes()


@pytest.mark.parametrize("command", [["generate"], ["sweep", "--sweep", "concept.concept_strength=0.5,1"]])
def test_commands_use_again_what_is_in_a_cache(workdir: Path, command: list[str]) -> None:
    Path("scene.json").write_text(scene(translating={**LEARNED, "rounds": 3, "pivot": "none"}).to_json())
    rows: list[int] = []
    for name in ("a.png", "b.png"):
        ran = CliRunner().invoke(app, [*command, "scene.json", "-o", name, "--cache", "learned", "--json"])
        assert ran.exit_code == 0, ran.stderr
        report = json.loads(ran.stdout)
        rows.append(report["rows"] if "rows" in report else report["pictures"][0]["report"]["rows"])
    assert len(list(Path("learned").iterdir())) == 1
    assert rows[1] == rows[0] - 3
