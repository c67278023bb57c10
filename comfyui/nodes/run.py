"""Nodes that run a model: generate, inpaint, edit, translate."""

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io

import cloisonne as cl
from cloisonne.scene.conditions import edit_presets, translation_presets

from ..host import Watch, logged_warnings, with_gradients
from ..tensors import matched, to_image, to_masks, to_picture, to_pictures
from .scene import LUMINANCE
from .types import CATEGORY, MODELS, Model, Scene, run_inputs, run_options


def _warnings(results: Sequence[cl.Result]) -> str:
    return "\n".join(dict.fromkeys(warning for result in results for warning in result.warnings))


class Generate(io.ComfyNode):
    """Generates images of a scene."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneGenerate",
            display_name="Generate (cloisonne)",
            category=CATEGORY,
            description="Generates the scene. With a background, its regions are repainted and all else is preserved.",
            inputs=[
                Model.Input("model"),
                Scene.Input("scene"),
                *run_inputs(),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Image n has the seed plus n."),
                io.Image.Input("background", optional=True),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, optional=True),
            ],
            outputs=[io.Image.Output("images"), Scene.Output("resolved"), io.String.Output("warnings")],
        )

    @classmethod
    @with_gradients
    def execute(
        cls,
        model: Any,
        scene: cl.Scene,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        batch_size: int,
        background: torch.Tensor | None = None,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        """Generate them."""
        fields = run_options(seed, steps, guidance, sampler)
        if background is not None:
            fields |= {"background": to_picture(background, "The background"), "strength": strength}
        with logged_warnings():
            result = cl.generate(scene, model, num_images=batch_size, on_step=Watch(), **fields)
        return io.NodeOutput(to_image(result.images), result.scene, _warnings([result]))


class Inpaint(io.ComfyNode):
    """Inpaints images where a mask is 1, by a phrase, an exemplar or both."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneInpaint",
            display_name="Inpaint (cloisonne)",
            category=CATEGORY,
            description="Repaints where the mask is 1; every other pixel keeps its value.",
            inputs=[
                Model.Input("model"),
                io.Image.Input("image"),
                io.Mask.Input("mask"),
                io.String.Input("phrase", multiline=True, default="a cat"),
                *run_inputs(),
                io.Image.Input("exemplar", optional=True),
                io.Float.Input("feather", default=0.0, min=0.0, max=0.5, step=0.01, optional=True),
                io.Float.Input("strength", default=1.0, min=0.0, max=1.0, step=0.01, optional=True),
            ],
            outputs=[io.Image.Output("images"), io.String.Output("warnings")],
        )

    @classmethod
    @with_gradients
    def execute(
        cls,
        model: Any,
        image: torch.Tensor,
        mask: torch.Tensor,
        phrase: str,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        exemplar: torch.Tensor | None = None,
        feather: float = 0.0,
        strength: float = 1.0,
    ) -> io.NodeOutput:
        """Inpaint each image of the batch."""
        pictures, masks = to_pictures(image), to_masks(mask)
        given: dict[str, Any] = run_options(seed, steps, guidance, sampler) | {"feather": feather, "strength": strength}
        given["exemplar"] = None if exemplar is None else to_picture(exemplar, "The exemplar")
        given["phrase"] = phrase.strip() or None
        watch, results = Watch(len(pictures)), []
        with logged_warnings():
            for picture, own in zip(pictures, matched(masks, len(pictures)), strict=True):
                if not own.any():
                    raise ValueError("The mask selects nothing; paint it, or load an image with transparency.")
                results.append(cl.inpaint(picture, own, model, mask_channel=LUMINANCE, on_step=watch, **given))
                watch.next_run()
        return io.NodeOutput(to_image(result.image for result in results), _warnings(results))


class Edit(io.ComfyNode):
    """Edits an image, or generates an image before and one after."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneEdit",
            display_name="Edit (cloisonne)",
            category=CATEGORY,
            description="Applies the scene's edit regions to an image; without one, both images are generated.",
            inputs=[
                Model.Input("model"),
                Scene.Input("scene"),
                *run_inputs(),
                io.Image.Input("image", optional=True),
                io.Combo.Input(
                    "preset",
                    options=[MODELS, *edit_presets.PRESETS],
                    default=MODELS,
                    optional=True,
                    tooltip="How it is edited.",
                ),
            ],
            outputs=[io.Image.Output("after"), io.Image.Output("before"), io.String.Output("warnings")],
        )

    @classmethod
    @with_gradients
    def execute(
        cls,
        model: Any,
        scene: cl.Scene,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        image: torch.Tensor | None = None,
        preset: str = MODELS,
    ) -> io.NodeOutput:
        """Edit it."""
        given: dict[str, Any] = run_options(seed, steps, guidance, sampler)
        if image is not None:
            given["background"] = to_picture(image, "The image to edit")
        if preset != MODELS:
            given["preset"] = preset
        with logged_warnings():
            result = cl.edit(scene, model, on_step=Watch(), **given)
        before = result.named["before"]
        return io.NodeOutput(to_image([result.image]), to_image([before]), _warnings([result]))


class Translate(io.ComfyNode):
    """Transfers the subject or style of a reference to images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneTranslate",
            display_name="Translate (cloisonne)",
            category=CATEGORY,
            description="The structure of the image with the subject or style of the reference.",
            inputs=[
                Model.Input("model"),
                io.Image.Input("image"),
                io.Image.Input("reference"),
                *run_inputs(),
                io.Combo.Input("preset", options=list(translation_presets.PRESETS)),
                io.Float.Input("concept_strength", default=1.0, min=0.0, max=1.0, step=0.01),
                io.Mask.Input("mask", optional=True, tooltip="Where it is 0 the image is preserved."),
            ],
            outputs=[io.Image.Output("images"), io.String.Output("warnings")],
        )

    @classmethod
    @with_gradients
    def execute(
        cls,
        model: Any,
        image: torch.Tensor,
        reference: torch.Tensor,
        seed: int,
        steps: int,
        guidance: float,
        sampler: str,
        preset: str,
        concept_strength: float,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        """Translate each image of the batch."""
        pictures, given = to_pictures(image), run_options(seed, steps, guidance, sampler)
        given |= {"preset": preset, "concept_strength": concept_strength}
        masks: list[Any] = [None] if mask is None else to_masks(mask)
        wanted, watch, results = to_picture(reference, "The reference"), Watch(len(pictures)), []
        with logged_warnings():
            for picture, own in zip(pictures, matched(masks, len(pictures)), strict=True):
                where = {} if own is None else {"mask": own, "mask_channel": LUMINANCE}
                results.append(cl.translate(picture, wanted, model, on_step=watch, **given, **where))
                watch.next_run()
        return io.NodeOutput(to_image(result.image for result in results), _warnings(results))
