"""Runs the layouts benchmark with this package's generator."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cloisonne.bench.arguments import layout_methods
from cloisonne.eval.benchmark import RoundTrip, evaluate_layouts
from cloisonne.eval.judge import Judge
from cloisonne.eval.tables import Results
from cloisonne.models.builtin import BUILTIN, digest
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.generate import generate
from cloisonne.pipelines.inpaint import as_pixels, as_tensor
from cloisonne.scene import Scene


def layouts(
    out: Path,
    source: str,
    *,
    methods: Sequence[str] | None,
    limit: int | None,
    seed: int,
    device: str,
    save_pictures: bool,
    report: Callable[[str], None] = print,
) -> Results:
    """``evaluate layouts``: generate the layouts and measure them with the judge; see ``eval.benchmark``."""
    chosen = layout_methods(methods)
    model, judge = load(source, device=device), Judge.load(BUILTIN / "judge")

    def run(scene: Scene, method: str, seed: int) -> np.ndarray:
        return np.asarray(generate(scene.replace(method=method), model, seed=seed).image)

    return evaluate_layouts(
        run,
        judge,
        through_vae(model),
        out,
        methods=chosen,
        limit=limit,
        seed=seed,
        about=facts(model),
        save_pictures=save_pictures,
        report=report,
    )


def through_vae(model: Model) -> RoundTrip:
    """A function that encodes and decodes an image, uint8 [h, w, 3], with the model's VAE."""

    def round_trip(rgb: np.ndarray) -> np.ndarray:
        return as_pixels(model.vae.decode(model.vae.encode(as_tensor(rgb).to(model.device)))[0])

    return round_trip


def facts(model: Model) -> dict[str, str | int | float]:
    """The facts that two comparable runs share: the model, its native values, the judge, the device."""
    return {
        "model": model.name,
        "model_hash": model.hash,
        "judge": digest(BUILTIN / "judge"),
        "steps": model.native.steps,
        "guidance": model.native.guidance,
        "sampler": model.native.sampler,
        "device": str(model.device),
    }
