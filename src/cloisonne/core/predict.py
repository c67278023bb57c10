"""The heart: from a plan and the noisy canvases to one estimate of the clean canvases."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cloisonne.core.collate import RowRequest, collate, passes
from cloisonne.core.plan import Plan, Row, Step, View
from cloisonne.core.run import Run
from cloisonne.errors import SceneError


def predict(plan: Plan, z: Tensor, step: Step, run: Run | None = None, *, per_scene: bool | None = None) -> Tensor:
    """Estimate of the clean canvas of every stream: one forward of each network, guidance, fusion, refines.

    Args:
        plan: The plan.
        z: [S, C, H, W] in the order of ``plan.streams``.
        step: The denoising step.
        run: Caches text keys and values from step to step; without one the numbers are the same.
        per_scene: For a merged plan: a forward for each scene, so that no byte depends on the others. None: on the CPU
            alone.

    Returns:
        [S, C, H, W].

    Raises:
        SceneError: A latent pixel is covered by no view.
    """
    run = Run() if run is None else run
    streams = plan.streams
    active = (view for view in plan.views if step in view.when)
    views = tuple(sorted(active, key=lambda view: (view.stream, view.name)))
    windows = {view: view.crop(z[streams.index(view.stream)]) for view in views}
    assert all(view.weight.shape == window.shape[-2:] for view, window in windows.items()), "weights fit their windows"
    outputs: dict[Row, Tensor] = {}
    guided: dict[View, Tensor] = {}
    for batch in passes(views, step, per_scene=z.device.type == "cpu" if per_scene is None else per_scene):
        requests = _with_inpaint_context(batch, z, streams, guided)
        call = collate(requests, [windows[request.view] for request in requests], step, plan.edits, run)
        outputs |= zip(call.rows, requests[0].view.net(call), strict=True)
        reused = call.deep is not None and call.deep.reused
        run.count((request.view.scene for request in requests), reused=reused)
        own_views = dict.fromkeys(request.view for request in requests)
        guided |= {view: _guided(view, outputs, windows[view], step) for view in own_views}
    x0 = fuse(z, streams, {view: guided[view] for view in views}, run)
    for refine in plan.refines:
        if step in refine.when:
            places = [streams.index(stream) for stream in refine.streams]
            x0[places] = refine(x0[places], z[places], step, run)
    return x0


def _guided(view: View, outputs: Mapping[Row, Tensor], window: Tensor, step: Step) -> Tensor:
    """A view's estimate of its window, [C, H, W]."""
    own = {branch: outputs[Row(view.name, view.stream, branch)] for branch in view.guide.branches(step)}
    return view.guide(own, window, step)


def _with_inpaint_context(
    requests: Sequence[RowRequest], z: Tensor, streams: tuple[str, ...], guided: Mapping[View, Tensor]
) -> Sequence[RowRequest]:
    """The same rows; inpainting networks get the estimate of the views before them as the image around the hole."""
    if not any(request.has_inpaint_context for request in requests):
        return requests
    total, estimate = z.new_zeros(len(streams), 1, *z.shape[-2:]), torch.zeros_like(z)
    for view, x0 in guided.items():
        place = streams.index(view.stream)
        view.crop(total[place]).add_(view.weight)
        view.crop(estimate[place]).add_(view.weight * x0)
    estimate = torch.where(total > 0, estimate / total.clamp_min(1e-6), 0)
    return [
        request.with_inpaint_context(request.view.crop(estimate[streams.index(request.view.stream)]))
        for request in requests
    ]


def fuse(z: Tensor, streams: tuple[str, ...], guided: Mapping[View, Tensor], run: Run) -> Tensor:
    """``x0 = sum(weight * x0) / sum(weight)`` of every stream, [S, C, H, W].

    Fusing estimates and stepping once is fusing the steps of DDIM (MultiDiffusion, arXiv 2302.08113, eq. 5), because
    its step is affine in (z, x0); a stochastic solver keeps the variance that averaged noises would lose.
    """
    views = tuple(guided)
    shares = run.state((fuse, views), lambda: _shares(z, streams, views))
    x0 = torch.zeros_like(z)
    for view, share in zip(views, shares, strict=True):
        view.crop(x0[streams.index(view.stream)]).add_(share * guided[view])
    return x0


def _shares(z: Tensor, streams: tuple[str, ...], views: tuple[View, ...]) -> tuple[Tensor, ...]:
    """Weight [H, W] of every view's window, normalised over the views of its stream."""
    total = z.new_zeros(len(streams), *z.shape[-2:])
    for view in views:
        view.crop(total[streams.index(view.stream)]).add_(view.weight)
    for stream, weight in zip(streams, total, strict=True):
        if bare := int((weight <= 0).sum()):
            raise SceneError(
                f'{bare} latent pixels of "{stream}" are covered by no view; give the regions weight there, '
                "or a view of the whole canvas."
            )
    return tuple(view.weight / view.crop(total[streams.index(view.stream)]) for view in views)
