"""Cost and reconstruction error of the inversion methods, on world images.

    python benchmarks/inversion.py                 24 images, 20 and 50 steps
    python benchmarks/inversion.py --pictures 60 --steps 20

Each image is encoded, inverted with its own prompt, sampled with the same
prompt, and decoded. A guidance above 1 is used in both directions, except by
null text, which inverts at 1. Evaluations count network
rows per image, in inversion (up) and sampling (down). The ceiling is the
autoencoder's own round trip. Times are of one thread and comparable within one
run only.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cloisonne.core.inversion.ddim import invert
from cloisonne.core.inversion.null_text import fit_null
from cloisonne.core.plan import Plan, Step
from cloisonne.core.run import Run
from cloisonne.core.sample import sample
from cloisonne.core.samplers import Ddim, Sampler
from cloisonne.eval.layouts import scan
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import as_pixels, as_tensor
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene import Scene

FIRST_SEED = 7 << 20


@dataclass(frozen=True, kw_only=True)
class Result:
    """Means over images. up, down: network rows. latent: root mean squared error. psnr, ceiling: dB."""

    way: str
    guidance: float
    steps: int
    up: float
    down: float
    seconds: float
    latent: float
    psnr: float
    ceiling: float


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """One image inverted and sampled again: the resulting latents, and the network rows of both directions."""

    z: Tensor
    up: Run
    down: Run


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin", help='"builtin" or a diffusers folder (default: builtin)')
    parser.add_argument("--pictures", type=int, default=24, help="world images (default: 24)")
    parser.add_argument("--steps", type=int, nargs="+", default=[20, 50], help="denoising steps (default: 20 50)")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.5], help="scales (default: 1 2.5)")
    parser.add_argument("--out", type=Path, default=Path("inversion.json"), help="JSON file (default: inversion.json)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = load(options.model)
    results = []
    for count in options.steps:
        for guidance in options.guidance:
            for name, method in methods(guidance).items():
                results.append(measure(name, method, model, options.pictures, count, guidance))
                show(results[-1])
    found = {"torch": torch.__version__, "threads": 1, "pictures": options.pictures}
    options.out.write_text(json.dumps({**found, "results": [asdict(result) for result in results]}, indent=1) + "\n")


Method = Callable[[Scene, Model, Tensor], RoundTrip]


def methods(guidance: float) -> dict[str, Method]:
    """The rows of a table, by name."""
    found: dict[str, Method] = {"ddim": ddim, "direct": direct}
    return found if guidance == 1 else {**found, "null-text": null_text}


def ddim(scene: Scene, model: Model, z: Tensor) -> RoundTrip:
    """Invert and sample with the same plan."""
    plan, steps = compiled(scene, model)
    found = invert(plan, z, steps)
    return back(plan, Ddim(), found.noise, steps, found.run)


def direct(scene: Scene, model: Model, z: Tensor) -> RoundTrip:
    """The same, with sampling put back onto the stored path after each step."""
    plan, steps = compiled(scene, model)
    found = invert(plan, z, steps)
    return back(plan, found.sampler, found.noise, steps, found.run)


def null_text(scene: Scene, model: Model, z: Tensor) -> RoundTrip:
    """Invert without guidance and fit null tokens to the path; the fit counts as inversion."""
    plan, steps = compiled(scene, model)
    found = invert(compiled(scene.replace(guidance=1.0), model)[0], z, steps)
    return back(fit_null(plan, found.path, steps, run=found.run), Ddim(), found.noise, steps, found.run)


def back(plan: Plan, sampler: Sampler, noise: Tensor, steps: Sequence[Step], up: Run) -> RoundTrip:  # type: ignore[type-arg]
    down = Run()
    return RoundTrip(z=sample(plan, sampler, noise, steps, noise=lambda: noise, run=down), up=up, down=down)


def compiled(scene: Scene, model: Model) -> tuple[Plan, tuple[Step, ...]]:
    prepared = prepare(scene, model)
    return prepared.compiled.plan, prepared.steps


def measure(name: str, method: Method, model: Model, pictures: int, count: int, guidance: float) -> Result:
    rows = []
    for layout in scan(pictures, FIRST_SEED):
        rgb = layout.truth().rgb
        scene = layout.scene().replace(steps=count, guidance=guidance, sampler="ddim", seed=0)
        z = model.vae.encode(as_tensor(rgb))
        began = time.perf_counter()
        trip = method(scene, model, z)
        seconds = time.perf_counter() - began
        with torch.no_grad():
            reconstruction, ceiling = (as_pixels(model.vae.decode(canvas)[0]) for canvas in (trip.z, z))
        error = float((trip.z - z).square().mean().sqrt())
        rows.append((trip.up.rows, trip.down.rows, seconds, error, psnr(reconstruction, rgb), psnr(ceiling, rgb)))
    up, down, seconds, error, own, ceiling = np.mean(rows, axis=0).tolist()
    return Result(
        way=name,
        guidance=guidance,
        steps=count,
        up=up,
        down=down,
        seconds=seconds,
        latent=error,
        psnr=own,
        ceiling=ceiling,
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.square(a.astype(float) - b).mean())))


def show(r: Result) -> None:
    print(
        f"{r.way:16} guidance {r.guidance:<4g} {r.steps:3} steps  {r.up:7.1f} + {r.down:5.1f} rows {r.seconds:7.2f} s  "
        f"latent {r.latent:.2e}  {r.psnr:6.2f} dB of {r.ceiling:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
