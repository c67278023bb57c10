"""A 2-D toy of the method: x0 estimates are fused, then one solver takes one step.

    python docs/toy.py            # writes docs/images/toy.png in seconds, without any weights

Every latent pixel of this canvas is a point of the plane, and each "network" is exact: the mean of x0 given z is a
formula for a mixture of Gaussians. Everything else is the code that generates images: views with weights, a pinned
background, samplers, and the one loop.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cloisonne.core.guidance import Single
from cloisonne.core.plan import Call, Conditioning, Plan, Step, Tokens, View
from cloisonne.core.predict import predict
from cloisonne.core.refines import Pin
from cloisonne.core.sample import sample
from cloisonne.core.samplers import SAMPLERS
from cloisonne.core.schedule import Schedule

SIDE = 64
SCHEDULE = Schedule.from_config({"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012})
BRANCHES = {"cond": Conditioning(tokens=(Tokens(torch.zeros(1, 1)),))}  # these networks ignore their text
COLOURS = torch.tensor([[214.0, 69, 65], [31, 119, 180], [230, 159, 0], [90, 90, 90]])
"""Of the ring, the petals, the cross, and the pinned points."""


@dataclass(frozen=True, eq=False)
class Mixture:
    """An exact network: the mean of x0 given ``z = alpha * x0 + s * n``, x0 from Gaussians around ``means``."""

    means: Tensor
    spread: float

    def __call__(self, call: Call) -> Tensor:
        alpha, s, own = call.step.alpha, call.step.s, self.spread**2
        off = call.z.movedim(1, -1)[..., None, :] - alpha * self.means  # [R, H, W, means, 2]
        variance = alpha**2 * own + s**2
        chance = (-off.square().sum(-1) / (2 * variance)).softmax(-1)[..., None]
        return (chance * (self.means + alpha * own / variance * off)).sum(-2).movedim(-1, 1)


def circle(count: int, radius: float, x: float) -> Tensor:
    """[count, 2]: points around (x, 0.9)."""
    angles = torch.arange(count) * (2 * torch.pi / count) + torch.pi / 2
    return torch.stack([x + radius * angles.cos(), 0.9 + radius * angles.sin()], dim=-1)


LINE = torch.linspace(-0.8, 0.8, 17)
RING, PETALS = Mixture(circle(48, 0.85, -1.5), 0.06), Mixture(circle(5, 0.8, 1.5), 0.14)
CROSS = Mixture(torch.cat([torch.stack([LINE, s * LINE - 1.1], dim=-1) for s in (1, -1)]), 0.06)


def views() -> tuple[View, ...]:
    """Three regions: one with a hard edge, one that fades into the next, and a window with weights of 2 to 1."""
    column, row = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="xy")
    hard, soft = (column < 22).float(), ((column - 36) / 14).clamp(0, 1)
    third = ((column > 4) & (column < 18) & (row > 30) & (row < 46)) / 3
    weights = {RING: hard * (1 - third), PETALS: (1 - hard) * (1 - soft), CROSS: (1 - hard) * soft + third}
    names = ("ring", "petals", "cross")
    return tuple(view(name, net, weight) for name, (net, weight) in zip(names, weights.items(), strict=True))


def view(name: str, net: Mixture, weight: Tensor) -> View:
    """A network on the whole canvas, weighted by ``weight`` [H, W]."""
    return View(name=name, net=net, branches=BRANCHES, guide=Single(), weight=weight)


def pinned() -> Pin:
    """The lowest rows of the canvas are known: points on a wave."""
    x = torch.linspace(-2.7, 2.7, SIDE).expand(SIDE, SIDE)
    free = (torch.arange(SIDE) < 54).float()[:, None].expand(SIDE, SIDE)
    return Pin(known=torch.stack([x, 0.12 * (4 * x).sin() - 2.45]), mask=free)


def noise(seed: int) -> Callable[[], Tensor]:
    """Unit noises of one canvas."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(1, 2, SIDE, SIDE, generator=generator)


def sampled(plan: Plan, name: str, z: Tensor, steps: Sequence[Step]) -> list[Tensor]:
    """Our method: the canvases from noise to the last step, by the one loop."""
    path = [z]
    sample(plan, SAMPLERS[name], z, steps, noise=noise(7), on_step=lambda step, z, x0: path.append(z))
    return path


def fused_steps(plan: Plan, name: str, z: Tensor, steps: Sequence[Step]) -> list[Tensor]:
    """The alternative: every view takes a solver step of its own; the canvases are averaged by the views' weights."""
    alone = [partial(predict, Plan(views=(replace(v, weight=torch.ones(SIDE, SIDE)),))) for v in plan.views]
    noises, path = [noise(7 + i) for i in range(len(alone))], [z]
    for step in steps:
        ends = [SAMPLERS[name].step(a, path[-1], step, None, n)[0] for a, n in zip(alone, noises, strict=True)]
        path.append(torch.stack([v.weight * end for v, end in zip(plan.views, ends, strict=True)]).sum(0))
    return path


