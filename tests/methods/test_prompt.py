"""What weights and schedules of words do, for every method and line of checkpoints."""

from pathlib import Path

import pytest
import torch
from methods_of import OF_UNETS
from torch import Tensor

from cloisonne.core.plan import Conditioning, View
from cloisonne.errors import SceneError
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="pet", ellipse=(0.1, 0.1, 0.6, 0.7), phrase="a red cat", negative="dog", guidance=7.0)
CAR = Region(name="car", box=(0.4, 0.3, 1.0, 0.9), phrase="a red car", seed=11)
SCENE = Scene(caption="on the beach", negative="blue", seed=3, steps=4, regions=(CAT, CAR))
PLAIN = ["attention", "multidiffusion", "words", "caption"]


@pytest.fixture(scope="module")
def models(tiny: Model, tiny_sd: Path, tiny_xl: Path) -> dict[str, Model]:
    return {"builtin": tiny, "sd1": load(tiny_sd), "xl": load(tiny_xl)}


LINES = [("builtin", method) for method in OF_UNETS] + [(line, method) for line in ("sd1", "xl") for method in PLAIN]
every = pytest.mark.parametrize(("line", "method"), LINES)


def drawn(model: Model, scene: Scene) -> Tensor:
    return generate(scene, model, output_type="latent").latents


def told(scene: Scene, model: Model, branch: str = "cond") -> Conditioning:
    view: View = prepare(scene, model).compiled.plan.views[0]
    said = view.branches[branch]
    assert isinstance(said, Conditioning)
    return said


def scene_of(changes: dict[str, str], method: str) -> Scene:
    """changes: of the caption or the negative; or, as "pet.phrase", of the region's."""
    own = {name.removeprefix("pet."): text for name, text in changes.items() if name.startswith("pet.")}
    whole = {name: text for name, text in changes.items() if not name.startswith("pet.")}
    return SCENE.replace(method=method, regions=(CAT.replace(**own), CAR), **whole)


def is_heard(field: str, method: str) -> bool:
    return method != "caption" or not field.startswith("pet.")


FIELDS = {"caption": ("on the beach", "on the (beach{})"), "negative": ("blue", "(blue{})")}
FIELDS |= {"pet.phrase": ("a red cat", "a (red{}) cat"), "pet.negative": ("dog", "(dog{})")}


@pytest.mark.parametrize("field", FIELDS)
@every
def test_weights_are_heard_and_weight_1_is_none(models: dict[str, Model], line: str, method: str, field: str) -> None:
    usual = drawn(models[line], scene_of({}, method))
    assert torch.equal(drawn(models[line], scene_of({field: FIELDS[field][1].format(":1")}, method)), usual)
    heavy = drawn(models[line], scene_of({field: FIELDS[field][1].format(":1.6")}, method))
    assert heavy.isfinite().all()
    assert torch.equal(heavy, usual) != is_heard(field, method)


@pytest.mark.parametrize("field", FIELDS)
@every
def test_schedules_are_the_first_text_and_then_the_second(
    models: dict[str, Model], line: str, method: str, field: str
) -> None:
    text, model = FIELDS[field][0], models[line]
    first, second = (drawn(model, scene_of({field: own}, method)) for own in (text, "stars"))

    def switched(when: str) -> Tensor:
        return drawn(model, scene_of({field: f"[{text}:stars:{when}]"}, method))

    assert torch.equal(switched("1"), first)
    assert torch.equal(switched("0"), second)
    assert torch.equal(switched("9"), first)
    halfway = switched("0.5")
    assert torch.equal(halfway, switched("2"))
    assert torch.equal(halfway, first) != is_heard(field, method)


@every
def test_words_that_end_are_a_region_that_stops(models: dict[str, Model], line: str, method: str) -> None:
    """A region is not there while it says nothing."""
    stops = SCENE.replace(method=method, regions=(CAT.replace(stop=0.5), CAR))
    assert torch.equal(
        drawn(models[line], scene_of({"pet.phrase": "[a red cat::0.5]"}, method)), drawn(models[line], stops)
    )


def test_views_of_a_schedule_are_those_of_its_texts(tiny: Model) -> None:
    scene = SCENE.replace(method="reco", regions=(CAT.replace(phrase="a [red:(orange:1.5):0.25] cat"),))
    views = prepare(scene, tiny).compiled.plan.views
    assert [(view.when.start, view.when.stop) for view in views] == [(0.0, 0.25), (0.25, 1.0)]
    for view, phrase in zip(views, ("a red cat", "a (orange:1.5) cat"), strict=True):
        heard = view.branches["cond"]
        assert isinstance(heard, Conditioning)
        alone = told(scene.replace(regions=(CAT.replace(phrase=phrase),)), tiny)
        torch.testing.assert_close(heard.tokens[0].value, alone.tokens[0].value, rtol=0, atol=0)


