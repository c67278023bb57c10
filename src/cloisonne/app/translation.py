"""One translation at work: the source in its window, the reference, and how both canvases walk."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from cloisonne.app.picture_edit import PictureEdit, as_tensor, resized
from cloisonne.app.prepare import prepare, size_of
from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.invert import Retrace, invert
from cloisonne.core.noise import Noise, Seed
from cloisonne.core.null_text import fit_null, fit_pivot
from cloisonne.core.plan import Conditioning, Net, Plan, Refine, Step, Tokens, View
from cloisonne.core.predict import Run
from cloisonne.core.refines import Clamp, Pin
from cloisonne.core.sample import sample
from cloisonne.errors import CapabilityError
from cloisonne.methods.vct import CONTENT, IMAGE, Translating, sharing
from cloisonne.models.concept import Concept, said
from cloisonne.models.model import Model
from cloisonne.scene.images import seen
from cloisonne.scene.pictures import given_image
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene

FEW = 10
"""Fewer steps are warned of."""
Progress = Callable[[str, int, int], None]
"""(what is being done, how far, of how much); may raise Cancelled."""


@dataclass(frozen=True, eq=False)
class Told:
    """What a network is told of nothing, and of the concept; and the tokens of both, where these are words."""

    net: Net
    nothing: Conditioning
    concept: Conditioning
    ids: tuple[list[int], list[int]] = ([], [])


@dataclass(frozen=True, kw_only=True, eq=False)
class Translation:
    """edit: the source, and where it changes. reference: RGB. size: (width, height) of the canvas; grid: (H, W) of its
    latents. steps, sampler: of the walk. run: what was asked so far."""

    edit: PictureEdit
    reference: Image.Image
    model: Model
    translating: Translating
    size: tuple[int, int]
    grid: tuple[int, int]
    steps: tuple[Step, ...]
    sampler: Any
    seed: int
    run: Run
    progress: Progress

    @classmethod
    def of(
        cls,
        source: Any,
        reference: Any,
        mask: Any,
        model: Model,
        translating: Translating,
        *,
        steps: int | None,
        seed: int,
        progress: Progress,
    ) -> "Translation":
        """Open the pictures and lay the canvas out."""
        if model.wordless or (not translating.learned and not model.sees_exemplars):
            raise CapabilityError(
                f'The model "{model.name}" cannot translate so: "fast" asks for a text model with what sees exemplars '
                '(load(..., exemplar=PATH)), "vct" and "vct-code" for a text model.'
            )
        regions = [] if mask is None else [Region(name="translated", mask=mask, phrase="translated")]
        told = {} if (count := steps or translating.steps) is None else {"steps": count}
        scene = Scene(background=source, regions=regions, seed=seed, method="caption", **told)
        edit = PictureEdit.of(scene)
        prepared = prepare(scene.replace(regions=()), model, given=replace(edit, masks={}))
        return cls(
            edit=edit,
            reference=seen(given_image(reference), "reference"),
            model=model,
            translating=translating,
            size=size_of(prepared.scene),
            grid=prepared.grid,
            steps=prepared.steps,
            sampler=prepared.sampler,
            seed=seed,
            run=Run(),
            progress=progress,
        )

    def warnings(self) -> list[str]:
        """What a user should know: a result that is enlarged, a reference that is the source, very few steps."""
        found = self.edit.warnings(self.size)
        own = self.edit.source.rgb
        shown = np.asarray(self.reference)
        if shown.shape == own.shape and np.array_equal(shown, own):
            found.append("The reference is the source, so that nothing is carried over; give another picture.")
        if len(self.steps) < FEW:
            found.append(f"{len(self.steps)} steps are few for a walk up and down; give at least {FEW}.")
        return found

    def encoded(self, picture: Image.Image) -> Tensor:
        """[C, H, W]: the latents of the middle of a picture, as much of it as has the canvas's shape."""
        fitted = ImageOps.fit(picture, self.size, Image.Resampling.LANCZOS)
        return self._latents(np.asarray(fitted))

    def _latents(self, pixels: NDArray[np.uint8]) -> Tensor:
        return self.model.vae.encode(as_tensor(pixels).to(self.model.device))[0]

    def walk(self, concept: Concept | None, strength: float) -> Tensor:
        """[C, H, W]: the canvas of the result."""
        known = self._latents(resized(self.edit.source.rgb[self.edit.window.slices], self.size))
        told = self._told(concept)
        content, image = self._views(told, strength)
        noise, solver, content, image = self._inverted(content, image, known)
        edits = sharing(self.translating, *told.ids)
        plan = Plan(views=(content, image), edits=edits, refines=self._refines(known))
        place = {name: plan.streams.index(name) for name in (CONTENT, IMAGE)}
        if isinstance(solver, Retrace):
            solver = replace(solver, solver=self.sampler, places=(place[CONTENT],))
        fresh = Noise([Seed(self.seed)], (known.shape[0], *self.grid), self.model.device)
        z = plan.stack({CONTENT: noise, IMAGE: noise})
        down = Run()
        z = sample(
            plan,
            solver,
            z,
            self.steps,
            noise=fresh,
            watch=lambda step, z, x0: self.progress("translation", step.index + 1, step.count),
            run=down,
        )
        self.run.forwards += down.forwards
        self.run.rows += down.rows
        return z[place[IMAGE]]

    def _inverted(self, content: View, image: View, known: Tensor) -> tuple[Tensor, Any, View, View]:
        """The source's noise [C, H, W], what brings it back, and what the canvases are told on the way down."""
        clamp: tuple[Refine, ...] = ()
        if self.model.clip is not None:
            clamp = (Clamp(limit=self.model.clip, stream=CONTENT),)
        alone = replace(content, guide=Single())
        done = [0]

        def climbed(*_: Any) -> None:
            done[0] += 1
            self.progress("inversion", done[0], len(self.steps))

        plan = Plan(views=(alone,), refines=clamp)
        found = invert(plan, known[None], self.steps, "direct", watch=climbed, run=self.run)
        if self.translating.pivot == "none":
            return found.noise[0], found.sampler, alone, image
        branch, fit = ("cond", fit_pivot) if self.translating.pivot == "source" else ("null", fit_null)
        fitted = fit(
            Plan(views=(content,), refines=clamp),
            found.path,
            self.steps,
            run=self.run,
            watch=lambda step, error: self.progress("pivot", step.index + 1, len(self.steps)),
        )
        (content,) = fitted.views
        image = replace(image, branches={**image.branches, "null": content.branches[branch]})
        return found.noise[0], self.sampler, content, image

    def _refines(self, known: Tensor) -> tuple[Any, ...]:
        clamps = [] if self.model.clip is None else [Clamp(limit=self.model.clip, stream=s) for s in (CONTENT, IMAGE)]
        if not self.edit.masks:
            return tuple(clamps)
        pin = self.edit.pin(self.model, self.size, self.edit.covered())
        return (*clamps, Pin(known=known, mask=pin.mask, stream=IMAGE))

    def _views(self, told: Told, strength: float) -> tuple[View, View]:
        """The content's view and the result's."""
        native = self.model.native
        own = native.guidance if self.translating.learned else native.similarity
        scale = own if self.translating.guidance is None else self.translating.guidance
        content = View(
            name="translation",
            net=told.net,
            branches={"cond": told.nothing, "null": told.nothing},
            guide=Cfg(scale=scale),
            weight=torch.ones(self.grid, device=self.model.device),
            stream=CONTENT,
        )
        branches = {"cond": told.concept, "null": told.nothing}
        return content, replace(content, branches=branches, guide=Cfg(scale=scale * strength), stream=IMAGE)

    def _told(self, concept: Concept | None) -> Told:
        model = self.model
        text: Any = model.text
        if self.translating.learned:
            assert concept is not None, "it was learned or given"
            with torch.no_grad():
                heard, places = said(text, concept.vectors.to(model.device))
            source = text.ids("")
            # The concept's own tokens are like no others.
            target = [*source[:1], *(-1 for _ in places), *source[1 : len(source) - len(places)]]
            nothing = Conditioning(tokens=(Tokens(text.encode(source)),))
            return Told(model.net, nothing, Conditioning(tokens=(Tokens(heard),)), (source, target))
        if model.exemplar is not None:
            engine, (width, height) = model.exemplar, self.size
            grey = self._latents(np.full((height, width, 3), 128, np.uint8))
            channels = engine.channels(grey, torch.zeros(height, width))
            nothing = Conditioning(tokens=(Tokens(engine.null),), channels=channels)
            shown = Conditioning(tokens=(Tokens(engine.token(self.reference)),), channels=channels)
            return Told(engine.net, nothing, shown)
        adapter: Any = model.ip_adapter
        silent = Conditioning(tokens=(Tokens(text.encode(text.ids(""))),))
        looking = [Conditioning(pictures=(Tokens(own),)) for own in (adapter.null, adapter.tokens(self.reference))]
        return Told(model.net, silent + looking[0], silent + looking[1])
