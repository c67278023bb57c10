"""Cost of K regions: one guided prediction with K text sequences, against the
same prediction with one.

    python benchmarks/regions.py
    python benchmarks/regions.py --shapes small

The default shapes are Stable Diffusion 1.5 and the built-in UNet; small has 92
million parameters and 32 x 32 latents.

Weights are random; only their shape matters. One thread; the rows of a table
alternate, and each reports its best round and its FLOPs. Regions are the
Voronoi cells of K random points: disjoint and of different sizes. ``gathered``
is cloisonne's attention; ``bounded`` is the same with boosted tokens in each
sequence, as the method bounded has them; in ``dense`` every pixel attends to
every text sequence and the results are mixed by mask; ``separate`` predicts
each region by itself, like MultiDiffusion. Times are of the CPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from cloisonne.core.attention.regional import dense
from cloisonne.core.conditioning import Conditioning, Tokens
from cloisonne.core.guidance import Cfg
from cloisonne.core.plan import Plan, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.step import Step
from cloisonne.eval.report import Column, Report, Table
from cloisonne.models.builtin import BUILTIN
from cloisonne.models.spec import NetSpec
from cloisonne.models.unet.denoiser import UNetDenoiser

STEP = Step(index=0, count=20, t=500, alpha=0.28, s=0.96, t_next=450, alpha_next=0.36, s_next=0.93)
NUM_TOKENS = 77

ATTENTION = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SHAPES: dict[str, dict[str, Any]] = {
    "sd15": {**ATTENTION, "block_out_channels": (320, 640, 1280, 1280), "sample_size": 64},
    "small": {**ATTENTION, "block_out_channels": (128, 256, 384, 384), "sample_size": 32},
    "tiny": {**ATTENTION, "block_out_channels": (32, 32, 64, 64), "sample_size": 16, "layers_per_block": 1},
}
"""UNets by their config; "tiny" only checks that the benchmark runs."""

OURS = ("gathered", "bounded")
BOOSTED = ((10, 14, 1000.0), (15, 19, 1000.0))
"""Tokens of a phrase that stands twice, and how often each counts."""

MOST_SEPARATE = {"sd15": 2}
"""Largest K for which separate passes are timed, since more would take hours; the default is 8."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of a table: form of attention, number of regions, and the prediction to time."""

    form: str
    regions: int
    predict: Callable[[], Tensor]
    run: Run


