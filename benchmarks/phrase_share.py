"""How much of a region's attention its phrase has, by the boost of the method
bounded.

    python benchmarks/phrase_share.py examples/beach.json
    python benchmarks/phrase_share.py scene.json --model path/to/sd --boost 100 300 1000 3000

One prediction at the first step for each boost; nothing is generated. The mean
is over the pixels that lie within a region, heads, layers and regions. The
default boost was chosen at a share of .97 in the built-in family; of another
checkpoint, choose the one with such a share, as the region_boost of the scene.
"""

import argparse
from pathlib import Path

from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.phrase_boost import mean_share, phrase_odds
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene import Scene


def phrase_share(scene: Scene, model: Model, boost: float) -> float:
    """The mean share of attention, in [0, 1], that phrases have inside their regions at the first step."""
    prepared = prepare(scene.replace(method="bounded", region_boost=boost), model)
    return mean_share(phrase_odds(prepared.compiled.plan, prepared.steps, model), 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, help="a scene with regions")
    parser.add_argument("--model", default="builtin", help='"builtin" or what load takes')
    parser.add_argument("--boost", type=float, nargs="+", default=[2, 20, 50, 100, 300, 1000], help="boosts to read")
    given = parser.parse_args()
    scene, model = Scene.load(given.scene), load(given.model)
    for boost in given.boost:
        print(f"boost {boost:g}: {phrase_share(scene, model, boost):.2f}")


if __name__ == "__main__":
    main()
