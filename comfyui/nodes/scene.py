"""Nodes that make scenes: a caption and regions from boxes, ComfyUI's elements or masks."""

import json
from typing import Any, get_args

import torch
from comfy_api.latest import io

import cloisonne as cl
from cloisonne.scene import from_elements
from cloisonne.scene.conditions.control import ControlKind
from cloisonne.scene.overlap import Overlap

from ..tensors import to_mask, to_masks, to_picture
from .types import CATEGORY, MODELS, Scene, methods

NONE = "none"
LUMINANCE = "luminance"
"""A MASK's values are used as they are."""


def _size() -> list[Any]:
    return [
        io.Int.Input("width", default=0, min=0, max=4096, step=8, tooltip="In pixels. 0: the model's usual size."),
        io.Int.Input("height", default=0, min=0, max=4096, step=8, tooltip="In pixels. 0: the model's usual size."),
    ]


def _sized(scene: cl.Scene, width: int, height: int) -> cl.Scene:
    return scene.replace(width=width or scene.width, height=height or scene.height)


def _with(scene: cl.Scene, **region: Any) -> io.NodeOutput:
    name = region.pop("name", "").strip()
    names = {own.name for own in scene.regions}
    number = next(n for n in range(len(names) + 1) if f"region-{n}" not in names)
    added = cl.Region(name=name or f"region-{number}", **region)
    return io.NodeOutput(scene.replace(regions=(*scene.regions, added)))


class NewScene(io.ComfyNode):
    """A scene without regions: the caption describes the whole image."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneScene",
            display_name="Scene (cloisonne)",
            category=CATEGORY,
            description="The caption describes the whole image. Connect region nodes after it.",
            inputs=[
                io.String.Input("caption", multiline=True, default="on a beach"),
                io.String.Input("negative", multiline=True, default="", optional=True),
                *_size(),
                io.Combo.Input("method", options=methods(), default=MODELS, tooltip="How phrases act in regions."),
                io.Combo.Input("overlap", options=list(get_args(Overlap)), tooltip="How regions share a pixel."),
            ],
            outputs=[Scene.Output("scene")],
        )

    @classmethod
    def execute(
        cls, caption: str, width: int, height: int, method: str, overlap: str, negative: str = ""
    ) -> io.NodeOutput:
        """Make it."""
        fields: dict[str, Any] = {"method": None if method == MODELS else method, "overlap": overlap}
        return io.NodeOutput(_sized(cl.Scene(caption=caption, negative=negative, **fields), width, height))


class SceneFromBoxes(io.ComfyNode):
    """A scene from lines of boxes and phrases."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneSceneFromBoxes",
            display_name="Scene from Boxes (cloisonne)",
            category=CATEGORY,
            description="One region a line, x0,y0,x1,y1: phrase, in fractions of the image from its top left corner.",
            inputs=[
                io.String.Input("caption", multiline=True, default="on a beach"),
                io.String.Input(
                    "boxes", multiline=True, default="0.05,0.05,0.45,0.45: a doughnut\n0.5,0.5,0.95,0.95: a cat"
                ),
                *_size(),
            ],
            outputs=[Scene.Output("scene")],
        )

    @classmethod
    def execute(cls, caption: str, boxes: str, width: int, height: int) -> io.NodeOutput:
        """Make it. Raises ValueError for a line of another form."""
        regions = []
        for line in filter(str.strip, boxes.splitlines()):
            corners, colon, phrase = line.partition(":")
            try:
                box = [float(part) for part in corners.split(",")]
            except ValueError:
                box = []
            if len(box) != 4 or not colon:
                raise ValueError(f'The line "{line}" is no box; write x0,y0,x1,y1: phrase, in fractions of the image.')
            regions.append(cl.Region(name=f"region-{len(regions)}", box=box, phrase=phrase.strip()))
        return io.NodeOutput(_sized(cl.Scene(caption=caption, regions=regions), width, height))


