"""The public functions: what they take, how they refuse, and how their warnings reach the caller."""

import inspect
import json
import re
import subprocess
import sys
import typing
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cloisonne as cl
from cloisonne.core.samplers import Ddim
from cloisonne.core.step import ALWAYS
from cloisonne.errors import CheckpointError, CloisonneWarning, SceneError
from cloisonne.methods.vct import Translating
from cloisonne.models.model import Model
from cloisonne.pipelines import keywords as kw
from cloisonne.pipelines.output.progress_bar import with_bar
from cloisonne.scene.conditions.edit_presets import Editing
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import ALIASES

PET = {"name": "pet", "box": [0.1, 0.1, 0.6, 0.6], "phrase": "a cat"}
DATA = {"version": 1, "caption": "on the beach", "seed": 3, "steps": 2, "regions": [PET]}
SCENE = Scene.from_dict(DATA)
EDIT = {**DATA, "regions": [{"name": "pet", "box": PET["box"], "edit": {"kind": "add", "phrase": "a cat"}}]}
GREY = np.full((64, 64, 3), 100, np.uint8)


def same(one: cl.Result, other: cl.Result) -> bool:
    return torch.equal(one.latents, other.latents) and one.scene == other.scene


@pytest.fixture
def forms(tmp_path: Path, tiny: Model) -> dict[str, object]:
    """One scene in all forms in which a scene is taken."""
    file, png = tmp_path / "scene.json", tmp_path / "picture.png"
    file.write_text(json.dumps(DATA))
    cl.generate(SCENE, tiny).save(png)
    return {"scene": SCENE, "dict": DATA, "path": file, "str": str(file), "png": png}


@pytest.mark.parametrize("form", ["dict", "path", "str", "png"])
def test_scenes_in_every_form_in_every_function(forms: dict[str, typing.Any], tiny: Model, form: str) -> None:
    given, scene = forms[form], SCENE.replace(model=tiny.name) if form == "png" else SCENE
    alone = cl.generate(scene, tiny)
    assert torch.equal(cl.generate(given, tiny).latents, alone.latents)
    assert torch.equal(cl.generate_many([given], tiny)[0].latents, alone.latents)
    assert torch.equal(cl.sweep(given, tiny, "seed", [3])[0].latents, alone.latents)
    assert cl.explain(given, tiny).rows == cl.explain(scene, tiny).rows
    assert repr(cl.compile(given, tiny).plan) == repr(cl.compile(scene, tiny).plan)
    assert len(cl.evaluate(GREY, given)) == 1


@pytest.mark.parametrize("kind", [str, Path])
def test_models_by_name_in_every_function(tiny_family: Path, tiny: Model, kind: type) -> None:
    name = kind(tiny_family)
    alone = cl.generate(SCENE, tiny)
    assert same(cl.generate(SCENE, name), alone)
    assert same(cl.generate_many([SCENE], name)[0], alone)
    assert same(cl.sweep(SCENE, name, "seed", [3])[0], alone)
    assert cl.explain(SCENE, name).rows == cl.explain(SCENE, tiny).rows
    assert cl.compile(SCENE, name).scene == alone.scene
    edited = cl.edit(EDIT, name, preset="follow")
    assert edited.image.tobytes() == cl.edit(EDIT, tiny, preset="follow").image.tobytes()
    given = {"phrase": "a cat", "seed": 1, "steps": 1}
    assert same(cl.inpaint(GREY, GREY[..., 0], name, **given), cl.inpaint(GREY, GREY[..., 0], tiny, **given))


def test_other_things_are_no_scene_and_no_model(tiny: Model) -> None:
    with pytest.raises(SceneError, match=r"The scene is a Model; give a Scene, a dict of its fields, or the path"):
        cl.generate(tiny, SCENE)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"The model is a Scene; give a loaded model"):
        cl.generate(SCENE, SCENE)  # type: ignore[arg-type]
    with pytest.raises(SceneError, match="cannot be read"):
        cl.generate("missing.json", tiny)


OVERRIDES = {"steps": 3, "guidance": 2.0, "sampler": "euler", "width": 72, "caption": "at night", "method": "attention"}


@pytest.mark.parametrize("name", OVERRIDES)
def test_keywords_override_fields(tiny: Model, name: str) -> None:
    change = {name: OVERRIDES[name]}
    expected = cl.generate(SCENE.replace(**change), tiny)
    assert same(cl.generate(SCENE, tiny, **change), expected)
    assert same(cl.generate_many([SCENE], tiny, **change)[0], expected)
    assert same(cl.sweep(SCENE, tiny, "seed", [3], **change)[0], expected)
    assert cl.explain(SCENE, tiny, **change).scene == expected.scene
    assert cl.compile(SCENE, tiny, **change).scene == expected.scene
    edited = cl.edit(EDIT, tiny, preset="follow", **{k: v for k, v in change.items() if k != "method"})
    assert k_of(edited.scene, name) == k_of(Scene.from_dict(EDIT).replace(**change), name) or name == "method"


