"""The example scenes of the model families are valid on each of them: they are drawn, and nothing of them is lost."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from flux import write_flux
from flux2 import write_flux2
from sd3 import write_sd3
from tiny import write_checkpoint, write_xl
from zimage import write_zimage

from cloisonne.models.families import FAMILIES
from cloisonne.models.load import load
from cloisonne.pipelines.explain import explain
from cloisonne.pipelines.generate import generate
from cloisonne.scene.scene import Scene

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITERS: dict[str, Callable[[Path], Path]] = {
    "sd1": write_checkpoint,
    "sdxl": write_xl,
    "flux": write_flux,
    "kontext": partial(write_flux, pipeline="FluxKontextPipeline"),
    "sd3": write_sd3,
    "flux2": write_flux2,
    "zimage": write_zimage,
}
SCENES = {
    "families": tuple(WRITERS),
    "references": tuple(name for name, family in FAMILIES.items() if "exemplar" in family.supports and name in WRITERS),
}


def test_the_families_with_transformers_are_all_there() -> None:
    assert {name for name, family in FAMILIES.items() if "transformer" in family.members} <= WRITERS.keys()
    assert SCENES["references"] == ("kontext", "flux2")


@pytest.mark.parametrize(("scene", "family"), [(scene, family) for scene in SCENES for family in SCENES[scene]])
def test_an_example_is_valid(tmp_path: Path, scene: str, family: str) -> None:
    model = load(WRITERS[family](tmp_path))
    given = Scene.load(EXAMPLES / f"{scene}.json").replace(width=128, height=128)
    assert (model.family, model.native.method in ("isolated", "bounded")) == (family, True)
    found = explain(given, model)
    assert not [text for text in found.warnings if "pixels" not in text], "but for the size of the canvas"
    assert found.dropped == ()
    # A reference of Kontext has a megapixel.
    if (scene, family) != ("references", "kontext"):
        assert generate(given.replace(steps=1), model, output_type="latent").latents.isfinite().all()