class SceneFromElements(io.ComfyNode):
    """A scene from the JSON of ComfyUI's elements."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneSceneFromElements",
            display_name="Scene from Elements (cloisonne)",
            category=CATEGORY,
            description="Elements as JSON: the whole object with its caption, or the list alone.",
            inputs=[io.String.Input("elements", multiline=True), *_size()],
            outputs=[Scene.Output("scene"), io.String.Output("warnings")],
        )

    @classmethod
    def execute(cls, elements: str, width: int, height: int) -> io.NodeOutput:
        """Make it. Raises ValueError for text that is no JSON, SceneError for other JSON."""
        try:
            data = json.loads(elements)
        except ValueError as error:
            raise ValueError(f"The elements are no JSON ({error}); connect a node that makes them.") from None
        scene, warnings = from_elements(data)
        return io.NodeOutput(_sized(scene, width, height), "\n".join(warnings))


class SceneFromMasks(io.ComfyNode):
    """A scene from a batch of masks and as many lines of phrases."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneSceneFromMasks",
            display_name="Scene from Masks (cloisonne)",
            category=CATEGORY,
            description="One region for each mask of the batch; line n of the phrases belongs to mask n.",
            inputs=[
                io.String.Input("caption", multiline=True, default=""),
                io.Mask.Input("masks"),
                io.String.Input("phrases", multiline=True, default="a cat"),
                *_size(),
            ],
            outputs=[Scene.Output("scene")],
        )

    @classmethod
    def execute(cls, caption: str, masks: torch.Tensor, phrases: str, width: int, height: int) -> io.NodeOutput:
        """Make it. Raises ValueError where masks and phrases are not as many."""
        each, lines = to_masks(masks), [line.strip() for line in phrases.splitlines() if line.strip()]
        if len(each) != len(lines):
            raise ValueError(f"There are {len(each)} masks and {len(lines)} lines of phrases; give one line a mask.")
        regions = [
            cl.Region(name=f"region-{i}", mask=mask, mask_channel=LUMINANCE, phrase=phrase)
            for i, (mask, phrase) in enumerate(zip(each, lines, strict=True))
        ]
        return io.NodeOutput(_sized(cl.Scene(caption=caption, regions=regions), width, height))


