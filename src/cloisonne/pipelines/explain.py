"""``explain``: what a scene will make a model do, and what that will cost, without doing it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from cloisonne.core.control_residuals import ResidualNet, control_batches
from cloisonne.core.plan import Conditioning, Step, View
from cloisonne.core.predict import passes
from cloisonne.core.samplers import Sampler
from cloisonne.models.adapters.controlnet import ControlNet
from cloisonne.models.checkpoints.scheduler_config import SAMPLERS
from cloisonne.models.model import Model
from cloisonne.models.unet.cost import Cost, control_cost, decode_cost, forward_cost
from cloisonne.pipelines.inpaint import PictureEdit
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.pipelines.translation.run import Translation
from cloisonne.scene.prompt import pieces, switches
from cloisonne.scene.scene import Scene

FLOPS_PER_THREAD = 6e10
"""Operations a second that one thread of a CPU is taken to do in float32; measured with Stable Diffusion: 8.4e10."""
FLOPS_OF_A_GPU = 3e13
"""The same of any other device, whose speed is not known here."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A run before it happens, for one picture.

    scene: resolved. window: what of a given picture is worked on, in words. plan: its views and what they are told.
    steps, forwards, rows: networks asked (ControlNets too) and lines of all their batches, over the whole run, with
    what inverting a background and learning its concept take at most. tokens: what all rows of the first step hear
    together. flops, memory_bytes, seconds: estimates; seconds for this machine's threads, or for an average GPU.
    dropped, warnings: as in a report. learned: the names of the learned words that each text uses, by the text, such as
    "caption" or 'region "pet"'; texts without any are left out. notes: what was taken where the scene leaves it out,
    and how the files were read.
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
    learned: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        width, height = size_of(self.scene)
        scene = self.scene
        head = f"{width} x {height} pixels, {scene.method}, {scene.sampler}, guidance {scene.guidance:g}"
        each = (
            f"{self.forwards / self.steps:.3g} forwards and {self.rows / self.steps:.3g} rows" if self.steps else "none"
        )
        lines = [
            head,
            *([self.window] if self.window else []),
            self.plan,
            f"{self.steps} steps: {self.forwards} forwards of {self.rows} rows in all, {each} a step",
            f"{self.tokens} tokens heard by the rows of the first step",
            f"about {self.flops / 1e9:,.2f} GFLOP, {self.seconds:,.1f} s and {self.memory_bytes / 2**20:,.0f} MiB "
            f"on {self.device} (estimates)",
            *(f"learned words: {place}: {', '.join(words)}" for place, words in self.learned.items()),
            *(f"note: {note}" for note in self.notes),
            *(f'dropped: region "{name}", for lack of tokens' for name in self.dropped),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)


def explain(scene: Scene, model: Model, *, solver: Sampler[Any] | None = None) -> Explanation:
    """What :func:`~cloisonne.pipelines.generate.generate` would do for one picture; no network is run.

    solver: in place of the scene's sampler. Raises what ``generate`` would raise for the scene.
    """
    prepared, before = _blank(scene, model, solver)
    asked = before + _asked(prepared)
    decoder = decode_cost(model, prepared.grid)
    nets = {net: _cost(net, model, prepared.grid) for net in {net: None for net, _ in asked}}
    flops = sum(nets[net].flops * rows for net, rows in asked) + decoder.flops
    held = model.parameters + max([decoder.numbers, *(nets[net].numbers * rows for net, rows in asked)])
    cpu, threads = model.device.type == "cpu", torch.get_num_threads()
    return Explanation(
        scene=prepared.scene,
        window=None if prepared.edit is None else _window(prepared.edit),
        plan=repr(prepared.compiled.plan),
        steps=len(prepared.steps),
        forwards=len(asked),
        rows=sum(rows for _, rows in asked),
        tokens=_tokens(prepared),
        flops=flops,
        memory_bytes=held * model.dtype.itemsize,
        seconds=flops / (FLOPS_PER_THREAD * threads if cpu else FLOPS_OF_A_GPU),
        device=f"{threads} threads of a CPU" if cpu else str(model.device),
        notes=(*_defaults(scene, prepared.scene, model), *model.notes),
        dropped=prepared.compiled.dropped,
        warnings=prepared.compiled.warnings,
        learned=_learned(prepared),
    )