def k_of(scene: Scene, name: str) -> object:
    return getattr(scene, name)


def test_none_leaves_the_scenes_own(tiny: Model) -> None:
    assert same(cl.generate(SCENE, tiny, seed=None, steps=None, guidance=None), cl.generate(SCENE, tiny))


@pytest.mark.parametrize(("alias", "field"), ALIASES.items())
def test_names_of_diffusers_are_keywords(tiny: Model, alias: str, field: str) -> None:
    value = {"steps": 3, "guidance": 2.0, "negative": "a dog"}[field]
    assert same(cl.generate(SCENE, tiny, **{alias: value}), cl.generate(SCENE, tiny, **{field: value}))
    region = {"phrase": "a cat", "seed": 1}
    assert same(*(cl.inpaint(GREY, GREY[..., 0], tiny, **region, **{name: value}) for name in (alias, field)))
    with pytest.raises(SceneError, match=f"{field} and {alias} are the same; give one"):
        cl.generate(SCENE, tiny, **{alias: value, field: value})


FUNCTIONS = {
    "generate": lambda model, **given: cl.generate(SCENE, model, **given),
    "generate_many": lambda model, **given: cl.generate_many([SCENE], model, **given),
    "inpaint": lambda model, **given: cl.inpaint(GREY, GREY, model, phrase="a cat", **given),
    "edit": lambda model, **given: cl.edit(EDIT, model, **given),
    "sweep": lambda model, **given: cl.sweep(SCENE, model, "seed", [1], **given),
    "translate": lambda model, **given: cl.translate(GREY, GREY, model, **given),
    "explain": lambda model, **given: cl.explain(SCENE, model, **given),
    "compile": lambda model, **given: cl.compile(SCENE, model, **given),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(("wrong", "meant"), [("setps", "steps"), ("cfg_scale", "guidance"), ("smapler", "sampler")])
def test_a_misspelt_keyword_is_an_error_with_the_near_name(tiny: Model, name: str, wrong: str, meant: str) -> None:
    with pytest.raises(TypeError, match=rf'{name}\(\) has no keyword "{wrong}"; did you mean "{meant}"\?'):
        FUNCTIONS[name](tiny, **{wrong: 1})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_keywords_are_typed(name: str) -> None:
    """Type checkers know each keyword from the annotation of ``**options``."""
    (options,) = [p for p in inspect.signature(getattr(cl, name)).parameters.values() if p.kind is p.VAR_KEYWORD]
    assert typing.get_origin(options.annotation) is typing.Unpack


@pytest.mark.slow
def test_type_checkers_find_misspelt_keywords(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import cloisonne as cl\n"
        'cl.generate("a.json", "builtin", steps=3, sampler="euler", num_inference_steps=None)\n'
        'cl.generate("a.json", "builtin", setps=3)\n'
        'cl.edit({"caption": "x"}, cl.load(), look=0.3)\n'
        'cl.inpaint("a", "b", "builtin", phrase="c", guidance="x")\n'
    )
    source = str(Path(cl.__file__).parents[1])
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [source]}))
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--level", "error"]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert re.findall(r"user\.py:(\d+):\d+ - error", output) == ["3", "4", "5"]
    assert 'No parameter named "setps"' in output
    assert 'No parameter named "look"' in output


def test_typed_keywords_are_the_fields() -> None:
    """No field of a scene, of a way of editing or of translating is forgotten, and none is made up."""
    known = set(Scene.model_fields) - {"version", "model", "regions"}
    assert set(kw.FIELDS) == known | set(ALIASES)
    own = {"preset", "on_step", "progress"}
    assert set(kw.EditOptions.__annotations__) == kw.FIELDS | {field.name for field in fields(Editing)} | own
    ways = {field.name for field in fields(Translating)}
    assert ways <= set(kw.TranslateOptions.__annotations__)


LONG = {"caption": "on the beach", "seed": 1, "steps": 1}
CROWDED = Scene(
    **LONG,
    regions=[
        {"name": "kept", "box": [0.5, 0, 1, 1], "phrase": " ".join(["cat"] * 50)},
        {"name": "lost", "box": [0, 0, 0.3, 1], "phrase": " ".join(["car"] * 50)},
    ],
)


