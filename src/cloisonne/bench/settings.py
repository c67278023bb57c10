"""What all benchmarks share: where the results go, the model, the items, and the facts that make runs comparable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cloisonne.bench.arguments import layout_methods
from cloisonne.errors import CapabilityError
from cloisonne.eval.benchmark import RoundTrip
from cloisonne.eval.row_names import METHODS
from cloisonne.methods.kinds import KINDS
from cloisonne.models.builtin import BUILTIN, digest
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import as_pixels, as_tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a run.

    out: folder of the results. model: "builtin" or a folder. limit: number of items, from the first; None means all.
    seed: added to the seed of every item. report: receives a line per item.
    """

    out: Path
    model: str = "builtin"
    limit: int | None
    seed: int = 0
    device: str = "cpu"
    save_pictures: bool = False
    report: Callable[[str], None] = print

    def load(self, **options: Any) -> Model:
        """The model on the device. options: of ``cloisonne.load``."""
        return load(self.model, device=self.device, **options)

    def keywords(self, model: Model) -> dict[str, Any]:
        """Keyword arguments that every benchmark of ``cloisonne.eval`` takes."""
        return {
            "limit": self.limit,
            "seed": self.seed,
            "about": facts(model),
            "save_pictures": self.save_pictures,
            "report": self.report,
        }


def through_vae(model: Model) -> RoundTrip:
    """A function that encodes and decodes an image, uint8 [h, w, 3], with the model's VAE."""

    def round_trip(rgb: np.ndarray) -> np.ndarray:
        return as_pixels(model.vae.decode(model.vae.encode(as_tensor(rgb).to(model.device)))[0])

    return round_trip


def methods_of(model: Model, methods: Sequence[str] | None, report: Callable[[str], None]) -> tuple[str, ...]:
    """The methods to measure. None means all that the model supports; the others are reported.

    Raises SceneError for an unknown method, CapabilityError for a model that supports none.
    """
    if methods:
        return layout_methods(methods)
    met = {name: KINDS[f"phrase, method {name}"].support(model.family).met(model, None) for name in METHODS}
    if not any(met.values()):
        raise CapabilityError(f'The model "{model.name}" takes no text, so no phrases of layouts; give a text model.')
    if missing := [name for name, supported in met.items() if not supported]:
        report(f"Not measured, because the model does not support it: {', '.join(missing)}")
    return tuple(name for name, supported in met.items() if supported)


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
