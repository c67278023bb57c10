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
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cloisonne.core.plan import AttentionEdit, Call, Conditioning, Site
from cloisonne.core.predict import predict
from cloisonne.models.load import load
from cloisonne.models.model import Model
from cloisonne.pipelines.prepare import prepare
from cloisonne.scene import Scene


class PhraseShare(AttentionEdit):
    """Reads the attention to boosted tokens inside their regions; changes nothing.

    spans: tokens ``start .. stop`` and mask [H, W] of each phrase. shares: one number for each phrase and layer.
    """

    def __init__(self, spans: Sequence[tuple[int, int, Tensor]]) -> None:
        self.spans = tuple(spans)
        self.shares: list[float] = []

    def touches(self, site: Site, call: Call) -> bool:
        return site.cross

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        row = next(place for place, one in enumerate(call.rows) if one.branch == "cond")
        for start, stop, mask in self.spans:
            inside = F.adaptive_avg_pool2d(mask[None], site.grid).flatten() > 0.99 * mask.max()
            if inside.any():
                self.shares.append(float(p[row, :, inside, start:stop].sum(-1).mean()))
        return p

    def in_scene(self, scene: str) -> "PhraseShare":
        return self


def phrase_share(scene: Scene, model: Model, boost: float) -> float:
    """The mean share of attention, in [0, 1], that phrases have inside their regions at the first step."""
    prepared = prepare(scene.replace(method="bounded", region_boost=boost), model)
    conditioning = prepared.compiled.plan.views[0].branches["cond"]
    assert isinstance(conditioning, Conditioning)
    spans, at = [], 0
    for piece in conditioning.tokens:
        for start, stop, _ in piece.counts:
            assert piece.mask is not None
            spans.append((at + start, at + stop, piece.mask))
        at += len(piece.value)
    reader = PhraseShare(spans)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, model.vae.channels, *prepared.grid, generator=generator).to(model.device)
    with torch.no_grad():
        predict(replace(prepared.compiled.plan, edits=(reader,)), z, prepared.steps[0])
    return sum(reader.shares) / len(reader.shares)


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
