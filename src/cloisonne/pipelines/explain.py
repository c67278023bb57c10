"""``explain``: the plan and cost of a run, without running a network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cloisonne.core.collate import RowRequest, passes
from cloisonne.core.control_residuals import ResidualNet, control_batches
from cloisonne.core.plan import Branch, Conditioning, Net, Step, View
from cloisonne.core.run import EXACT, SCHEDULES, FeatureCaches, ReuseSchedule
from cloisonne.core.samplers import Sampler
from cloisonne.models.adapters.block_controlnet import BlockControlNet
from cloisonne.models.adapters.controlnet import ControlNet
from cloisonne.models.checkpoints.scheduler_config import SAMPLERS
from cloisonne.models.cost import Cost
from cloisonne.models.denoiser import HasCost, HasOuterCost, ReusesFeatures
from cloisonne.models.model import Model
from cloisonne.pipelines.inpaint import BackgroundEdit
from cloisonne.pipelines.large.hires import Repaint
from cloisonne.pipelines.plan_text import counted, plan_text, reference_tokens
from cloisonne.pipelines.prepare import Prepared, size_of
from cloisonne.pipelines.starts import start_maker
from cloisonne.scene.prompt import pieces, switches
from cloisonne.scene.scene import Scene

FLOPS_PER_THREAD = 6e10
"""Assumed operations per second of one CPU thread in float32; measured with Stable Diffusion: 8.4e10."""
FLOPS_OF_A_GPU = 3e13
"""Assumed operations per second of any other device."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The plan and cost of a run for one image; ``str`` gives both as text.

    Attributes:
        scene: Resolved scene.
        window: Text: the window of the background that is repainted; None without a background.
        plan: Text: each view with its network, steps, guidance and conditioning.
        steps: Denoising steps.
        forwards: Network forwards of the whole run, ControlNets included. Inversion and learning a concept count at
            their most.
        rows: Batch rows of these forwards.
        tokens: Conditioning tokens of all batch rows of the first step.
        flops, memory_bytes, seconds: Estimates; seconds for this machine's CPU threads, or for an average GPU.
        dropped, warnings: As in a report.
        learned: Names of the learned words in each text, by text: "caption" or 'region "pet"'. Texts without learned
            words are left out.
        notes: Defaults in place of fields that the scene leaves out, and how the checkpoint's files were read.
        reused: The forwards that reuse deep features, with the speed "fast"; of a transformer at most so many, and
            numbers of time and work are those without.
        setup_forwards, setup_rows: The part of ``forwards`` and ``rows`` before sampling: inversion, learning.
    """

    scene: Scene
    window: str | None
    plan: str
    steps: int
    forwards: int
    rows: int
    tokens: int
    flops: float
    memory_bytes: float
    seconds: float
    device: str
    notes: tuple[str, ...]
    dropped: tuple[str, ...]
    warnings: tuple[str, ...]
    learned: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    setup_forwards: int = 0
    setup_rows: int = 0
    reused: int = 0
    reused_at_most: bool = False

    def __str__(self) -> str:
        width, height = size_of(self.scene)
        scene = self.scene
        settings = f"method {scene.method}, sampler {scene.sampler}, guidance {scene.guidance:g}"
        lines = [
            f"{width} x {height} pixels, {settings}",
            *([_second(scene)] if scene.hires else []),
            *([self.window] if self.window else []),
            self.plan,
            *self._counts(),
            f"{counted(self.tokens, 'token')} in the batch rows of the first step",
            f"about {self.flops / 1e9:,.2f} GFLOP, {self.seconds:,.1f} s and {self.memory_bytes / 2**20:,.0f} MiB "
            f"on {self.device} (estimates)",
            *(f"learned words: {place}: {', '.join(words)}" for place, words in self.learned.items()),
            *(f"note: {note}" for note in self.notes),
            *(f'dropped: region "{name}", for lack of tokens' for name in self.dropped),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)

    def _counts(self) -> list[str]:
        """Forwards and batch rows: before sampling, and of the steps."""
        setup, lines = self.setup_forwards, list[str]()
        if setup:
            rows = counted(self.setup_rows, "batch row")
            lines.append(f"before sampling, at most: {counted(setup, 'forward')} with {rows}")
        forwards, rows = self.forwards - setup, self.rows - self.setup_rows
        each = f" ({forwards / self.steps:.3g} and {rows / self.steps:.3g} per step)" if self.steps else ""
        total = f"{counted(forwards, 'forward')} with {counted(rows, 'batch row')}"
        lines.append(f"{counted(self.steps, 'step')}: {total}{each}")
        most = "at most " if self.reused_at_most else ""
        return [*lines, f"{most}{self.reused} of them reuse deep features"] if self.reused else lines


def _second(scene: Scene) -> str:
    """The second pass of a scene with ``hires``, as words."""
    assert scene.hires is not None, "the scene has a second pass"
    return f"enlarged {scene.hires.scale:g} times and repainted at strength {scene.hires.strength:g}"


def explain(scene: Scene, model: Model, *, solver: Sampler[Any] | None = None) -> Explanation:
    """Plan and cost of :func:`~cloisonne.pipelines.generate.generate` for one image; no network is run.

    solver: replaces the scene's sampler. Raises what ``generate`` raises for the scene.
    """
    maker = start_maker(scene.replace(hires=None), model, blank=True, solver=solver)
    warnings = (*maker.prepared.compiled.warnings, *maker.warnings())
    compiled = replace(maker.prepared.compiled, plan=maker.plan(), warnings=warnings)
    prepared = replace(maker.prepared, compiled=compiled)
    setup = [Forward(model.net, prepared.grid, rows) for rows in maker.setup_rows()]
    passes_of_image = [prepared]
    if scene.hires is not None:
        passes_of_image.append(Repaint.of(prepared.scene.replace(hires=scene.hires), model, blank=True).prepared)
    forwards = setup + [one for each in passes_of_image for one in _sampling_forwards(each)]
    decoder = model.vae.cost(passes_of_image[-1].grid)
    keys = [[(one.net, one.canvas, one.outer, tokens) for tokens in _row_tokens(one, model)] for one in forwards]
    costs = {key: _cost(*key, model) for key in dict.fromkeys(key for rows in keys for key in rows)}
    times = [3 if one.backward else 1 for one in forwards]
    own = sum(times[at] * costs[key].flops for at, rows in enumerate(keys) for key in rows)
    flops = own + decoder.flops
    numbers = model.parameters + max([decoder.numbers, *(sum(costs[key].numbers for key in rows) for rows in keys)])
    cpu, threads = model.device.type == "cpu", torch.get_num_threads()
    return Explanation(
        scene=prepared.scene.replace(hires=scene.hires),
        window=None if prepared.edit is None else _window(prepared.edit),
        plan=plan_text(prepared.compiled.plan, model, prepared.steps),
        steps=sum(len(each.steps) for each in passes_of_image),
        forwards=len(forwards),
        rows=sum(one.rows for one in forwards),
        reused=sum(one.outer for one in forwards),
        reused_at_most=any(one.outer and not isinstance(one.net, HasOuterCost) for one in forwards),
        tokens=_tokens(prepared),
        flops=flops,
        memory_bytes=numbers * model.dtype.itemsize,
        seconds=flops / (FLOPS_PER_THREAD * threads if cpu else FLOPS_OF_A_GPU),
        device=counted(threads, "CPU thread") if cpu else str(model.device),
        notes=(*_defaults(scene, prepared.scene, model), *model.notes),
        dropped=prepared.compiled.dropped,
        warnings=prepared.compiled.warnings,
        learned=_learned(prepared),
        setup_forwards=len(setup),
        setup_rows=sum(one.rows for one in setup),
    )


def _learned(prepared: Prepared) -> dict[str, tuple[str, ...]]:
    """Names of the learned words that each text uses in any step, by text."""
    scene, steps = prepared.scene, len(prepared.steps)
    texts = {"caption": scene.caption, "negative": scene.negative}
    for region in scene.active_regions:
        texts |= {f'region "{region.name}"': region.phrase, f'region "{region.name}", negative': region.negative}
    found: dict[str, tuple[str, ...]] = {}
    for place, text in texts.items():
        moments = sorted({0.0, *switches(text, steps)}) if text and steps else []
        pieces_of_text = (piece for moment in moments for piece in pieces(text, moment, steps))
        used = (name for piece in pieces_of_text for name in prepared.ctx.model.text.learned.used(piece.words))
        if names := tuple(dict.fromkeys(used)):
            found[place] = names
    return found


STEPS_ELSEWHERE = 50
"""Default number of steps of diffusers' pipelines."""