@pytest.mark.parametrize("name", ["generate", "generate_many", "sweep", "compile"])
def test_dropped_regions_reach_the_caller(tiny: Model, name: str) -> None:
    call = {
        "generate": lambda: cl.generate(CROWDED, tiny).warnings,
        "generate_many": lambda: cl.generate_many([CROWDED], tiny)[0].warnings,
        "sweep": lambda: cl.sweep(CROWDED, tiny, "seed", [1, 2])[0].warnings,
        "compile": lambda: cl.compile(CROWDED, tiny).warnings,
    }[name]
    with pytest.warns(CloisonneWarning, match='Region "lost" is left out, because it does not fit') as caught:
        (sentence,) = call()
    assert [str(one.message) for one in caught] == [sentence]
    assert caught[0].filename == __file__
    assert issubclass(CloisonneWarning, UserWarning)


@pytest.mark.parametrize("name", ["phrase", "exemplar", "edit"])
def test_warnings_of_reports_reach_the_caller(tiny: Model, name: str) -> None:
    large = np.full((300, 300), 100, np.uint8)  # grey and enlarged: two warnings
    white = np.full((300, 300), 255, np.uint8)
    scene = {**EDIT, "background": large}
    call = {
        "phrase": lambda: cl.inpaint(large, white, tiny, phrase="a cat", seed=1, steps=1),
        "edit": lambda: cl.edit(scene, tiny, preset="follow"),
        "exemplar": lambda: cl.inpaint(large, white, "builtin", exemplar=GREY, seed=1, steps=1),
    }[name]
    with pytest.warns(CloisonneWarning) as caught:
        result = call()
    assert any("grey image" in sentence for sentence in result.warnings)
    assert tuple(str(one.message) for one in caught) == result.warnings
    assert {one.filename for one in caught} == {__file__}


def test_a_scene_that_is_honoured_warns_of_nothing(tiny: Model) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cl.generate(SCENE, tiny).warnings == ()


class Mine(Ddim):
    """A sampler from outside of the package."""


def test_a_sampler_of_ones_own(tiny: Model) -> None:
    with pytest.warns(CloisonneWarning, match="The run used a sampler object, which the image's scene does not record"):
        result = cl.generate(SCENE, tiny, sampler=Mine(ends_clean=True))
    assert torch.equal(result.latents, cl.generate(SCENE, tiny, sampler="euler").latents)
    assert cl.compile(SCENE, tiny, sampler=Mine()).sampler == Mine()
    assert cl.explain(SCENE, tiny, sampler=Mine()).rows == cl.explain(SCENE, tiny).rows
    for wrong in (Mine, object(), 7):
        with pytest.raises(SceneError, match=r"sampler is .*; give one of ddim, euler"):
            cl.generate(SCENE, tiny, sampler=wrong)
    for refusing in (cl.edit, lambda *given, **options: cl.sweep(*given, "seed", [1], **options)):
        with pytest.raises(SceneError, match="sampler is an object"):
            refusing(EDIT, tiny, sampler=Mine())


class Bound:
    """A refine from outside of the package: the estimate within bounds."""

    when, streams = ALWAYS, ("image",)

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, x0, z, step, run):
        self.steps.append(step.index)
        return x0.clamp(-0.1, 0.1)

    def in_scene(self, scene):
        raise NotImplementedError


def test_refines_of_ones_own(tiny: Model) -> None:
    bound = Bound()
    with pytest.warns(CloisonneWarning, match="given refines"):
        result = cl.generate(SCENE, tiny, sampler="euler", refines=[bound])
    assert bound.steps == [0, 1]
    assert result.latents.abs().max() <= 0.1
    source = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[:, :32] = 255
    filled = cl.inpaint(source, mask, tiny, phrase="a cat", seed=1, steps=2, refines=[Bound()])
    assert filled.report["max_difference_outside"] == 0


def test_the_plan_of_a_scene_draws_what_generate_draws(tiny: Model) -> None:
    from cloisonne.core.noise import Noise, Seed
    from cloisonne.core.sample import sample

    prepared = cl.compile(SCENE, tiny)
    noise = Noise([Seed(3, prepared.compiled.seeds)], (4, *prepared.grid), tiny.device)
    z = sample(prepared.plan, prepared.sampler, noise(), prepared.steps, noise=noise)
    assert torch.equal(z, cl.generate(SCENE, tiny).latents)
    over = cl.compile({**DATA, "background": GREY}, tiny)
    assert len(over.plan.refines) == len(prepared.plan.refines) + 1
    assert "\n" not in repr(prepared)
    with pytest.raises(SceneError, match="concept depends on the background's inversion"):
        cl.compile({"background": GREY, "regions": [{"box": [0, 0, 1, 1], "concept": GREY}]}, tiny)


