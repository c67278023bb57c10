"""``arrange_noise``: each region gets the part of the initial noise in which its phrase is attended to most."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import write_checkpoint
from transformer_family import FAMILY, tiny_transformer

from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Box, Plan
from cloisonne.errors import CapabilityError, SceneError
from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.noise_arrangement import arrangeable, swapped
from cloisonne.pipelines.editing.edit import edit
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate, generate_batched
from cloisonne.pipelines.starts import start_maker
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

CAT = Region(name="cat", box=(0.0, 0.0, 0.5, 0.5), phrase="a cat")
CAR = Region(name="car", box=(0.5, 0.25, 1.0, 1.0), phrase="a red car")
SCENE = Scene(caption="on the beach", seed=3, steps=2, method="bounded", regions=(CAT, CAR))
ARRANGED = SCENE.replace(arrange_noise=True)


@pytest.fixture(scope="module")
def models(tiny: Model, tiny_xl: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    sd2 = write_checkpoint(tmp_path_factory.mktemp("sd2"), unet={"use_linear_projection": True})
    return {"family": tiny, "sd": load(sd2), "xl": load(tiny_xl)}


def noise_of(scene: Scene, model: Model) -> torch.Tensor:
    """[C, H, W]: what sampling starts at."""
    maker = start_maker(scene, model)
    noise = Noise([Seed(scene.seed or 0)], (model.vae.channels, *maker.prepared.grid), model.device)
    return maker.start(noise, Plan()).latents[0]


@pytest.mark.parametrize("target", [Box(0, 0, 3, 4), Box(2, 1, 6, 3), Box(0, 0, 6, 8), Box(4, 4, 6, 8)])
def test_the_window_with_the_most_attention_and_the_target_change_places(target: Box) -> None:
    attention = torch.rand(6, 8, generator=torch.Generator().manual_seed(target.top))
    order = swapped(attention, target)
    assert order.sort().values.tolist() == list(range(48))
    rows, columns = target.bottom - target.top, target.right - target.left
    windows = attention.unfold(0, rows, 1).unfold(1, columns, 1).sum((-1, -2))
    moved = attention.flatten()[order].view(6, 8)
    assert float(moved[target.window].sum()) == pytest.approx(float(windows.max()), rel=1e-5)
    top, left = divmod(int(windows.argmax()), windows.shape[1])
    elsewhere = torch.ones(6, 8, dtype=torch.bool)
    elsewhere[target.window] = elsewhere[top : top + rows, left : left + columns] = False
    assert torch.equal(moved[elsewhere], attention[elsewhere])


@pytest.mark.parametrize("line", ["family", "sd", "xl"])
def test_the_noise_keeps_its_values(models: dict[str, Model], line: str) -> None:
    plain, found = (noise_of(scene, models[line]) for scene in (SCENE, ARRANGED))
    assert not torch.equal(plain, found)
    pixels = [sorted(map(tuple, z.flatten(1).T.tolist())) for z in (plain, found)]
    assert pixels[0] == pixels[1]


def test_order_and_shares_of_regions(tiny: Model) -> None:
    """The order in the scene changes nothing; regions with a seed of their own or that begin later keep their noise."""
    again = noise_of(ARRANGED.replace(regions=(CAR, CAT)), tiny)
    assert torch.equal(again, noise_of(ARRANGED, tiny))
    for change in ({"seed": 5}, {"start": 0.5}):
        regions = (CAT, CAR.replace(**change))
        maker = start_maker(ARRANGED.replace(regions=regions), tiny)
        prepared = maker.prepared
        found = arrangeable(prepared.compiled.plan, prepared.placed, prepared.steps[0])
        assert [placed.name for placed, _ in found] == ["cat"]


def test_explain_counts_its_forwards(tiny: Model) -> None:
    found = explain(ARRANGED, tiny)
    assert (found.setup_forwards, found.setup_rows) == (2, 2)
    report = generate(ARRANGED, tiny, output_type="latent").report
    assert (report["forwards"], report["rows"]) == (found.forwards, found.rows)
    assert generate(ARRANGED, tiny, output_type="latent", num_images=2).report["forwards"] == 2 * found.forwards


def test_images_of_a_batch_are_those_of_their_seeds(tiny: Model) -> None:
    scenes = [ARRANGED, ARRANGED.replace(seed=4), SCENE]
    alone = [generate(scene, tiny, output_type="latent").latents for scene in scenes]
    together = generate_batched(scenes, tiny, [None] * 3, output_type="latent")
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other.latents, rtol=1e-4, atol=1e-4)
    several = generate(ARRANGED, tiny, output_type="latent", num_images=2).latents
    assert torch.equal(several, torch.cat(alone[:2]))


@pytest.mark.parametrize("changes", [{"method": "attention"}, {"regions": ()}, {"windows": 0.25, "width": 128}])
def test_it_warns_where_it_changes_nothing(tiny: Model, changes: dict[str, object]) -> None:
    found = generate(ARRANGED.replace(**changes), tiny, output_type="latent")
    assert any("arrange_noise changes nothing here" in text for text in found.report["warnings"])
    assert torch.equal(found.latents, generate(SCENE.replace(**changes), tiny, output_type="latent").latents)


def test_given_latents_are_refused(tiny: Model) -> None:
    with pytest.raises(SceneError, match="arrange_noise changes the initial noise"):
        generate(ARRANGED, tiny, latents=torch.zeros(1, tiny.vae.channels, 8, 8))


def test_edits_are_refused(tiny: Model) -> None:
    changed = CAT.replace(phrase="", edit={"kind": "change", "before": "a cat", "after": "a dog"})
    with pytest.raises(SceneError, match="arrange_noise is true, but edits"):
        edit(ARRANGED.replace(regions=(changed,)), tiny)


def test_translations_are_refused(tiny: Model) -> None:
    picture = Image.new("RGB", (64, 64), "teal")
    concept = Region(name="style", box=(0.0, 0.0, 1.0, 1.0), phrase="", concept={"image": picture})
    with pytest.raises(SceneError, match="arrange_noise is true, but translations"):
        generate(ARRANGED.replace(background=picture, regions=(concept,)), tiny)


def test_a_network_without_cross_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)
    with pytest.raises(CapabilityError, match="no cross-attention to arrange noise by; leave it out"):
        generate(ARRANGED, tiny_transformer(), output_type="latent")
