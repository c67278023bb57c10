"""Cost of attention control at one layer: two canvases with an edit, against the
same two without.

    python benchmarks/attention_control.py

Head shapes of Stable Diffusion 1.5 at 32 x 32 (8 heads of 80) and 64 x 64 (8
of 40) pixels, 77 tokens, float32, one thread, rows interleaved, the best of 15
rounds. ``materialised`` builds the maps, as the published code does.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cloisonne.core.attention.edits import Fading, ShareSelf, ShareWords, Until, by_position
from cloisonne.core.attention.regional import gathered, self_attention, text_attention
from cloisonne.core.attention.text_sequences import TextSequence, TextSequences
from cloisonne.core.plan import AttentionEdit, AttentionTerm, Call, Row, Site, Step

STEP = Step(index=2, count=20, t=500, alpha=0.6, s=0.8, t_next=450, alpha_next=0.7, s_next=0.7)
ROWS = (Row("canvas", "after", "cond"), Row("canvas", "before", "cond"))
NUM_TOKENS, HEADS = 77, 8
SHAPES = {32: 640, 64: 320}
"""Channels by the side of the grid."""


class Materialised:
    """Replaces the target's attention probabilities by the source's."""

    def touches(self, site: Site, call: Call) -> bool:
        return True

    def qkv(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> tuple[Tensor, Tensor, Tensor]:
        return q, k, v

    def terms(self, q: Tensor, k: Tensor, v: Tensor, site: Site, call: Call) -> Sequence[AttentionTerm]:
        return ()

    def led(self, site: Site, call: Call) -> list[tuple[int, int]]:
        return []

    def wants_probs(self, site: Site, call: Call) -> bool:
        return True

    def probs(self, p: Tensor, site: Site, call: Call) -> Tensor:
        return torch.stack([p[1], p[1]])

    def in_scene(self, scene: str) -> "Materialised":
        return self


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each row (default: 15)")
    parser.add_argument("--out", type=Path, default=Path("attention_control.json"), help="JSON file to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = {}
    for side, channels in SHAPES.items():
        for kind in ("self", "cross"):
            table = measure(kind, side, channels, options.rounds)
            found[f"{kind} {side}"] = table
            plain = table["plain"]
            print(f"{kind:6}{side} x {side}")
            for name, seconds in table.items():
                print(f"    {name:22}{seconds * 1e3:9.2f} ms {seconds / plain:7.3f}")
    options.out.write_text(json.dumps({"torch": torch.__version__, "threads": 1, "seconds": found}, indent=1) + "\n")


@torch.no_grad()
def measure(kind: str, side: int, channels: int, rounds: int) -> dict[str, float]:
    """Seconds of the best round, by the name of the edit."""
    cases = {name: case(kind, side, channels, edits) for name, edits in edits_of(kind).items()}
    best = {name: float("inf") for name in cases}
    for run in cases.values():
        run()
    for _ in range(rounds):
        for name, run in cases.items():
            began = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def edits_of(kind: str) -> dict[str, tuple[AttentionEdit, ...]]:
    between = {"source": "before", "target": "after"}
    if kind == "self":
        return {"plain": (), "shared": (ShareSelf(**between),), "materialised": (Materialised(),)}
    same = by_position({}, NUM_TOKENS, NUM_TOKENS)
    gaps = same.clone()
    gaps[:, 5:9] = 0
    weights = torch.ones(NUM_TOKENS)
    weights[5] = 2
    return {
        "plain": (),
        "replace": (ShareWords(**between, mapping=same, ramp=Until(0.8)),),
        "refine": (ShareWords(**between, mapping=gaps, ramp=Fading(0.8)),),
        "refine and reweight": (ShareWords(**between, mapping=gaps, weights=weights, ramp=Fading(0.8)),),
        "materialised": (Materialised(),),
    }


def case(kind: str, side: int, channels: int, edits: tuple[AttentionEdit, ...]) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, side * side, channels, generator=generator)
    texts = TextSequences([TextSequence(i, torch.randn(NUM_TOKENS, 64, generator=generator)) for i in range(2)], 2)
    call = Call(z=torch.zeros(2, 4, side, side), step=STEP, rows=ROWS, texts=texts, edits=edits)
    site = Site("layer", (side, side), "cross" if kind == "cross" else "self")
    if kind == "self":
        return lambda: self_attention(q, k, v, HEADS, site, call)
    to_k, to_v = torch.randn(2, 64, channels, generator=generator)
    return lambda: text_attention(q, HEADS, lambda x: (x @ to_k, x @ to_v), site, call, gathered)


if __name__ == "__main__":
    main()
