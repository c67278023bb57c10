"""A translation run: the background in its window, the concept's conditioning, and two canvases denoised together.

Other regions of the scene are views of the result's canvas in the same pass; the translation's weight is what they
leave.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cloisonne.core.guidance import Cfg, Single
from cloisonne.core.inversion.ddim import Retrace, invert
from cloisonne.core.inversion.flowedit import FlowTiming, last_steps
from cloisonne.core.inversion.null_text import ROUNDS, fit_null, fit_pivot
from cloisonne.core.noise import Noise
from cloisonne.core.plan import Plan, Refine, View
from cloisonne.core.refines import Clamp, Pin
from cloisonne.core.run import Run
from cloisonne.core.samplers import Sampler
from cloisonne.core.start import Start
from cloisonne.errors import SceneError
from cloisonne.methods.kinds import check
from cloisonne.methods.vct import CONTENT, IMAGE, sharing
from cloisonne.models.model import Model
from cloisonne.pipelines.attention_maps.layout_guidance import refuse_layout_guidance
from cloisonne.pipelines.prepare import Prepared, prepare, size_of
from cloisonne.pipelines.progress import Reporter
from cloisonne.pipelines.translation.concept_conditioning import (
    ConceptConditioning,
    blank_concept,
    learned_concept,
    reference_concept,
)
from cloisonne.pipelines.translation.concept_inputs import Given, candidates, content_settings, edit_of, with_learned
from cloisonne.pipelines.translation.flow import timing_of
from cloisonne.pipelines.translation.learn_concept import LEVELS, check_learns, most_rows
from cloisonne.pipelines.translation.settings import FEW, asked_of
from cloisonne.scene.conditions.concept import ConceptImage
from cloisonne.scene.conditions.translation_presets import Translating
from cloisonne.scene.io.images import open_rgb
from cloisonne.scene.region import Region
from cloisonne.scene.scene import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class Translation:
    """A prepared translation, which makes the Start of each image.

    prepared: the resolved scene with the learned concept; its other regions are compiled. concept: the region's.
    reference: its image. scale: guidance scale w. conditioning: with and without the concept. known: latents [C, H, W]
    of the background. flow: where and when the image changes, where it is translated without inversion. run: counts of
    the forwards so far. stream: the canvas that becomes the image.
    """

    prepared: Prepared
    concept: ConceptImage
    reference: Image.Image | None
    translating: Translating
    scale: float
    conditioning: ConceptConditioning
    known: Tensor
    flow: FlowTiming | None
    model: Model
    run: Run
    reporter: Reporter
    stream: str = IMAGE

    @classmethod
    def of(
        cls,
        scene: Scene,
        model: Model,
        *,
        reporter: Reporter,
        cache: Path | None = None,
        blank: bool = False,
        solver: Sampler[Any] | None = None,
    ) -> Self:
        """Check the scene against the model, compile it, and learn the concept where the preset learns one.

        reporter: of learning and inversion. cache: a folder for checkpoints of learning, which are resumed or reused.
        blank: compile with zeros and run no network, for ``explain``. solver: replaces the scene's sampler. Raises
        SceneError, ImageError, CapabilityError or CheckpointError.
        """
        region, concept = _concept_of(scene)
        translating, fields = asked_of(scene)
        if translating.flow and concept.file is not None:
            translating = replace(translating, learned=True)
        _check_concept(concept, translating, model, region)
        reference = None if concept.image is None else open_rgb(concept.image, "concept", region.name)
        asked = scene.replace(translating=fields, steps=scene.steps or translating.steps)
        prepared = prepare(asked, model, blank=blank, solver=solver)
        if prepared.scene.lora:
            raise SceneError(
                f'lora names "{prepared.scene.lora[0].name}" for the whole image, but a concept region does not take '
                "it; give it to other regions, or fuse it when the model is loaded."
            )
        flow = timing_of(prepared, translating, model.device) if translating.flow else None
        if flow is not None:
            prepared = replace(prepared, steps=last_steps(prepared.steps, flow.count))
        run = Run(forwards=prepared.probes, rows=prepared.probes)
        given = Given(prepared, concept, reference, model, translating)
        if blank:
            known = torch.zeros(model.vae.channels, *prepared.grid)
            conditioning = blank_concept(model, learned=translating.learned)
        elif translating.learned:
            (learned, word), content = given.learned(run, reporter, cache), given.content(run, reporter, cache)
            prepared = with_learned(prepared, learned, word, content)
            known, conditioning = given.known, learned_concept(model, learned, content)
        else:
            assert reference is not None, "checked above"
            size = size_of(prepared.scene)
            known, conditioning = given.known, reference_concept(model, reference, size, given.latents)
        texts = translating.learned or model.spec.takes_references
        own = model.native.guidance if texts else model.native.similarity
        scales = (region.guidance, translating.guidance, own)
        return cls(
            prepared=prepared,
            concept=concept,
            reference=reference,
            translating=translating,
            scale=next(scale for scale in scales if scale is not None),
            conditioning=conditioning,
            known=known,
            flow=flow,
            model=model,
            run=run,
            reporter=reporter,
        )

    def warnings(self) -> list[str]:
        """Warnings: the reference is the source, very few steps, an unused concept file, an unused caption."""
        found, scene = [], self.prepared.scene
        if self.concept.image is not None:
            reference, source = np.asarray(open_rgb(self.concept.image, "concept")), edit_of(self.prepared).source.rgb
            if reference.shape == source.shape and np.array_equal(reference, source):
                found.append("The reference is the source image, so nothing is transferred; give another image.")
        if self.concept.file is not None and not self.translating.learned:
            found.append('The concept\'s file is not used: the preset "fast" uses its image; choose the preset "vct".')
        if self.flow is None and len(self.prepared.steps) < FEW:
            found.append(f"{len(self.prepared.steps)} steps are few for inversion and sampling; give at least {FEW}.")
        if (scene.caption or scene.negative) and len(scene.active_regions) == 1:
            found.append(
                "The scene's caption has no effect: the concept region takes no text, and no other region is active."
            )
        return found

    def named(self) -> dict[str, Image.Image]:
        """The source and the reference."""
        reference = {} if self.reference is None else {"reference": self.reference}
        return {"source": edit_of(self.prepared).unchanged(), **reference}

    def start(self, noise: Noise, added: Plan, latents: Tensor | None = None) -> Start:
        """Both canvases at the source, or at its inverted noise. Inverts the source at the first call."""
        if latents is not None:
            raise SceneError("latents were given, but a concept starts at the background or at its inverted noise.")
        if self.flow is not None:
            plan = self.plan() + added + Plan(refines=self.flow.follows())
            solver = self.flow.solver(plan, self.prepared.sampler, self.translating.n_avg)
            return Start(self.flow.latents(plan, self.known, noise()[0]), solver, plan)
        inverted, solver, content, image = self._inverted
        plan = self._plan(content, image) + added + self._pinned
        if isinstance(solver, Retrace):
            place = plan.streams.index(CONTENT)
            solver = replace(solver, solver=self.prepared.sampler, places=(place,))
        z = plan.stack({CONTENT: inverted, IMAGE: self._renoised(inverted, noise)})
        return Start(z, solver, plan)

    def plan(self) -> Plan:
        """The plan of sampling, without the embeddings that inversion fits."""
        content, image = self._views()
        return self._plan(replace(content, guide=Single()) if self.translating.pivot == "none" else content, image)

    def setup_rows(self) -> list[int]:
        """Batch rows of every forward before sampling, at most: learning and fitting may end earlier."""
        settings, count = self.translating, len(self.prepared.steps)
        rows, missing = self.prepared.probes, settings.learned and self.concept.file is None
        if missing and settings.interrogate:
            words = candidates(self.model, self.concept.word)
            rows += LEVELS * len(words) if len(words) > 1 and self.model.segmenter is None else 0
        elif missing:
            rows += most_rows(settings)
        if settings.learned and settings.content_vectors and self.concept.content is None:
            rows += most_rows(content_settings(settings))
        learning = [1] * rows
        if self.flow is not None:
            return learning
        return learning + [1] * count + [2] * ((ROUNDS + 1) * count if settings.pivot != "none" else 0)

    @cached_property
    def _inverted(self) -> tuple[Tensor, Any, View, View]:
        """The source's inverted noise [C, H, W], the sampler that reconstructs it, and the content and image views."""
        content, image = self._views()
        clamp: tuple[Refine, ...] = ()
        if self.model.clip is not None:
            clamp = (Clamp(limit=self.model.clip, stream=CONTENT),)
        alone = replace(content, guide=Single())
        steps = self.prepared.steps
        plan = Plan(views=(alone,), refines=clamp)
        found = invert(plan, self.known[None], steps, on_step=self.reporter.inversion(), run=self.run.part())
        if self.translating.pivot == "none":
            return found.noise[0], found.sampler, alone, image
        branch, fit = ("cond", fit_pivot) if self.translating.pivot == "source" else ("null", fit_null)
        fitted = fit(
            Plan(views=(content,), refines=clamp),
            found.path,
            steps,
            run=self.run,
            on_step=self.reporter.fitting("pivot" if branch == "cond" else "null text"),
        )
        (content,) = fitted.views
        image = replace(image, branches={**image.branches, "null": content.branches[branch]})
        return found.noise[0], self.prepared.sampler, content, image

    def _views(self) -> tuple[View, View]:
        """The content's view and the result's."""
        conditioning, scale = self.conditioning, self.scale
        content = View(
            name="translation",
            net=conditioning.net,
            branches={"cond": conditioning.nothing, "null": conditioning.nothing},
            guide=Cfg(scale=scale),
            weight=torch.ones(self.prepared.grid, device=self.model.device),
            stream=CONTENT,
        )
        branches = {"cond": conditioning.concept, "null": conditioning.nothing}
        guide = Cfg(scale=scale * self.concept.concept_strength)
        return content, replace(content, branches=branches, guide=guide, stream=IMAGE)

    def _plan(self, content: View, image: View) -> Plan:
        """Both canvases, and the other regions on the result's; one view for each interval of the steps."""
        parts = self.prepared.compiled.translated
        views = list(self.prepared.compiled.plan.views)
        for index, (span, left) in enumerate(parts):
            views.append(replace(content, interval_index=index, when=span))
            views.append(replace(image, interval_index=index, when=span, weight=left))
        edits = sharing(self.translating, *self.conditioning.ids)
        limit = self.model.clip
        clamps = () if limit is None else (Clamp(limit=limit, stream=CONTENT),)
        return Plan(views=tuple(views), edits=edits, refines=(*self.prepared.compiled.plan.refines, *clamps))

    @cached_property
    def _pinned(self) -> Plan:
        """A plan that preserves the background outside of all regions."""
        edit = edit_of(self.prepared)
        covered = edit.covered(self.prepared.compiled.dropped)
        if bool((covered > 0).all()):
            return Plan()
        mask = edit.pin(self.model, size_of(self.prepared.scene), covered).mask
        return Plan(refines=(Pin(known=self.known, mask=mask, stream=IMAGE),))

    def _renoised(self, inverted: Tensor, fresh: Noise) -> Tensor:
        """Noise [C, H, W] of variance 1, fresh where other regions are active from the first step."""
        first = self.prepared.steps[0]
        left = next(left for span, left in self.prepared.compiled.translated if first in span)
        if bool((left >= 1).all()):
            return inverted
        return (left * inverted + (1 - left) * fresh()[0]) / (left.square() + (1 - left).square()).sqrt()


def _concept_of(scene: Scene) -> tuple[Region, ConceptImage]:
    """The region with a concept, and the concept. Raises SceneError where the scene has layout guidance."""
    refuse_layout_guidance(scene, "translations")
    region = scene.translated
    assert region is not None, "the scene has a concept"
    assert region.concept is not None, "the region has a concept"
    return region, region.concept


def _check_concept(concept: ConceptImage, translating: Translating, model: Model, region: Region) -> None:
    """Raise CapabilityError where the model takes no such concept, SceneError where the preset lacks its image."""
    unlearned = "flow" if translating.flow else "fast"
    check("concept", model, region.name, kind="vct" if translating.learned else unlearned)
    if translating.learned:
        check_learns(model)
    elif concept.image is None:
        raise SceneError(
            'The concept has a file and no image, but the translating preset "fast" needs an image; give one, '
            'or choose the preset "vct".',
            region=region.name,
        )