def main(path: Path) -> dict[str, float]:
    """Write the figure; print and return the numbers."""
    steps, many = SCHEDULE.steps(40, ends_clean=True), SCHEDULE.steps(250, ends_clean=True)
    plan, pin, start = Plan(views=views()), pinned(), noise(0)()
    pairs = zip(sampled(plan, "euler", start, steps), fused_steps(plan, "euler", start, steps), strict=True)
    # Two equal networks on one canvas, a unit Gaussian: its standard deviation has to stay 1 at every step.
    half, unit = torch.full((SIDE, SIDE), 0.5), Mixture(torch.zeros(1, 2), 1.0)
    twins = Plan(views=(view("a", unit, half), view("b", unit, half)))
    one, fused = ([float(z.std()) for z in f(twins, "euler-ancestral", start, many)] for f in (sampled, fused_steps))
    begin = torch.where(pin.mask > 0, start, steps[0].alpha * pin.known + steps[0].s * start)
    canvas = sampled(plan + Plan(refines=(pin,)), "euler", begin, steps)
    draw(path, pin, canvas, one, fused)
    off = float(((canvas[-1] - pin.known) * (1 - pin.mask)).abs().max())
    apart = max(float((a - b).abs().max()) for a, b in pairs)
    print(f"DDIM: fusing estimates and fusing steps differ by {apart:.1e} at most")
    print(f"euler-ancestral: one canvas has std {one[-1]:.2f}; fused steps, each with its noise, {fused[-1]:.2f}")
    print(f"pinned points end {off:.1e} from where they belong")
    return {"apart": apart, "one": one[-1], "fused": fused[-1], "off": off}


def draw(path: Path, pin: Pin, canvas: list[Tensor], one: list[float], fused: list[float]) -> None:
    """Three panels: the canvas by region, where its points end, and the std by step; drawn twice as large."""
    colours = torch.einsum("khw,kc->hwc", torch.stack([v.weight for v in views()]), COLOURS[:3])
    colours = torch.where(pin.mask[..., None] > 0, colours, COLOURS[3]).round().to(torch.uint8)
    sheet = Image.new("RGB", (3120, 1150), "white")
    sheet.paste(Image.fromarray(colours.numpy()).resize((960, 960), Image.Resampling.NEAREST), (60, 130))
    sheet.paste(plane(960, colours, canvas), (1080, 130))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(40)
    for x, title in ((60, "the canvas: each pixel is one point"), (1080, "the plane: where the points go")):
        pen.text((x, 45), title, fill=(40, 40, 40), font=font)
    pen.text((2100, 45), "std of the canvas on the way", fill=(40, 40, 40), font=font)
    for x, y, text in ((90, 190, "hard edge"), (560, 190, "soft edge"), (90, 480, "ring"), (450, 480, "petals")):
        pen.text((x, y), text, fill="white", font=font)
    for x, y, text in ((820, 480, "cross"), (144, 675, "2 : 1"), (90, 985, "pinned")):
        pen.text((x, y), text, fill="white", font=font)
    for level in (0.0, 0.25, 0.5, 0.75, 1.0):
        pen.line((2190, 1090 - 768 * level, 3060, 1090 - 768 * level), fill=(225, 225, 225), width=3)
        pen.text((2100, 1066 - 768 * level), f"{level:g}", fill=(110, 110, 110), font=font)
    for values, colour, text, y in (
        (one, (44, 130, 80), "estimates fused", -75),
        (fused, (150, 60, 140), "steps fused", 30),
    ):
        spots = [(2190 + i * 870 / (len(values) - 1), 1090 - 768 * value) for i, value in enumerate(values)]
        pen.line(spots, fill=colour, width=8, joint="curve")
        pen.text((2400, spots[len(spots) // 2][1] + y), text, fill=colour, font=font)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.resize((1560, 575), Image.Resampling.LANCZOS).save(path, optimize=True)


def plane(side: int, colours: Tensor, canvas: list[Tensor]) -> Image.Image:
    """The densities, some of the paths, and every point of the canvas where it ends, in its pixel's colour."""
    axis = torch.linspace(-3, 3, side)
    grid = torch.stack(torch.meshgrid(axis, -axis, indexing="xy"), dim=-1)
    shade = torch.full((side, side, 3), 255.0)
    for net, colour in zip((RING, PETALS, CROSS), COLOURS[:3], strict=True):
        density = sum((((m - grid).square().sum(-1)) / (-2 * (net.spread + 0.08) ** 2)).exp() for m in net.means)
        assert isinstance(density, Tensor)
        shade += 0.25 * (density / density.max())[..., None] * (colour - 255)
    figure = Image.fromarray(shade.clamp(0, 255).to(torch.uint8).numpy())
    pen = ImageDraw.Draw(figure)
    places = (torch.cat(canvas).clamp(-3, 3) * torch.tensor([1, -1])[:, None, None] / 3 + 1) * side / 2
    for row, column in product(range(2, SIDE, 12), range(3, SIDE, 9)):
        pale = (colours[row, column].int() + 510) // 3
        pen.line([(x, y) for x, y in places[:, :, row, column].tolist()], fill=tuple(pale.tolist()), width=2)
    for row, column in product(range(SIDE), repeat=2):
        x, y = places[-1, :, row, column].tolist()
        pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=tuple(colours[row, column].tolist()))
    pen.rectangle((0, 0, side - 1, side - 1), outline=(200, 200, 200), width=3)
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images" / "toy.png")
