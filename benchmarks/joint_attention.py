"""Cost of K regions on diffusion transformers: a step with K phrases, against the same step without any.

    python benchmarks/joint_attention.py
    python benchmarks/joint_attention.py --device cuda

The shapes are FLUX.2 klein 4B and FLUX.1 dev at 1024 x 1024 pixels: 4096 image tokens, a caption of 512 tokens with its
padding, and phrases of 13 (T5) or 25 (Qwen3 with its chat template) tokens. Weights are random; only their shape
matters. Regions are the Voronoi cells of K random points: disjoint, of different sizes, all of the image.

On a CPU a network has two blocks and 6 of its 24 heads, so that a step takes seconds; with --device cuda it is whole,
in bfloat16. The operations are always those of the whole network, counted by shapes.

``gathered`` is cloisonne's attention: queries that attend to the same keys are a group, without a mask. ``bounded`` is
the same with boosted phrases. ``bool mask`` is one masked softmax over the sequence. ``FlexAttention`` is PyTorch's,
compiled, with a block mask. ``diffusers`` is its own network and attention in a step of its Euler scheduler. The rows
of a table alternate; each reports its best round. Masks or indices are what stays in memory for a whole run; the peak
is what a step allocates at most, masks that it makes included, without the weights.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel, FluxTransformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cloisonne.core.attention.joint import JointLayout, QueryGroup, Segment, query_groups
from cloisonne.core.attention.joint_blocks import BlockGroups, JointOptions
from cloisonne.core.conditioning import Conditioning, Tokens
from cloisonne.core.guidance import Cfg
from cloisonne.core.plan import Plan, View
from cloisonne.core.predict import predict
from cloisonne.core.run import Run
from cloisonne.core.step import Step
from cloisonne.eval.report import Column, Report, Table
from cloisonne.models.checkpoints.copies import sharing_tensors
from cloisonne.models.mmdit.denoiser import JointDenoiser, RowInput
from cloisonne.models.mmdit.flux import FluxDenoiser, flux_spec
from cloisonne.models.mmdit.flux2 import Flux2Denoiser, flux2_spec, text_positions
from cloisonne.models.mmdit.packing import image_positions, packed, unpacked
from regions import cells

STEP = Step(index=10, count=20, t=500, alpha=0.5, s=0.5, t_next=450, alpha_next=0.55, s_next=0.45)
"""After the steps in which regions of the image attend only to themselves."""
CAPTION = 512
"""Tokens of a caption, with its padding."""
HEADS, WIDTH = 24, 128
"""Of both networks; the width is of one head."""
BOOST = 40.0
"""How often a token of a phrase counts in the row ``bounded``, after its text's counts are scaled."""
ISOLATE = JointOptions(isolate=0.15)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A network. phrase: tokens of one. blocks: double and single ones."""

    title: str
    network: Any
    denoiser: Any
    spec: Callable[..., Any]
    config: Mapping[str, Any]
    blocks: tuple[int, int]
    phrase: int
    vae_factor: int


SHAPES = {
    "klein": Shape(
        title="FLUX.2 klein 4B",
        network=Flux2Transformer2DModel,
        denoiser=Flux2Denoiser,
        spec=flux2_spec,
        config={"in_channels": 128, "joint_attention_dim": 7680, "guidance_embeds": False},
        blocks=(5, 20),
        phrase=25,
        vae_factor=16,
    ),
    "flux": Shape(
        title="FLUX.1 dev",
        network=FluxTransformer2DModel,
        denoiser=FluxDenoiser,
        spec=flux_spec,
        config={"in_channels": 64, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True},
        blocks=(19, 38),
        phrase=13,
        vae_factor=8,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row: form of attention, number of regions, what is timed, and bytes of masks or indices, if any."""

    form: str
    regions: int
    step: Callable[[], Tensor]
    memory: int = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a table is measured with."""

    shape: Shape
    pixels: int
    heads: int
    blocks: tuple[int, int]
    device: str

    @property
    def grid(self) -> tuple[int, int]:
        """Image tokens; each is 16 x 16 pixels in both networks."""
        return self.pixels // 16, self.pixels // 16

    def config(self, heads: int, blocks: tuple[int, int]) -> dict[str, Any]:
        """The network's configuration."""
        size = {"num_layers": blocks[0], "num_single_layers": blocks[1], "num_attention_heads": heads}
        return {**self.shape.config, **size, "attention_head_dim": WIDTH}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="default: klein flux")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--pixels", type=int, default=1024, help="side of the image (default: 1024)")
    parser.add_argument("--heads", type=int, help="of attention (default: 6 on a CPU, else 24, all)")
    parser.add_argument("--blocks", type=int, nargs=2, help="double and single ones (default: 1 1 on a CPU, else all)")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps of each row (default: 3)")
    parser.add_argument("--regions", type=int, nargs="+", default=[2, 5, 10], help="their numbers (default: 2 5 10)")
    parser.add_argument("--no-flex", action="store_true", help="leave FlexAttention out, which is compiled")
    parser.add_argument("--out", type=Path, default=Path("joint_attention.json"), help="JSON file of the tables")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = [setting_of(SHAPES[name], options) for name in options.shapes]
    costs = [row for own in settings for row in costs_of(own, options.regions)]
    times = [row for own in settings for row in times_of(own, options.regions, options.rounds, not options.no_flex)]
    tables = (operations_table(costs), times_table(times))
    for table in tables:
        print(table.markdown())
    options.out.write_text(Report(tables).json())
    print(f"The tables are in {options.out}")


