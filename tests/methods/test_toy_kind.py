"""A kind of condition defined in this file alone is like the others: whatever goes by the table goes for it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from methods_of import OF_UNETS
from PIL import Image
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.plan import Call, Conditioning, Step, Tokens, View
from cloisonne.core.run import Run
from cloisonne.core.step import ALWAYS, Interval
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.methods import METHODS
from cloisonne.methods import kinds as table
from cloisonne.methods.answers import MASKED, OPTIONS
from cloisonne.methods.context import Context
from cloisonne.methods.contribution import ConditionKind, Contribution
from cloisonne.methods.kinds import KINDS
from cloisonne.methods.layout import Part
from cloisonne.methods.region_options import markdown as options_table
from cloisonne.models.capabilities import NO_TEXT, YES, by_family
from cloisonne.models.cost import Cost
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.models.vae import Vae
from cloisonne.pipelines.colour_warnings import colour_warnings
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.prepare import prepare
from cloisonne.pipelines.sweep import swept
from cloisonne.scene.conditions.kinds import CONDITIONS, ConditionField, images_of
from cloisonne.scene.fields import with_fields
from cloisonne.scene.io.image_ref import Background
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene
from cloisonne.scene.values import Fraction, Value


class Tint(Value):
    """An image that a region's estimate is mixed with. amount: in [0, 1]."""

    image: Background
    amount: Fraction = 1.0


class Flat:
    """A network that estimates the same canvas whatever conditions it."""

    def __init__(self, x0: Tensor) -> None:
        self.x0 = x0

    def __call__(self, call: Call) -> Tensor:
        return self.x0.expand(len(call.rows), *self.x0.shape)

    def cost(self, canvas: tuple[int, int], num_tokens: int) -> Cost:
        return Cost(flops=0, numbers=0)


def contribute(parts: Sequence[Part], ctx: Context) -> Contribution:
    tinted = [part for part in parts if taken(part.region, ctx.model) > 0]
    return Contribution(views=tuple(tint_view(part, ctx) for part in tinted))


def tint_view(part: Part, ctx: Context) -> View:
    def encode() -> Tensor:
        return encoded(open_rgb(part.region.conditions["tint"].image, "tint", part.name), ctx.model, ctx.grid)

    def blank() -> Tensor:
        return torch.zeros(ctx.model.vae.channels, *ctx.grid)

    x0 = ctx.encoder.once(("tint", part.name), encode, blank)
    text = Conditioning(tokens=(Tokens(torch.zeros(1, 1)),))
    weight = part.share * taken(part.region, ctx.model)
    return View(name=f"tint {part.name}", net=Flat(x0), branches={"cond": text}, guide=Single(), weight=weight)


def taken(region: Region, model: Model) -> float:
    return region.conditions["tint"].amount if "tint" in region.conditions else 0.0