def _learned(prepared: Prepared) -> dict[str, tuple[str, ...]]:
    """The learned words of each text, at any time of the run."""
    scene, steps = prepared.scene, len(prepared.steps)
    texts = {"caption": scene.caption, "negative": scene.negative}
    for region in scene.active_regions:
        texts |= {f'region "{region.name}"': region.phrase, f'region "{region.name}", negative': region.negative}
    found = {}
    for place, text in texts.items():
        moments = sorted({0.0, *switches(text, steps)}) if text and steps else []
        pieces_of_text = (piece for moment in moments for piece in pieces(text, moment, steps))
        used = (name for piece in pieces_of_text for name in prepared.ctx.model.text.learned.used(piece.words))
        if names := tuple(dict.fromkeys(used)):
            found[place] = names
    return found


STEPS_ELSEWHERE = 50
"""Of diffusers' pipelines, where none are given."""


def _defaults(given: Scene, scene: Scene, model: Model) -> list[str]:
    """Of a checkpoint that names a scheduler, what a scene is drawn with that leaves sampler or steps out."""
    absent = [name for name, value in (("sampler", given.sampler), ("steps", given.steps)) if value is None]
    if not absent or model.scheduler is None or model.family == "builtin" or given.translated is not None:
        return []
    own = SAMPLERS.get(model.scheduler)
    named = model.scheduler if own is None else f'{model.scheduler} (here "{own}")'
    return [
        f'The scene leaves its {" and ".join(absent)} out: "{scene.sampler}" in {scene.steps} steps draws it; the '
        f"checkpoint's own scheduler is {named}, which diffusers' pipelines take {STEPS_ELSEWHERE} steps of."
    ]


def _blank(
    scene: Scene, model: Model, solver: Sampler[Any] | None
) -> tuple[Prepared, list[tuple[ControlNet | None, int]]]:
    """The scene, and what is asked before its walk."""
    if scene.translated is None:
        return prepare(scene, model, blank=True, solver=solver), []
    translation = Translation.of(scene, model, blank=True, solver=solver)
    prepared, before = translation.prepared, translation.asked_before()
    compiled = replace(
        prepared.compiled,
        plan=translation.planned(),
        warnings=(*prepared.compiled.warnings, *translation.warnings()),
    )
    return replace(prepared, compiled=compiled), [(None, rows) for rows in before]


def _cost(net: ControlNet | None, model: Model, grid: tuple[int, int]) -> Cost:
    """Of one row. net: None is any main network."""
    length = model.text.length
    return forward_cost(model, grid, length) if net is None else control_cost(net, model, grid, length)


def _asked(prepared: Prepared) -> list[tuple[ControlNet | None, int]]:
    """Every forward of the walk: a ControlNet or None for a main network, and its rows; counted by walking a sampler
    that is told nothing."""
    asked: list[tuple[ControlNet | None, int]] = []

    def count(z: Tensor, step: Step) -> Tensor:
        for asks in passes(_active(prepared, step), step, per_scene=True):
            asked.append((None, len(asks)))
            told = [ask.branch.controlnets if isinstance(ask.branch, Conditioning) else () for ask in asks]
            asked.extend((_controlnet(side[0].request.net), len(side)) for side in control_batches(told))
        return z

    z = torch.zeros(1, 1, 1, 1)
    state = prepared.sampler.init(z)
    for step in prepared.steps:
        z, state = prepared.sampler.step(count, z, step, state, lambda: torch.zeros(1, 1, 1, 1))
    return asked


def _controlnet(net: ResidualNet) -> ControlNet:
    assert isinstance(net, ControlNet), "no other network is asked beside"
    return net


def _tokens(prepared: Prepared) -> int:
    if not prepared.steps:
        return 0
    first = prepared.steps[0]
    told = [view.branches[name] for view in _active(prepared, first) for name in view.guide.branches(first)]
    pieces = (piece for said in told if isinstance(said, Conditioning) for piece in (*said.tokens, *said.image_prompts))
    return sum(len(piece.value) for piece in pieces)


def _active(prepared: Prepared, step: Step) -> list[View]:
    return [view for view in prepared.compiled.plan.views if step in view.when]


def _window(edit: PictureEdit) -> str:
    w, source = edit.window, edit.source
    place = f"at ({w.x0}, {w.y0})" if edit.masks else "all of it"
    return f"window of {w.width} x {w.height} pixels, {place}, of a picture of {source.width} x {source.height}"