@dataclass(frozen=True, kw_only=True)
class Result:
    """seconds: of the best round. time, operations: relative to one region. difference: maximum, to the dense form."""

    form: str
    regions: int
    rows: int
    seconds: float
    time: float
    operations: float
    difference: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--shapes",
        nargs="+",
        choices=[*SHAPES, "builtin"],
        metavar="SHAPE",
        help="sd15, small, tiny or builtin (default: sd15 builtin)",
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each row (default: 15)")
    parser.add_argument(
        "--dense-rounds", type=int, default=15, help="timed runs of the dense and separate rows (default: 15)"
    )
    parser.add_argument(
        "--regions", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="numbers of regions (default: 1 2 4 8 16)"
    )
    parser.add_argument("--out", type=Path, default=Path("regions.json"), help="JSON file (default: regions.json)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shapes = options.shapes or ["sd15", *(["builtin"] if builtin_config().exists() else [])]
    tables = {shape: measure(shape, options.regions, options.rounds, options.dense_rounds) for shape in shapes}
    options.out.write_text(Report((table_of(tables),)).json())
    print(f"The table is in {options.out}")


@torch.no_grad()
def measure(shape: str, regions: Sequence[int], rounds: int, dense_rounds: int) -> list[Result]:
    """Measure one table. The cases alternate, so that a busy moment does not affect only one of them."""
    unet = random_unet(shape)
    cases = list(cases_of(unet, sorted({1, *regions}), MOST_SEPARATE.get(shape, 8)))
    millions = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    side = unet.config["sample_size"]
    print(f"\n{shape}: {millions:.0f} million parameters, {side} x {side} latents")
    outputs = {(case.form, case.regions): case.predict() for case in cases}
    rows = {(case.form, case.regions): case.run.rows for case in cases}
    operations = {(case.form, case.regions): count_operations(case) for case in cases}
    seconds = {key: float("inf") for key in outputs}
    for number in range(rounds):
        for case in cases if number < dense_rounds else [case for case in cases if case.form in OURS]:
            begin = time.process_time()
            case.predict()
            key = (case.form, case.regions)
            seconds[key] = min(seconds[key], time.process_time() - begin)
    one = ("gathered", 1)
    results = [
        Result(
            form=form,
            regions=count,
            rows=rows[form, count],
            seconds=seconds[form, count],
            time=seconds[form, count] / seconds[one],
            operations=operations[form, count] / operations[one],
            difference=(output - outputs["dense", count]).abs().max().item() if form == "gathered" else None,
        )
        for (form, count), output in outputs.items()
    ]
    show(results)
    return results


def cases_of(unet: UNet2DConditionModel, regions: Sequence[int], most_separate: int) -> list[Case]:
    spec = NetSpec.from_unet(unet.config, latent="random", vae_factor=8, prediction="v_prediction")
    side = spec.native_latent
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(max(regions) + 1, NUM_TOKENS, spec.token_width, generator=generator)
    null, *phrases = (Tokens(value) for value in texts)
    z = torch.randn(1, spec.latent_channels, side, side, generator=generator)

    def case(form: str, count: int, views: list[tuple[Conditioning, Tensor]]) -> Case:
        net = UNetDenoiser(unet, spec, dense) if form == "dense" else UNetDenoiser(unet, spec)
        plan = Plan(
            views=tuple(
                View(
                    name=f"view {i}",
                    net=net,
                    branches={"cond": cond, "null": Conditioning(tokens=(null,))},
                    guide=Cfg(scale=4.0),
                    weight=weight,
                )
                for i, (cond, weight) in enumerate(views)
            )
        )
        run = Run()
        return Case(form=form, regions=count, predict=lambda: predict(plan, z, STEP, run), run=run)

    cases = []
    for count in regions:
        masks = cells(count, side)
        tokens = [Tokens(phrase.value, mask) for phrase, mask in zip(phrases, masks, strict=False)]
        everywhere = torch.ones(side, side)
        cases.append(case("gathered", count, [(Conditioning(tokens=tuple(tokens)), everywhere)]))
        boosted = [replace(token, counts=BOOSTED, peak=True) for token in tokens]
        cases.append(case("bounded", count, [(Conditioning(tokens=tuple(boosted)), everywhere)]))
        cases.append(case("dense", count, [(Conditioning(tokens=tuple(tokens)), everywhere)]))
        if 1 < count <= most_separate:
            alone = [Conditioning(tokens=(phrase,)) for phrase in phrases[:count]]
            cases.append(case("separate", count, list(zip(alone, masks, strict=True))))
    return cases


def cells(count: int, side: int) -> Tensor:
    """[count, side, side]: Voronoi cells of random points."""
    points = torch.rand(count, 2, generator=torch.Generator().manual_seed(count)) * side
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    distances = (y - points[:, 0, None, None]) ** 2 + (x - points[:, 1, None, None]) ** 2
    return torch.nn.functional.one_hot(distances.argmin(0), count).permute(2, 0, 1).float()


def count_operations(case: Case) -> int:
    def attention(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    # An operator that torch's counter omits.
    left_out = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=left_out) as counter:
        case.predict()
    return counter.get_total_flops()


def random_unet(shape: str) -> UNet2DConditionModel:
    torch.manual_seed(0)
    if shape == "builtin":
        return UNet2DConditionModel.from_config(json.loads(builtin_config().read_text())).eval()  # type: ignore[union-attr]
    return UNet2DConditionModel(**SHAPES[shape]).eval()


def builtin_config() -> Path:
    return BUILTIN / "unet" / "config.json"


def table_of(tables: dict[str, list[Result]]) -> Table:
    """One row per shape, form and number of regions."""
    titles = ("K", "rows", "time, of K = 1", "FLOPs, of K = 1", "largest difference from dense")
    columns = (Column("shape", "text"), Column("form", "text"), *(Column(title, "number") for title in titles))
    rows = []
    for shape, results in tables.items():
        for r in results:
            seconds = f" ({r.seconds:.3g} s)" if r.form == "gathered" and r.regions == 1 else ""
            difference = "" if r.difference is None else f"{r.difference:.1e}"
            cells = (f"{r.time:.3f}{seconds}", f"{r.operations:.3f}", difference)
            rows.append((shape, r.form, str(r.regions), str(r.rows), *cells))
    return Table(name="regions", columns=columns, rows=tuple(rows))


def show(results: list[Result]) -> None:
    print(table_of({"": results}).markdown())


if __name__ == "__main__":
    main()
