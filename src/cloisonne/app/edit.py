"""Edit several regions at once and keep the rest: a pair of pictures, both drawn, or a given one and what it becomes.

Two canvases walk in one pass, each told its own half of the scene. Outside of the edited regions the second follows the
first, so that there they are the same to the last bit; where all edits are changes, it looks at itself as the first one
does for the first part of the walk, which keeps pose and shape (prompt-to-prompt, arXiv 2208.01626, section 3).
A given picture is walked up to its noise first, by stored offsets.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cloisonne.app.edited import Edited
from cloisonne.app.picture_edit import PictureEdit, as_pixels
from cloisonne.app.prepare import Prepared, prepare, size_of
from cloisonne.app.result import REPORT_VERSION
from cloisonne.core.edits import ShareSelf
from cloisonne.core.invert import Retrace, invert
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.plan import Interval, Plan, Step
from cloisonne.core.predict import Run
from cloisonne.core.refines import Follow, Pin
from cloisonne.core.sample import sample
from cloisonne.errors import SceneError
from cloisonne.models.model import Model
from cloisonne.scene.halves import Halves, halves
from cloisonne.scene.layers import uncovered
from cloisonne.scene.masks import Mask
from cloisonne.scene.scene import Scene

BEFORE, AFTER = "before", "after"
KEPT_LOOKS = 0.4
"""Share of the walk in which a changed region looks at itself as it did before."""
Progress = Callable[[Step], None]


def edit(
    scene: Scene,
    model: Model,
    *,
    seed: int | None = None,
    looks: float = KEPT_LOOKS,
    callback_on_step_end: Progress = lambda step: None,
) -> Edited:
    """Draw a scene with edits as two pictures; with a background, that picture is the first one.

    looks: share of the walk, in [0, 1], in which regions that change keep how they looked at themselves: more keeps
    pose and shape, less follows the words. callback_on_step_end: called with each step, on the way up and down; it may
    raise :class:`~cloisonne.errors.Cancelled`. Raises SceneError, ImageError or CapabilityError where that is refused.
    """
    began = time.perf_counter()
    if not 0 <= looks <= 1:
        raise SceneError(f"looks is {looks}; give a share of the walk from 0 to 1.")
    parts = halves(scene if seed is None else scene.replace(seed=seed))
    pair = _Pair.of(scene, parts, model)
    run = Run()
    z = pair.walk(looks, callback_on_step_end, run)
    before, after, raw, covered = pair.pictures(z)
    difference = pair.difference_outside(before, after, covered)
    report = {
        "version": REPORT_VERSION,
        "outputs": [{"path": None, "sha256": None} for _ in range(3)],
        "scene": pair.scene.to_dict(complete=True),
        "model": dict(model.record()),
        "seconds": round(time.perf_counter() - began, 3),
        "forwards": run.forwards,
        "rows": run.rows,
        "dropped": sorted({*pair.before.compiled.dropped, *pair.after.compiled.dropped}),
        "warnings": list(dict.fromkeys([*pair.before.compiled.warnings, *pair.after.compiled.warnings])),
        "identical_outside": difference == 0,
        "max_difference_outside": difference,
        "max_difference_outside_raw": pair.difference_outside(before, raw, covered),
    }
    return Edited(before=before, after=after, scene=pair.scene, model=model, report=report)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pair:
    """Both halves, prepared. picture: of the background, if there is one."""

    scene: Scene
    parts: Halves
    before: Prepared
    after: Prepared
    picture: PictureEdit | None
    model: Model

    @classmethod
    def of(cls, scene: Scene, parts: Halves, model: Model) -> "_Pair":
        side = min(model.native.width, model.native.height)
        picture = None if scene.background is None else PictureEdit.of(scene, side)
        before = prepare(parts.before, model, given=picture)
        own = {name: getattr(before.scene, name) for name in ("seed", "width", "height")}
        after = prepare(parts.after.replace(**own), model, given=picture)
        whole = before.scene.replace(regions=scene.regions)
        return cls(scene=whole, parts=parts, before=before, after=after, picture=picture, model=model)

    def walk(self, looks: float, told: Progress, run: Run) -> Tensor:
        """[2, C, H, W]: the canvases before and after."""
        steps, device = self.before.steps, self.model.device
        assert self.before.scene.seed is not None, "a resolved scene has a seed"
        shape = (self.model.vae.channels, *self.before.grid)
        noise = Noise([Seed(self.before.scene.seed, self.before.compiled.seeds)], shape, device)
        start = noise()
        first = _on(self.before.compiled.plan, BEFORE)
        free = self._free().to(device)
        solver: Any = self.before.sampler
        extra = Plan(refines=(Follow(source=BEFORE, target=AFTER, mask=free),))
        if self.picture is not None:
            known = self._known()
            unguided = _on(
                prepare(self.parts.before.replace(guidance=1.0), self.model, given=self.picture).compiled.plan, BEFORE
            )
            found = invert(unguided, known[None], steps, "direct", watch=lambda step, z, x0: told(step), run=run)
            first, solver = unguided, found.sampler
            extra = Plan(refines=(Pin(known=known, mask=free, stream=AFTER),))
        both = first + _on(self.after.compiled.plan, AFTER) + extra
        if looks > 0 and not self.parts.redrawn:
            shared = ShareSelf(source=BEFORE, target=AFTER, when=Interval(0.0, looks))
            both += Plan(edits=(shared,))
        places = {name: both.streams.index(name) for name in (BEFORE, AFTER)}
        z = torch.empty(2, *shape, device=device)
        z[places[BEFORE]] = start[0]
        z[places[AFTER]] = start[0]
        if self.picture is not None:
            z[places[BEFORE]] = found.noise[0]
            z[places[AFTER]] = self._renoised(found.noise[0], start[0], free)
            assert isinstance(solver, Retrace), "stored offsets put the first canvas back"
            solver = replace(solver, solver=self.before.sampler, places=(places[BEFORE],))
        down = Run()
        z = sample(both, solver, z, steps, noise=noise, watch=lambda step, z, x0: told(step), run=down)
        run.forwards += down.forwards
        run.rows += down.rows
        return z[[places[BEFORE], places[AFTER]]]

    def _known(self) -> Tensor:
        assert self.picture is not None, "there is a background"
        return self.picture.pin(self.model, size_of(self.before.scene), self._covered()).known

    def _renoised(self, inverted: Tensor, fresh: Tensor, free: Tensor) -> Tensor:
        """Fresh noise where something comes or goes, half of it where something changes; the variance stays."""
        amount = free * (1.0 if self.parts.redrawn else 0.5)
        return ((1 - amount) * inverted + amount * fresh) / (amount.square() + (1 - amount).square()).sqrt()

    def _free(self) -> Tensor:
        """[H, W] of latents, 1 where any pixel under it may change."""
        covered = self._covered()
        window = covered if self.picture is None else covered[self.picture.window.slices]
        return F.adaptive_max_pool2d(torch.from_numpy((window > 0).astype(np.float32))[None], self.before.grid)[0]

    def _covered(self) -> Mask:
        """[H, W] of pixels in [0, 1]: how far each is edited."""
        if self.picture is not None:
            others = [name for name in self.picture.masks if name not in self.parts.edited]
            return self.picture.covered(others)
        width, height = size_of(self.before.scene)
        masks = [r.soft_mask(height, width) for r in self.scene.active_regions if r.name in self.parts.edited]
        return 1 - uncovered(masks, height, width)

    def pictures(self, z: Tensor) -> tuple[Image.Image, Image.Image, Image.Image, Mask]:
        """Before and after, after as it was decoded, and how far each pixel was edited."""
        covered = self._covered()
        drawn = [as_pixels(self.model.vae.decode(canvas[None])[0]) for canvas in z]
        if self.picture is not None:
            after = self.picture.pasted(drawn[1], covered)
            return self.picture.unchanged(), after, self.picture.pasted(drawn[1], self.picture.whole_window()), covered
        after = Image.fromarray(_blended(drawn[0], drawn[1], covered))
        return Image.fromarray(drawn[0]), after, Image.fromarray(drawn[1]), covered

    def difference_outside(self, before: Image.Image, after: Image.Image, covered: Mask) -> int:
        """Largest difference of the two where nothing is edited."""
        if self.picture is not None:
            return self.picture.difference_outside(after, covered)
        pixels = [np.asarray(image).astype(int) for image in (before, after)]
        return int(np.abs(pixels[0] - pixels[1])[covered == 0].max(initial=0))


def _blended(before: NDArray[np.uint8], after: NDArray[np.uint8], covered: Mask) -> NDArray[np.uint8]:
    """After where it is edited, before to the byte where it is not."""
    amount = covered[..., None]
    mixed = np.rint(before + amount * (after.astype(np.float32) - before)).clip(0, 255).astype(np.uint8)
    return np.where(amount > 0, mixed, before)


def _on(plan: Plan, stream: str) -> Plan:
    """A plan of one canvas on a canvas of that name."""
    refines: list[Any] = list(plan.refines)
    return Plan(
        views=tuple(replace(view, stream=stream) for view in plan.views),
        refines=tuple(replace(refine, stream=stream) for refine in refines),
    )