def setting_of(shape: Shape, options: argparse.Namespace) -> Setting:
    """A few blocks and heads on a CPU, else the whole network, unless the options say otherwise."""
    cpu = options.device == "cpu"
    blocks = tuple(options.blocks) if options.blocks else (1, 1) if cpu else shape.blocks
    return Setting(
        shape=shape,
        pixels=options.pixels,
        heads=options.heads or (6 if cpu else HEADS),
        blocks=(blocks[0], blocks[1]),
        device=options.device,
    )


def layout_of(setting: Setting, count: int, *, isolated: bool = False, counted: bool = False) -> JointLayout:
    """The sequence [caption, phrases, image] of K regions. counted: phrases are boosted, as in the method bounded."""
    phrase, pixels = setting.shape.phrase, setting.grid[0] * setting.grid[1]
    starts = [CAPTION + phrase * k for k in range(count)]
    masks = cells(count, setting.grid[0]).flatten(1) if count else []
    counts = ((phrase // 2, phrase, BOOST),) if counted else ()
    segments = [Segment(start, start + phrase, mask, counts) for start, mask in zip(starts, masks, strict=True)]
    start = CAPTION + phrase * count
    return JointLayout((Segment(0, CAPTION), *segments), (start, start + pixels), isolated)


def size_of(groups: Sequence[QueryGroup]) -> int:
    """Bytes of the indices and factors of groups."""
    tensors = (x for own in groups for x in (own.queries, own.keys, own.bias, own.columns) if x is not None)
    return sum(x.numel() * x.element_size() for x in tensors)


def costs_of(setting: Setting, regions: Sequence[int]) -> list[tuple[str, ...]]:
    """Operations of the whole network and memory of masks, by shapes: nothing is computed."""
    whole = replace(setting, heads=HEADS, blocks=setting.shape.blocks)
    found: list[tuple[str, ...]] = []
    plain = operations(whole, 0, ())
    found.append((setting.shape.title, "without regions", "0", f"1.000 ({plain / 1e12:.1f} TFLOP)", "0"))
    for count in regions:
        layout = layout_of(setting, count)
        forms = {
            "gathered": layout,
            "gathered, isolated step": layout_of(setting, count, isolated=True),
            "bounded": layout_of(setting, count, counted=True),
        }
        for form, own in forms.items():
            groups = query_groups(own)
            ratio = operations(whole, count, groups) / plain
            found.append((setting.shape.title, form, str(count), f"{ratio:.3f}", f"{size_of(groups) / 1e6:.2f}"))
        ratio = operations(whole, count, ()) / plain
        found.append((setting.shape.title, "bool mask", str(count), f"{ratio:.3f}", f"{layout.length**2 / 1e6:.2f}"))
    return found


def operations(setting: Setting, count: int, groups: Sequence[QueryGroup]) -> int:
    """Of one forward pass of a network of these blocks."""
    names = ("queries", "keys", "bias", "columns")
    on_meta = [
        replace(own, **{name: x.to("meta") for name in names if (x := getattr(own, name)) is not None})
        for own in groups
    ]
    with torch.device("meta"):
        net = denoiser_of(replace(setting, device="meta"))
        given = row_input(setting, net, count, BlockGroups(tuple(on_meta)))
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            net.flow(given)
    return counter.get_total_flops()


def denoiser_of(setting: Setting) -> JointDenoiser:
    """The denoiser of a random network."""
    torch.manual_seed(0)
    shape = setting.shape
    network = shape.network(**setting.config(setting.heads, setting.blocks)).eval().requires_grad_(False)
    network = network.to(setting.device, torch.bfloat16 if setting.device.startswith("cuda") else torch.float32)
    spec = shape.spec(network.config, latent="random", vae_factor=shape.vae_factor, prediction="flow")
    return shape.denoiser(network, spec)


def row_input(setting: Setting, net: JointDenoiser, count: int, blocks: BlockGroups) -> RowInput:
    """The inputs of one forward pass, of any values."""
    spec, patch = net.spec, net.spec.patch
    lengths = (CAPTION, *[setting.shape.phrase] * count)
    return RowInput(
        z=torch.zeros(1, spec.latent_channels, *(side * patch for side in setting.grid)),
        grid=setting.grid,
        level=0.5,
        tokens=torch.zeros(1, sum(lengths), spec.token_width),
        lengths=lengths,
        padding=(0,) * len(lengths),
        pooled=torch.zeros(1, spec.pooled_width) if spec.pooled_width else None,
        micro={name: torch.ones(1, 1) for name in spec.micro},
        channels=None,
        references=(),
        residuals=(),
        blocks=blocks,
    )


@torch.no_grad()
def times_of(setting: Setting, regions: Sequence[int], rounds: int, flex: bool) -> list[tuple[str, ...]]:
    """Time of a step of each form, relative to the one without regions."""
    net = denoiser_of(setting)
    z = torch.randn(
        1, net.spec.latent_channels, *(side * net.spec.patch for side in setting.grid), device=setting.device
    )
    cases = [Case(form="without regions", regions=0, step=step_of(net, setting, 0, z)), diffusers_case(net, setting, z)]
    for count in regions:
        layout = layout_of(setting, count)
        size = size_of(query_groups(layout))
        cases.append(Case(form="gathered", regions=count, step=step_of(net, setting, count, z), memory=size))
        counted = step_of(net, setting, count, z, counted=True)
        size = size_of(query_groups(layout_of(setting, count, counted=True)))
        cases.append(Case(form="bounded", regions=count, step=counted, memory=size))
        cases.append(mask_case(net, setting, layout, count, z))
        cases += [flex_case(net, setting, layout, count, z)] if flex else []
    outputs, failed = {}, {}
    for case in cases:
        try:
            outputs[case.form, case.regions] = case.step()
        except Exception as error:  # what the compiler of FlexAttention raises depends on the machine
            if case.form != "FlexAttention":
                raise
            failed[case.form, case.regions] = type(error).__name__
    peaks = {key: peak_of(case.step, setting.device) for case in cases if (key := (case.form, case.regions)) in outputs}
    seconds = dict.fromkeys(outputs, float("inf"))
    for _ in range(rounds):
        for case in (case for case in cases if (case.form, case.regions) in outputs):
            key = (case.form, case.regions)
            seconds[key] = min(seconds[key], timed(case.step, setting.device))
    plain = seconds["without regions", 0]
    rows: list[tuple[str, ...]] = []
    for case in cases:
        key = (case.form, case.regions)
        if key in failed:
            cells = (f"not run: {failed[key]}", "", "", "")
        else:
            ratio = f"{seconds[key] / plain:.3f}" + (f" ({plain:.3g} s)" if case.form == "without regions" else "")
            against = outputs.get(("bool mask", case.regions))
            exact = case.form in ("gathered", "FlexAttention") and against is not None
            difference = f"{(outputs[key] - against).abs().max():.1e}" if exact else ""
            cells = (ratio, f"{case.memory / 1e6:.2f}", f"{peaks[key] / 1e6:.0f}", difference)
        rows.append((setting.shape.title, case.form, str(case.regions), *cells))
    return rows


def timed(step: Callable[[], Tensor], device: str) -> float:
    """Seconds: CPU time of one thread, or time on the GPU."""
    if device == "cpu":
        begin = time.process_time()
        step()
        return time.process_time() - begin
    torch.cuda.synchronize()
    begin = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def peak_of(step: Callable[[], Tensor], device: str) -> int:
    """Bytes that a step has allocated at once, at most."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    roots: Any = profiled.profiler.kineto_results.experimental_event_tree()
    events, found = list(roots), list[tuple[int, int]]()
    while events:
        event = events.pop()
        events += event.children
        if event.name == "[memory]":
            found.append((event.start_time_ns, event.extra_fields.alloc_size))
    return max(accumulate(size for _, size in sorted(found)))


def step_of(
    net: JointDenoiser, setting: Setting, count: int, z: Tensor, *, counted: bool = False
) -> Callable[[], Tensor]:
    """A prediction and an Euler step with K regions."""
    rng, spec = torch.Generator().manual_seed(0), net.spec
    side = setting.grid[0]
    lengths = [CAPTION, *[setting.shape.phrase] * count]
    values = [torch.randn(length, spec.token_width, generator=rng).to(setting.device) for length in lengths]
    masks = cells(count, side) if count else torch.zeros(0, side, side)
    masks = masks.repeat_interleave(spec.patch, 1).repeat_interleave(spec.patch, 2).to(setting.device)
    counts = ((setting.shape.phrase // 2, setting.shape.phrase, BOOST),) if counted else ()
    phrases = [Tokens(value, mask, counts=counts) for value, mask in zip(values[1:], masks, strict=True)]
    pooled = torch.zeros(spec.pooled_width, device=setting.device) if spec.pooled_width else None
    micro = dict.fromkeys(spec.micro, (3.5,))
    cond = Conditioning(tokens=(Tokens(values[0]), *phrases), pooled=pooled, micro=micro, joint=ISOLATE)
    weight = torch.ones(z.shape[-2:], device=setting.device)
    plan = Plan(views=(View(name="canvas", net=net, branches={"cond": cond}, guide=Cfg(scale=1.0), weight=weight),))
    run = Run()

    def step() -> Tensor:
        x0 = predict(plan, z, STEP, run)
        return STEP.alpha_next * x0 + STEP.s_next * (z - STEP.alpha * x0) / STEP.s

    return step


def diffusers_case(net: JointDenoiser, setting: Setting, z: Tensor) -> Case:
    """A step of diffusers' own: a network of the same weights with its own attention, and its scheduler."""
    shape = setting.shape
    network = sharing_tensors(net.module)
    network.set_attn_processor(default_processors(shape, setting))
    spec = net.spec
    texts = torch.randn(1, CAPTION, spec.token_width, generator=torch.Generator().manual_seed(0))
    inputs: dict[str, Any] = {"encoder_hidden_states": texts.to(z.device, net.module.dtype), "return_dict": False}
    if spec.pooled_width:
        inputs |= {"pooled_projections": torch.zeros(1, spec.pooled_width).to(z.device, net.module.dtype)}
        inputs |= {"guidance": torch.tensor([3.5], device=z.device, dtype=net.module.dtype)}
        inputs |= {"txt_ids": torch.zeros(CAPTION, 3, device=z.device)}
    else:
        inputs |= {"txt_ids": text_positions([CAPTION], z.device)}
    axes = len(network.config["axes_dims_rope"])
    inputs["img_ids"] = image_positions(setting.grid, axes, z.device)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(20)

    def step() -> Tensor:
        scheduler._step_index = 10
        hidden = packed(z.to(net.module.dtype), spec.patch)
        flow = network(hidden_states=hidden, timestep=torch.tensor([STEP.s], device=z.device), **inputs)[0]
        tokens = scheduler.step(flow, scheduler.timesteps[10], hidden, return_dict=False)[0]
        return unpacked(tokens, setting.grid, spec.patch)

    return Case(form="diffusers", regions=0, step=step)


def default_processors(shape: Shape, setting: Setting) -> dict[str, Any]:
    """diffusers' own attention processors of a network of these blocks."""
    with torch.device("meta"):
        return shape.network(**setting.config(1, setting.blocks)).attn_processors


def masked(net: JointDenoiser, attend: Callable[..., Tensor]) -> JointDenoiser:
    """A denoiser of the same weights with another form of attention."""
    module = sharing_tensors(net.module)
    return type(net)(module, net.spec, attend)


def mask_case(net: JointDenoiser, setting: Setting, layout: JointLayout, count: int, z: Tensor) -> Case:
    """One softmax with a bool mask [S, S]."""
    mask = (layout.bias() == 0).to(setting.device)

    def attend(q: Tensor, k: Tensor, v: Tensor, groups: Sequence[QueryGroup]) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    step = step_of(masked(net, attend), setting, count, z)
    return Case(form="bool mask", regions=count, step=step, memory=mask.numel())


def flex_case(net: JointDenoiser, setting: Setting, layout: JointLayout, count: int, z: Tensor) -> Case:
    """FlexAttention, compiled: which region a token is of decides, and a block mask says which blocks are empty."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    # 0: caption; 1 ..: phrases; -1 ..: image tokens of regions.
    owner = torch.zeros(layout.length, dtype=torch.long)
    for k, (segment, inside) in enumerate(zip(layout.segments[1:], layout.covered(), strict=True), 1):
        owner[segment.start : segment.stop] = k
        owner[layout.image[0] :][inside] = -k
    owner = owner.to(setting.device)

    def allowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_query, of_key = owner[query], owner[key]
        phrase = (of_query > 0) & ((of_key == of_query) | (of_key == -of_query))
        pixel = (of_query < 0) & ((of_key <= 0) | (of_key == -of_query))
        return (of_query == 0) | phrase | pixel

    blocks = create_block_mask(allowed, None, None, layout.length, layout.length, device=setting.device)
    compiled = torch.compile(flex_attention)

    def attend(q: Tensor, k: Tensor, v: Tensor, groups: Sequence[QueryGroup]) -> Tensor:
        return compiled(q, k, v, block_mask=blocks)

    tensors = (
        getattr(blocks, name) for name in ("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices")
    )
    size = sum(x.numel() * x.element_size() for x in tensors if x is not None)
    step = step_of(masked(net, attend), setting, count, z)
    return Case(form="FlexAttention", regions=count, step=step, memory=size)


def operations_table(rows: Sequence[tuple[str, ...]]) -> Table:
    """By shapes: operations of the whole network, relative to those without regions, and memory of masks."""
    columns = (
        Column("network", "text"),
        Column("form", "text"),
        *(Column(title, "number") for title in ("K", "operations of the whole network", "masks or indices, MB")),
    )
    return Table(name="operations", columns=columns, rows=tuple(rows))


def times_table(rows: Sequence[tuple[str, ...]]) -> Table:
    """Measured times."""
    titles = ("K", "time, of a step without regions", "masks or indices, MB", "peak of a step, MB")
    titles += ("largest difference from the bool mask",)
    columns = (Column("network", "text"), Column("form", "text"), *(Column(title, "number") for title in titles))
    return Table(name="times", columns=columns, rows=tuple(rows))


if __name__ == "__main__":
    main()