class SceneToJson(io.ComfyNode):
    """The scene as cloisonne's own JSON, images included."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneSceneToJson",
            display_name="Scene to JSON (cloisonne)",
            category=CATEGORY,
            description="For the command line, the studio and Python of cloisonne. Masks and images are in it.",
            inputs=[Scene.Input("scene")],
            outputs=[io.String.Output("json")],
        )

    @classmethod
    def execute(cls, scene: cl.Scene) -> io.NodeOutput:
        """Write it."""
        return io.NodeOutput(scene.to_json())


def _conditions() -> list[Any]:
    return [
        io.String.Input(
            "name", default="", optional=True, tooltip="Unique in the scene; empty: region-0, region-1, ..."
        ),
        io.String.Input("negative", multiline=True, default="", optional=True),
        io.Image.Input(
            "exemplar", optional=True, tooltip="An image of the object; needs a model that takes exemplars."
        ),
        io.Image.Input("control", optional=True, tooltip="A control map of the whole image, such as edges."),
        io.Combo.Input("control_kind", options=[NONE, *get_args(ControlKind)], default=NONE, optional=True),
        io.Float.Input("weight", default=1.0, min=0.0, max=10.0, step=0.05, optional=True),
        io.Int.Input("priority", default=0, min=-1000, max=1000, optional=True),
        io.Float.Input("start", default=0.0, min=0.0, max=1.0, step=0.01, optional=True),
        io.Float.Input("stop", default=1.0, min=0.0, max=1.0, step=0.01, optional=True),
        io.Float.Input("feather", default=0.0, min=0.0, max=0.5, step=0.01, optional=True),
        io.String.Input("lora", default="", optional=True, tooltip="Name of a LoRA that was added for regions."),
    ]


def _fields(
    exemplar: torch.Tensor | None = None,
    control: torch.Tensor | None = None,
    control_kind: str = NONE,
    lora: str = "",
    **given: Any,
) -> dict[str, Any]:
    """The fields of a region from :func:`_conditions`."""
    if (control is None) != (control_kind == NONE):
        missing = "kind" if control is not None else "map"
        raise ValueError(f"The region's control has no {missing}; give a control map and its kind, or neither.")
    fields = dict(given)
    if exemplar is not None:
        fields["exemplar"] = to_picture(exemplar, "The exemplar")
    if control is not None:
        fields["control"] = {"kind": control_kind, "image": to_picture(control, "The control map")}
    if lora.strip():
        fields["lora"] = lora.strip()
    return fields


class RegionFromBox(io.ComfyNode):
    """Adds a region, a rectangle, to a scene."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        corners = [("x", 0.1), ("y", 0.1), ("box_width", 0.4), ("box_height", 0.4)]
        return io.Schema(
            node_id="CloisonneRegionFromBox",
            display_name="Region from Box (cloisonne)",
            category=CATEGORY,
            description="Position and size are fractions of the image, from its top left corner.",
            inputs=[
                Scene.Input("scene"),
                io.String.Input("phrase", multiline=True, default="a cat"),
                *(io.Float.Input(name, default=value, min=0.0, max=1.0, step=0.01) for name, value in corners),
                *_conditions(),
            ],
            outputs=[Scene.Output("changed")],
        )

    @classmethod
    def execute(
        cls, scene: cl.Scene, phrase: str, x: float, y: float, box_width: float, box_height: float, **conditions: Any
    ) -> io.NodeOutput:
        """Add it; what exceeds the image is cut off."""
        box = (x, y, min(x + box_width, 1.0), min(y + box_height, 1.0))
        return _with(scene, phrase=phrase, box=box, **_fields(**conditions))


class RegionFromMask(io.ComfyNode):
    """Adds a region, a mask, to a scene."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneRegionFromMask",
            display_name="Region from Mask (cloisonne)",
            category=CATEGORY,
            description="The mask is stretched over the image; grey values are soft.",
            inputs=[
                Scene.Input("scene"),
                io.Mask.Input("mask"),
                io.String.Input("phrase", multiline=True, default="a cat"),
                *_conditions(),
            ],
            outputs=[Scene.Output("changed")],
        )

    @classmethod
    def execute(cls, scene: cl.Scene, mask: torch.Tensor, phrase: str, **conditions: Any) -> io.NodeOutput:
        """Add it."""
        own = to_mask(mask, "The region's mask")
        return _with(scene, phrase=phrase, mask=own, mask_channel=LUMINANCE, **_fields(**conditions))


class EditRegion(io.ComfyNode):
    """Adds a region with an edit: something is added, removed or changed there."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneEditRegion",
            display_name="Edit Region (cloisonne)",
            category=CATEGORY,
            description="Adding needs only what comes after, removing only what was there before.",
            inputs=[
                Scene.Input("scene"),
                io.Mask.Input("mask"),
                io.String.Input("before", default="", tooltip="What is there now; empty: something is added."),
                io.String.Input("after", default="", tooltip="What is to be there; empty: it is removed."),
                io.String.Input("name", default="", optional=True),
            ],
            outputs=[Scene.Output("changed")],
        )

    @classmethod
    def execute(cls, scene: cl.Scene, mask: torch.Tensor, before: str, after: str, name: str = "") -> io.NodeOutput:
        """Add it. Raises ValueError where neither before nor after is given."""
        before, after = before.strip(), after.strip()
        if not before and not after:
            raise ValueError("The edit has neither before nor after; describe one of them, or both for a change.")
        edit = {"kind": "change", "from": before, "to": after}
        if not before or not after:
            edit = {"kind": "add" if after else "remove", "phrase": after or before}
        return _with(scene, name=name, edit=edit, mask=to_mask(mask, "The edit's mask"), mask_channel=LUMINANCE)