def _defaults(given: Scene, scene: Scene, model: Model) -> list[str]:
    """A note where the scene leaves sampler or steps out and the checkpoint names a scheduler of its own."""
    absent = [name for name, value in (("sampler", given.sampler), ("steps", given.steps)) if value is None]
    if not absent or model.scheduler is None or model.family == "builtin" or given.translated is not None:
        return []
    if model.native.spacing != "default":  # a distilled network, whose note says what the defaults are
        return []
    own = SAMPLERS.get(model.scheduler)
    named = model.scheduler if own is None else f'{model.scheduler} (here "{own}")'
    return [
        f'The scene gives no {" and no ".join(absent)}: it uses "{scene.sampler}" with {scene.steps} steps. The '
        f"checkpoint's own scheduler is {named}; diffusers' pipelines use it with {STEPS_ELSEWHERE} steps."
    ]


class Forward(NamedTuple):
    """One forward pass: its network, its canvas (H, W) of latent pixels, and its batch rows.

    outer: whether it reuses deep features, so that only its outer layers run. tokens: the conditioning tokens of each
    row, where these are known. backward: whether a backward pass follows, which costs twice as much.
    """

    net: Net | ResidualNet
    canvas: tuple[int, int]
    rows: int
    outer: bool = False
    tokens: tuple[int, ...] = ()
    backward: bool = False


