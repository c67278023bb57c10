"""A compiled plan as text for users: each view's network, steps, guidance and conditioning."""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cloisonne.core.attention.edits import ShareFeatures, ShareSelf, ShareWords
from cloisonne.core.attention.joint_blocks import JointOptions
from cloisonne.core.attention.layout_guidance import LayoutGuidance
from cloisonne.core.attention.references import Reference
from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.plan import Branch, Conditioning, Guidance, Plan, Step, Tokens, View
from cloisonne.core.refines import Clamp, Follow, Pin
from cloisonne.core.step import ALWAYS, Interval
from cloisonne.models.model import Model

BRANCHES = {"cond": "conditional", "null": "unconditional"}


def plan_text(plan: Plan, model: Model, steps: Sequence[Step]) -> str:
    """One line for each view, with an indented line for each of its branches; then what joins the views."""
    lines = [line for view in plan.views for line in _view_lines(view, model, steps)]
    return "\n".join([*lines, *(_shared(part, steps) for part in (*plan.edits, *plan.refines, *plan.updates))])


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as "1 step" or "6 steps"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _view_lines(view: View, model: Model, steps: Sequence[Step]) -> list[str]:
    name = f'region "{view.region}"' if view.region else view.name
    box = view.box
    details = [
        _network(view, model),
        *([f'on canvas "{view.stream}"'] if view.stream != "image" else []),
        *([f"latent rows {box.top}-{box.bottom}, columns {box.left}-{box.right}"] if box else []),
        _when(view.when, steps),
        _guidance(view.guide, steps),
        f"mean weight {float(view.weight.mean()):.2f}",
    ]
    branches = [
        f"    {BRANCHES.get(branch, branch)}: {_branch(conditioning, model, steps)}"
        for branch, conditioning in view.branches.items()
    ]
    return [f"view {name}: {', '.join(details)}", *branches]


def _network(view: View, model: Model) -> str:
    if view.net is model.net:
        return "main network"
    return "exemplar network" if model.exemplar is not None and view.net is model.exemplar.net else "its own network"


def _when(when: Interval, steps: Sequence[Step]) -> str:
    inside = [place + 1 for place, step in enumerate(steps) if step in when]
    if len(inside) == len(steps):
        return "all steps"
    if not inside:
        return "no step"
    first, last = inside[0], inside[-1]
    return f"step {first}" if first == last else f"steps {first}-{last}"


def _guidance(guide: Guidance, steps: Sequence[Step]) -> str:
    if isinstance(guide, Single):
        return "no guidance"
    if not isinstance(guide, Cfg):
        return _words(type(guide).__name__)
    scale = f"map of mean {float(guide.scale.mean()):.3g}" if isinstance(guide.scale, Tensor) else f"{guide.scale:g}"
    limits = "" if guide.interval == ALWAYS else f" at {_when(guide.interval, steps)}"
    rescale = "" if guide.rescale is None else f" with rescale {guide.rescale.amount:g}"
    return f"guidance {scale}{limits}{rescale}"


def reference_tokens(reference: Reference, model: Model) -> int:
    """The number of image tokens of a reference image."""
    return reference.latents.shape[-2:].numel() // model.spec.patch**2


def _branch(branch: Branch, model: Model, steps: Sequence[Step]) -> str:
    if not isinstance(branch, Conditioning):
        return "conditioning that changes with the step"
    parts = [_tokens(piece, "token") for piece in branch.tokens]
    parts += [_tokens(piece, "image token") for piece in branch.image_prompts]
    parts += [
        f"reference image of {counted(reference_tokens(one, model), 'token')} {_place(one.mask)}"
        for one in branch.references
    ]
    parts += [counted(branch.channels.shape[0], "further input channel")] if branch.channels is not None else []
    parts += ["inpainting channels from the other views' estimate"] if branch.inpaint_context is not None else []
    parts += ["pooled text"] if branch.pooled is not None else []
    parts += [f"control residuals at {counted(len(levels), 'level')}" for levels in branch.residuals.values()]
    parts += [f"ControlNet on {float((one.weight > 0).float().mean()):.0%}" for one in branch.controlnets]
    for lora in branch.region_loras:
        names = " and ".join(f"{name} at {scale:g}" for name, scale in lora.loras)
        parts.append(f"LoRA {names} {_place(lora.mask)}")
    parts += [] if branch.joint is None else _joint(branch.joint, steps)
    return "; ".join(parts) or "no conditioning"


def _joint(options: JointOptions, steps: Sequence[Step]) -> list[str]:
    """How regions hold in joint attention, where that differs from all steps alike and all blocks."""
    apart = sum(step.progress < options.isolate for step in steps)
    found = [f"regions attend only to themselves in the first {counted(apart, 'step')}"] if apart else []
    return [*found, "regions hold in every second block"] if options.every == 2 else found


def _tokens(piece: Tokens, noun: str) -> str:
    text = f"{counted(piece.value.shape[0], noun)} {_place(piece.mask)}"
    if piece.bias_mask is None:
        return text
    most = float(piece.bias_mask.max())
    strict = float(piece.bias_mask.mean() / most if most > 0 else 0)
    return f"{text}, strict on {strict:.0%}" + ("" if most == 1 else f", counted {most:.2g} times")


def _place(where: Tensor | None) -> str:
    return "everywhere" if where is None else f"on {float(where.mean()):.0%}"


def _shared(part: Any, steps: Sequence[Step]) -> str:
    """An attention edit, a refine or an update in one line."""
    if isinstance(part, LayoutGuidance):
        return f"layout guidance of {part.length:g}: {_when(part.when, steps)}, a forward and a backward pass each"
    if isinstance(part, ShareSelf):
        return f'self-attention of canvas "{part.target}" from canvas "{part.source}": {_when(part.when, steps)}'
    if isinstance(part, ShareFeatures):
        return f'decoder features of canvas "{part.target}" from canvas "{part.source}": {_when(part.when, steps)}'
    if isinstance(part, ShareWords):
        return f'cross-attention of canvas "{part.target}" from canvas "{part.source}"'
    if isinstance(part, Clamp):
        return f'estimate of canvas "{part.stream}" clamped to [-{part.limit:g}, {part.limit:g}]'
    if isinstance(part, Pin | Follow):
        stream = part.stream if isinstance(part, Pin) else part.target
        return f'canvas "{stream}" fixed on {float((part.mask == 0).float().mean()):.0%}'
    return _words(type(part).__name__)


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