FIELD = ConditionField(name="tint", value=Tint, files={"image": "tint"}, bare="image", alone=True)
KIND = ConditionKind(
    name="tint", supports=by_family(YES, sd1=NO_TEXT, pbe=NO_TEXT), options=MASKED, contribute=contribute, takes=taken
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row in each table."""
    monkeypatch.setitem(CONDITIONS, "tint", FIELD)
    monkeypatch.setitem(KINDS, "tint", KIND)


def encoded(image: Image.Image, model: Model, grid: tuple[int, int]) -> Tensor:
    height, width = (side * model.vae.factor for side in grid)
    pixels = torch.from_numpy(np.asarray(image.resize((width, height))).copy()).permute(2, 0, 1)
    return model.vae.encode(pixels[None].float() / 127.5 - 1)[0]


def picture(seed: int, side: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8))


GREEN = Image.new("RGB", (8, 8), (30, 200, 60))
INSIDE = (..., slice(0, 4), slice(4, 8))
"""The tinted region on 8 x 8 latents."""
TINTED = {"name": "tinted", "box": (0.5, 0.0, 1.0, 0.5)}
CAT = Region(name="cat", box=(0.0, 0.0, 0.5, 1.0), phrase="a cat", negative="dog", weight=2.0)


def tinted(**changes: Any) -> Region:
    return Region(**TINTED | {"tint": GREEN} | changes)


def scene_of(*regions: Region, **changes: Any) -> Scene:
    return Scene(**{"caption": "on the beach", "seed": 1, "steps": 3, "regions": regions} | changes)


def drawn(model: Model, scene: Scene) -> Tensor:
    latents = generate(scene, model, output_type="latent").latents
    assert latents is not None
    return latents[0]


def estimate(model: Model, scene: Scene) -> Tensor:
    """The estimate of the last step, [C, H, W]."""
    found: list[Tensor] = []
    generate(scene, model, output_type="latent", on_step=lambda event: found.append(event.x0.clone()))
    return found[-1]


@pytest.mark.parametrize("method", OF_UNETS)
def test_it_changes_its_region_alone(tiny: Model, method: str) -> None:
    """In one step, since the network carries a change further from step to step."""
    plain = estimate(tiny, scene_of(CAT, method=method, steps=1))
    found = estimate(tiny, scene_of(CAT, tinted(), method=method, steps=1))
    changed = torch.zeros(8, 8, dtype=torch.bool)
    changed[INSIDE] = True
    assert torch.equal(found[..., ~changed], plain[..., ~changed])
    torch.testing.assert_close(found[INSIDE], encoded(GREEN, tiny, (8, 8))[INSIDE], atol=1e-5, rtol=0)


def test_over_a_background_every_other_pixel_stays(tiny: Model) -> None:
    result = generate(scene_of(tinted(), background=picture(3)), tiny)
    made, given = np.asarray(result.image.convert("RGB")), np.asarray(picture(3))
    rest = np.ones((64, 64), bool)
    rest[0:32, 32:64] = False
    assert np.array_equal(made[rest], given[rest])
    assert (made != given)[~rest].any()


@pytest.fixture(scope="module")
def builtin() -> Model:
    return load("builtin")


EDGES = {"kind": "canny", "image": Image.fromarray(np.eye(128, dtype=np.uint8) * 255)}
OTHERS = (
    Region(name="phrase", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat", guidance=4.0),
    Region(name="exemplar", box=(0.0, 0.5, 0.5, 1.0), exemplar=picture(1), seed=7),
    Region(name="control", box=(0.5, 0.5, 1.0, 1.0), control=EDGES, weight=0.7),
)


@pytest.mark.parametrize("method", OF_UNETS)
def test_it_composes_with_every_method_and_kind(builtin: Model, method: str) -> None:
    scene = scene_of(*OTHERS, tinted(), method=method, steps=2)
    height, width = (side // 2 for side in builtin_grid(builtin))
    found = estimate(builtin, scene)
    expected = encoded(GREEN, builtin, builtin_grid(builtin))
    torch.testing.assert_close(found[..., :height, width:], expected[..., :height, width:], atol=1e-4, rtol=0)
    assert torch.equal(estimate(builtin, scene.replace(regions=scene.regions[::-1])), found)
    without = [region for region in scene.regions if region.name != "exemplar"]
    assert not torch.equal(estimate(builtin, scene.replace(regions=without)), found)


def builtin_grid(model: Model) -> tuple[int, int]:
    return model.native.height // model.vae.factor, model.native.width // model.vae.factor


def test_it_shares_a_region_with_every_kind(builtin: Model) -> None:
    region = Region(**TINTED, phrase="a cat", exemplar=picture(1), control=EDGES, tint={"image": GREEN, "amount": 0.4})
    found = drawn(builtin, scene_of(region, steps=2))
    for name in ("exemplar", "control", "tint"):
        assert not torch.equal(drawn(builtin, scene_of(region.replace(**{name: None}), steps=2)), found)


@pytest.mark.parametrize("method", OF_UNETS)
def test_weight_0_is_absent_and_the_order_changes_nothing(tiny: Model, method: str) -> None:
    scene = scene_of(CAT, tinted(), tinted(name="weak", box=(0.25, 0.25, 1.0, 1.0), weight=0.4), method=method)
    found = drawn(tiny, scene)
    assert torch.equal(drawn(tiny, scene.replace(regions=scene.regions[::-1])), found)
    absent = scene.replace(regions=(CAT, scene.regions[1].replace(weight=0.0), scene.regions[2]))
    assert torch.equal(drawn(tiny, absent), drawn(tiny, scene.replace(regions=(CAT, scene.regions[2]))))


@pytest.mark.parametrize("options", [{"stop": 0.5}, {"feather": 0.5}, {"weight": 0.3}, {"tint": {"amount": 0.5}}])
def test_options_of_regions_apply_to_it(tiny: Model, options: dict[str, Any]) -> None:
    if "tint" in options:
        options = {"tint": {"image": GREEN, **options["tint"]}}
    rival = Region(name="rival", box=(0.5, 0.0, 1.0, 1.0), phrase="a dog")
    result = generate(scene_of(rival, tinted(**options)), tiny, output_type="latent")
    assert not torch.equal(result.latents[0], drawn(tiny, scene_of(rival, tinted())))
    assert result.report["warnings"] == []


def test_it_round_trips_through_json_with_paths_relative_to_the_file(tmp_path: Path) -> None:
    GREEN.save(tmp_path / "green.png")
    (tmp_path / "scene.json").write_text(json.dumps({"regions": [{**json_fields(), "tint": "green.png"}]}))
    scene = Scene.load(tmp_path / "scene.json")
    assert scene.regions[0].conditions["tint"] == Tint(image=tmp_path / "green.png")
    written = json.loads(scene.to_json(base=tmp_path / "elsewhere"))
    assert written["regions"][0]["tint"] == {"image": "../green.png"}
    assert Scene.from_json(scene.to_json()) == scene


def json_fields() -> dict[str, Any]:
    return {**TINTED, "box": list(TINTED["box"])}


def test_it_round_trips_through_a_png_that_embeds_its_image(tiny: Model, tmp_path: Path) -> None:
    GREEN.save(tmp_path / "green.png")
    result = generate(scene_of(CAT, tinted(tint={"image": tmp_path / "green.png", "amount": 0.5})), tiny)
    result.save(tmp_path / "made.png")
    (tmp_path / "green.png").unlink()
    scene = Scene.load(tmp_path / "made.png")
    tint = scene.regions[1].conditions["tint"]
    assert (tint.amount, tint.image.path) == (0.5, None)
    assert np.array_equal(np.asarray(generate(scene, tiny).image), np.asarray(result.image))


def test_it_is_changed_replaced_and_validated_like_fields() -> None:
    scene = with_fields(scene_of(tinted()), {"tinted.tint.amount": 0.5})
    region = scene.regions[0]
    assert region.conditions["tint"].amount == 0.5
    assert region != tinted()
    assert region.replace(weight=0.5).conditions == region.conditions
    assert region.replace(tint=None, phrase="a cat").conditions == {}
    assert "tint=Tint(" in repr(region)
    assert "tint" in Scene.json_schema()["$defs"]["Region"]["properties"]
    with pytest.raises(SceneError, match=r'^Region "tinted": amount is 2; give a number from 0 to 1'):
        tinted(tint={"image": GREEN, "amount": 2})
    with pytest.raises(SceneError, match=r'^Region "tinted": There is no field "tnt"; did you mean "tint"'):
        tinted(tnt=GREEN)
    with pytest.raises(SceneError, match="has both concept and tint"):
        Region(**TINTED, concept=GREEN, tint=GREEN)


def test_its_images_are_checked(tmp_path: Path) -> None:
    GREEN.save(tmp_path / "wide.png", icc_profile=profile())
    (found,) = colour_warnings(scene_of(tinted(tint=tmp_path / "wide.png")))
    assert found.startswith('Region "tinted": the colour space of its tint')
    assert [role for role, _ in images_of(tinted())] == ["tint"]


def profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


@dataclass(frozen=True, kw_only=True, eq=False)
class Darker:
    """Lowers the estimate by 1 everywhere."""

    when: Interval = ALWAYS
    streams: tuple[str, ...] = ("image",)

    def __call__(self, x0: Tensor, z: Tensor, step: Step, run: Run) -> Tensor:
        return x0 - 1

    def in_scene(self, scene: str) -> "Darker":
        return replace(self, streams=(f"{scene}/image",))


@pytest.mark.parametrize("stop", [1.0, 0.5])
def test_it_may_constrain_the_estimate_while_its_region_is_active(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, stop: float
) -> None:
    def darkens(parts: Sequence[Part], ctx: Context) -> Contribution:
        return Contribution(refines=(Darker(),) if any("tint" in part.region.conditions for part in parts) else ())

    monkeypatch.setitem(KINDS, "tint", replace(KIND, contribute=darkens, takes=lambda region, model: 0.0))
    scene = scene_of(CAT, tinted(stop=stop), steps=2)
    applied = [refine.when for refine in prepare(scene, tiny).plan.refines if isinstance(refine, Darker)]
    assert applied == [Interval(0.0, stop)]
    first: list[list[Tensor]] = [[], []]
    for found, one in zip(first, (scene, scene_of(CAT, steps=2)), strict=True):
        generate(one, tiny, output_type="latent", on_step=lambda event, found=found: found.append(event.x0.clone()))
    torch.testing.assert_close(first[0][0], first[1][0] - 1)


def test_a_family_that_does_not_support_it_is_refused_by_name(tiny_sd: Path) -> None:
    model = load(tiny_sd)
    expected = r'^Region "tinted": The model ".*" \(Stable Diffusion 1\.x\) cannot do tint; give its regions exemplars'
    with pytest.raises(CapabilityError, match=expected):
        drawn(model, scene_of(CAT, tinted(), method="attention", width=64, height=64))


def test_an_option_that_its_row_refuses_is_refused_by_name(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = replace(KIND, options={**MASKED, "seed": replace(MASKED["seed"], where=lambda *_: False, refused=True)})
    monkeypatch.setitem(KINDS, "tint", refused)
    with pytest.raises(SceneError, match=r'^Region "tinted": seed is 5, but cannot count here'):
        drawn(tiny, scene_of(tinted(seed=5)))


def test_explain_and_the_tables_show_it(tiny: Model) -> None:
    assert "view tint tinted: " in explain(scene_of(CAT, tinted()), tiny).plan
    assert "| tint | yes | no | yes | yes | no | no | no | no | no |" in table.markdown()
    assert "| tint | yes, but in a union |" in options_table()


def test_its_own_encoder_runs_once_and_not_for_explain(tiny: Model) -> None:
    """Though the region is active in several intervals of the steps, each with a view of its own."""
    calls: list[tuple[int, ...]] = []

    class Counted(Vae):
        def encode(self, pixels: Tensor) -> Tensor:
            calls.append(tuple(pixels.shape))
            return super().encode(pixels)

    model = replace(tiny, vae=Counted(tiny.vae.module))
    scene = scene_of(CAT.replace(stop=0.5), tinted(), steps=4)
    explain(scene, model)
    assert calls == []
    plan = prepare(scene, model).plan
    assert (len([view for view in plan.views if view.name == "tint tinted"]), len(calls)) == (2, 1)


def test_the_table_is_complete() -> None:
    """Every kind but phrases is a field, every field a kind; each has all families and options."""
    assert {name for name, kind in KINDS.items() if not kind.method} == set(CONDITIONS)
    assert {kind.method for kind in KINDS.values() if kind.method} == set(METHODS)
    for kind in KINDS.values():
        assert set(kind.supports) <= set(FAMILIES)
        for _, answers, families in table.rows(kind):
            assert set(answers) == set(OPTIONS)
            assert {family for family in families if kind.support(family).mark == "no"} == set()


def references(value: type[Value]) -> Iterator[str]:
    """The fields of a value that refer to files."""
    for name, field in value.model_fields.items():
        if "ImageRef" in str(field.annotation):
            yield name


def test_the_table_has_every_field_that_refers_to_a_file() -> None:
    for row in CONDITIONS.values():
        assert set(references(row.value)) == set(row.files) & set(row.value.model_fields)


def test_a_sweep_varies_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONDITIONS, "tint", replace(FIELD, sweeps=("tint.amount",)))
    found = swept(scene_of(CAT, tinted()), "tint.amount", [0.2, 0.4])
    assert [scene.regions[1].conditions["tint"].amount for scene in found] == [0.2, 0.4]


def test_scenes_from_outside_must_embed_its_image() -> None:
    data = {"regions": [{**json_fields(), "tint": "green.png"}]}
    with pytest.raises(SceneError, match=r'^Region "tinted": tint\.image refers to a file'):
        Scene.from_dict(data, images="embedded")


def test_edits_keep_it(tiny: Model) -> None:
    hat = Region(name="hat", box=(0.0, 0.5, 0.5, 1.0), edit={"kind": "add", "phrase": "a cat"})
    with_tint, without = (edit(scene_of(hat, *more), tiny) for more in ([tinted()], []))
    before = [np.asarray(made.named["before"].convert("RGB"))[:32, 32:] for made in (with_tint, without)]
    assert not np.array_equal(*before)
    assert np.array_equal(before[0], np.asarray(with_tint.image.convert("RGB"))[:32, 32:])