def test_attention_of_a_phrase(tiny: Model) -> None:
    plain = cl.generate(SCENE, tiny)
    assert plain.attention is None
    result = cl.generate(SCENE, tiny, attention=True)
    assert result.attention is not None
    assert list(result.attention) == ["pet"]
    assert torch.equal(result.attention["pet"], result.attention["a cat"])
    assert ((result.attention["pet"] >= 0) & (result.attention["pet"] <= 1)).all()
    torch.testing.assert_close(result.latents, plain.latents)
    with pytest.raises(KeyError, match='no attention map of "dog": there are pet'):
        result.attention["dog"]
    silent = cl.generate({**DATA, "regions": [{**PET, "weight": 0.0}]}, tiny, attention=True).attention
    assert silent is not None
    with pytest.raises(KeyError, match="it is inactive"):
        silent["pet"]


def test_representations_are_one_line(tiny: Model) -> None:
    result = cl.generate(SCENE, tiny, attention=True, num_images=2)
    latent = cl.generate(SCENE, tiny, output_type="latent")
    edited = cl.edit(EDIT, tiny, preset="follow")
    from cloisonne.core.attention.token_maps import TokenMaps

    maps = TokenMaps(stream="image", words=(1, 2), grid=(8, 8))
    for thing in (result, latent, edited, maps, result.attention, cl.evaluate(GREY, SCENE), cl.compile(SCENE, tiny)):
        assert "\n" not in repr(thing)
        assert len(repr(thing)) < 120
    assert "2 images of 64 x 64" in repr(result)
    assert "2 tokens on 8 x 8" in repr(maps)


class Terminal:
    """Standard error as a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("progress", "there"), [({}, True), ({"progress": True}, True), ({"progress": False}, False)])
def test_a_bar_where_standard_error_is_a_terminal(tiny: Model, monkeypatch, progress, there: bool) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    seen: list[int] = []
    cl.generate(SCENE, tiny, on_step=lambda event: seen.append(event.step), **progress)
    assert ("sampling" in terminal.text) is there
    assert seen == [1, 2]
    terminal.text = ""
    cl.edit(EDIT, tiny, preset="follow", **progress)
    assert ("sampling" in terminal.text) is there


def test_no_bar_where_standard_error_is_none(tiny: Model, capsys: pytest.CaptureFixture[str]) -> None:
    cl.generate(SCENE, tiny)
    assert capsys.readouterr().err == ""
    with with_bar({"steps": 3}) as options:
        assert options == {"steps": 3}


def test_tensors_are_pictures_in_every_place(tiny: Model) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = torch.zeros(64, 64)
    mask[:, :32] = 1
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    arrays = cl.inpaint(pixels, (mask * 255).byte().numpy(), tiny, phrase="a cat", seed=1, steps=1)
    tensors = cl.inpaint(tensor, mask, tiny, phrase="a cat", seed=1, steps=1)
    assert arrays.image.tobytes() == tensors.image.tobytes()


def test_an_evaluation_of_ones_own_picture() -> None:
    scene = Scene(
        caption="on a beach",
        regions=[
            {"name": "car", "box": [0, 0, 0.5, 0.5], "phrase": "a (red:1.2) car"},
            {"name": "cat", "box": [0.5, 0.5, 1, 1], "phrase": "an orange cat"},
            {"name": "shark", "box": [0, 0.5, 0.5, 1], "phrase": "a zorblax"},
            {"name": "two", "box": [0.5, 0, 1, 0.5], "phrase": "a cat and a dog"},
            {"name": "off", "box": [0.5, 0, 1, 0.5], "phrase": "a cat", "weight": 0.0},
        ],
    )
    found = cl.evaluate(Image.new("RGB", (200, 100), "white"), scene)
    assert [region.name for region in found] == ["car", "cat", "shark", "two"]
    assert (found["car"].object, found["car"].found, found["car"].iou) == ("car", False, 0.0)
    assert found["car"].colour_right in (True, False)
    assert found["cat"].colour_right is None
    assert found["shark"].found is found["two"].found is None
    assert "names no single object that the judge knows" in str(found["shark"])
    assert found.to_dict()["regions"][0]["name"] == "car"
    with pytest.raises(KeyError, match='no region "hat"; there are car, cat'):
        found["hat"]


def test_an_evaluation_agrees_with_the_truth_of_a_drawn_picture() -> None:
    from cloisonne.world.draw import draw
    from cloisonne.world.export import scene_of
    from cloisonne.world.picture import Recipe, sample

    hits = []
    for seed in range(6):
        drawn = draw(sample(seed, Recipe()), 128, 128)
        hits += [region.found for region in cl.evaluate(drawn.rgb, scene_of(drawn))]
    assert None not in hits
    assert sum(map(bool, hits)) / len(hits) > 0.8