def _row_tokens(one: Forward, model: Model) -> tuple[int, ...]:
    """The tokens that each row costs: in joint attention its own, elsewhere those of one text."""
    own = model.spec.joint and one.net is model.net and one.tokens
    return own or (model.text.length,) * one.rows


def _cost(net: Net | ResidualNet, canvas: tuple[int, int], outer: bool, tokens: int, model: Model) -> Cost:
    """Cost of one batch row of a network of the model."""
    if outer and isinstance(net, HasOuterCost):
        return net.outer_cost(canvas, tokens)
    if isinstance(net, ControlNet | BlockControlNet):
        return net.cost(model.spec, canvas, tokens)
    assert isinstance(net, HasCost), "a plan's networks state their costs"
    return net.cost(canvas, tokens)


def _sampling_forwards(prepared: Prepared) -> list[Forward]:
    """Every forward of the denoising steps.

    The sampler runs on a dummy canvas, so that solvers with several forwards per step are counted.
    """
    found: list[Forward] = []
    schedule = EXACT if prepared.compiled.plan.edits else SCHEDULES[prepared.scene.speed]
    caches = FeatureCaches()

    def count_views(views: Sequence[View], step: Step, *, backward: bool = False) -> None:
        for asks in passes(views, step, per_scene=True):
            height, width = asks[0].view.weight.shape
            tokens = tuple(_conditioning_tokens(ask.branch, prepared) for ask in asks)
            outer = not backward and _reuses(asks, step, schedule, caches)
            found.append(Forward(asks[0].view.net, (height, width), len(asks), outer, tokens, backward))
            requests = [ask.branch.controlnets if isinstance(ask.branch, Conditioning) else () for ask in asks]
            found.extend(
                Forward(batch[0].request.net, (height, width), len(batch), backward=backward)
                for batch in control_batches(requests)
            )

    def count(z: Tensor, step: Step) -> Tensor:
        count_views(_active(prepared, step), step)
        return z

    z, plan = torch.zeros(1, 1, 1, 1), prepared.compiled.plan
    state = prepared.sampler.init(z)
    for step in prepared.steps:
        for update in plan.updates:
            count_views(update.views(plan, step), step, backward=True)
        z, state = prepared.sampler.step(count, z, step, state, lambda: torch.zeros(1, 1, 1, 1))
    return found


def _reuses(asks: Sequence[RowRequest], step: Step, schedule: ReuseSchedule, caches: FeatureCaches) -> bool:
    """Whether a batch reuses deep features, which are kept in the caches as in a run."""
    net = asks[0].view.net
    if not (isinstance(net, ReusesFeatures) and net.reuses_features):
        return False
    inputs = tuple(ask.view for ask in asks)
    deep = caches.of((id(net), tuple(ask.row for ask in asks)), inputs, schedule, step)
    if deep is None or not deep.empty:
        return deep is not None
    deep.value = torch.empty(0)
    return False


def _tokens(prepared: Prepared) -> int:
    if not prepared.steps:
        return 0
    first = prepared.steps[0]
    branches = [view.branches[name] for view in _active(prepared, first) for name in view.guide.branches(first)]
    return sum(_conditioning_tokens(branch, prepared) for branch in branches)


def _conditioning_tokens(branch: Branch, prepared: Prepared) -> int:
    """Tokens of texts, phrases, image prompts and reference images; 0 of a branch that depends on the step."""
    if not isinstance(branch, Conditioning):
        return 0
    pieces = sum(len(piece.value) for piece in (*branch.tokens, *branch.image_prompts))
    return pieces + sum(reference_tokens(one, prepared.ctx.model) for one in branch.references)


def _active(prepared: Prepared, step: Step) -> list[View]:
    return [view for view in prepared.compiled.plan.views if step in view.when]


def _window(edit: BackgroundEdit) -> str:
    w, source = edit.window, edit.source
    place = f"at ({w.x0}, {w.y0})" if edit.masks else "all of it"
    return f"window of {w.width} x {w.height} pixels, {place}, of a background of {source.width} x {source.height}"
