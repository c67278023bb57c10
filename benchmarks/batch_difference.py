"""How images of shared forward passes differ from those of each scene alone.

    python benchmarks/batch_difference.py [--model builtin] [--device cpu] [--dtype float32] [--scenes 8] [--steps 20]

On a GPU compatible scenes share their passes anyway. On a CPU they do not; here they are made to, so that what the
shape of a batch does to the last bits can be seen there too. Printed is what differs in 8-bit values, and the seconds.
"""

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

import cloisonne.pipelines.generate as generating
from cloisonne.models.load import load
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

PHRASES = ("a cat", "a dog", "a doughnut", "an apple", "a car", "a tree", "a boat", "a bird")


def scene(number: int, steps: int) -> Scene:
    """Scenes whose captions, boxes and seeds differ."""
    left = 0.05 * (number % 8)
    regions = [
        Region(name="one", box=(left, 0.1, left + 0.5, 0.6), phrase=PHRASES[number % 8]),
        Region(name="two", box=(0.4, 0.5, 0.95, 0.95), phrase=PHRASES[(3 * number + 1) % 8]),
    ]
    return Scene(caption=f"on a beach, {number}", regions=regions, seed=number, steps=steps)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--scenes", type=int, default=8, help="at most 8 share a pass (default: 8)")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(arguments)
    model = load(options.model, device=options.device, dtype=options.dtype)
    scenes = [scene(number, options.steps) for number in range(options.scenes)]
    generating.sample_batch = partial(generating.sample_batch, per_scene=False)
    generating.generate_batched(scenes[:1], model, [None])  # the first pass is slower
    began = time.perf_counter()
    together = generating.generate_batched(scenes, model, [None] * len(scenes))
    between = time.perf_counter()
    alone = [generating.generate(one, model) for one in scenes]
    ended = time.perf_counter()
    pixels = [np.stack([np.asarray(one.image, dtype=np.int16) for one in results]) for results in (together, alone)]
    difference = np.abs(pixels[0] - pixels[1])
    images = int((difference.reshape(len(scenes), -1).max(axis=1) > 0).sum())
    print(f"{options.model}, {options.device}, {options.dtype}, {options.scenes} scenes, {options.steps} steps:")
    print(f"images that differ {images}; values that differ {100 * np.mean(difference > 0):.3f} %;")
    print(f"largest difference {difference.max()} of 255, mean {difference.mean():.5f};")
    print(f"seconds: together {between - began:.2f}, alone {ended - between:.2f}")


if __name__ == "__main__":
    main()