@pytest.mark.parametrize("line", ["builtin", "sd1", "xl"])
def test_a_weight_moves_its_tokens_away_from_silence(models: dict[str, Model], line: str) -> None:
    """Start, "on the", "beach", end: the third word alone is moved, and pooled text stays."""
    model, scene = models[line], Scene(caption="on the beach", method="caption", seed=0)
    usual, silent = told(scene, model), told(scene.replace(caption=""), model)
    heavy = told(scene.replace(caption="on the (beach:1.5)"), model)
    z, e, moved = (own.tokens[0].value for own in (usual, silent, heavy))
    expected = z.clone()
    expected[3] = e[3] + 1.5 * (z[3] - e[3])
    torch.testing.assert_close(moved, expected, rtol=0, atol=0)
    if usual.pooled is not None:
        assert heavy.pooled is not None
        assert torch.equal(heavy.pooled, usual.pooled)


def test_in_a_sequence_of_reco_the_words_alone_are_moved(tiny: Model) -> None:
    """[BOS] on the beach [EOS] x0 y0 x1 y1 [BOS] a red cat [EOS]: "red" is the 12th."""
    scene = SCENE.replace(method="reco", regions=(CAT,))
    usual = told(scene, tiny).tokens[0].value
    heavy = told(scene.replace(regions=(CAT.replace(phrase="a (red:1.5) cat"),)), tiny).tokens[0].value
    assert (usual != heavy).any(-1).nonzero().flatten().tolist() == [11]


@pytest.mark.parametrize("method", OF_UNETS)
def test_syntax_takes_no_room(tiny: Model, method: str) -> None:
    """It would not fit if its brackets and numbers were words."""
    fits = " ".join(["(cat:1.2)"] * 40)
    long = SCENE.replace(method=method, caption="", regions=(CAT.replace(phrase=fits),))
    compiled = prepare(long, tiny).compiled
    assert compiled.dropped == ()
    with pytest.raises(SceneError, match=r"at most \d+.*; shorten"):
        prepare(long.replace(caption=" ".join(["(cat:1.2)"] * 620)), tiny)


@pytest.mark.parametrize("method", ["attention", "multidiffusion", "reco", "words"])
def test_what_does_not_fit_is_the_regions(tiny: Model, method: str) -> None:
    phrase = f"[a:{' '.join(['(cat:1.2)'] * 620)}:0.5]"
    with pytest.raises(SceneError, match=r'^Region "pet": .* at most \d+'):
        prepare(SCENE.replace(method=method, regions=(CAT.replace(phrase=phrase),)), tiny)


@pytest.mark.parametrize("method", ["reco", "words"])
def test_a_region_without_room_on_the_way_is_dropped_as_a_whole(tiny: Model, method: str) -> None:
    wordy = CAR.replace(phrase=f"[a red car:{' '.join(['cat'] * 45)}:0.5]", priority=-1)
    scene = SCENE.replace(method=method, regions=(CAT.replace(phrase=" ".join(["cat"] * 20)), wordy))
    compiled = prepare(scene, tiny).compiled
    assert compiled.dropped == ("car",)
    assert len(compiled.plan.views) == 1


@pytest.mark.parametrize("line", ["builtin", "sd1", "xl"])
def test_explain_counts_as_it_would_without(models: dict[str, Model], line: str) -> None:
    scene = SCENE.replace(method="attention")
    weighted = scene.replace(caption="on the [(beach:1.3):sky:0.5]")
    usual, found = explain(scene, models[line]), explain(weighted, models[line])
    assert (found.forwards, found.rows, found.tokens) == (usual.forwards, usual.rows, usual.tokens)
    assert len(found.plan.split("view canvas: ")) > 2, "one view before and one after the switch"


def test_a_picture_carries_its_weights_and_schedules(tiny: Model, tmp_path: Path) -> None:
    scene = scene_of({"caption": r"on the (beach:1.3) \(day\)", "pet.phrase": "a [red:orange:2] cat"}, "reco")
    (path,) = generate(scene, tiny).save(tmp_path / "out.png")
    assert Scene.from_png(path).caption == scene.caption
    (again,) = generate(Scene.from_png(path), tiny).save(tmp_path / "again.png")
    assert again.read_bytes() == path.read_bytes()


def test_steps_are_those_that_are_walked(tiny: Model) -> None:
    """With strength 0.75, three of four steps: the second text comes with the last of them."""
    scene = SCENE.replace(
        method="caption", background=torch.zeros(64, 64, 3, dtype=torch.uint8).numpy(), strength=0.75, regions=()
    )
    views = prepare(scene.replace(caption="[a cat:a dog:2]"), tiny).compiled.plan.views
    assert [view.when.start for view in views] == [0.0, 2 / 3]
