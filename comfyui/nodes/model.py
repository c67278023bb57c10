"""Nodes that load a model and add to it."""

from typing import Any, get_args

from comfy_api.latest import io

import cloisonne as cl
from cloisonne.scene.conditions.control import ControlKind

from ..host import device, file_names, file_of, model_names, model_source, with_gradients
from .types import CATEGORY, Model

AUTO = "auto"


class LoadModel(io.ComfyNode):
    """Loads a model of cloisonne: the built-in family, a diffusers folder or a checkpoint file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneLoadModel",
            display_name="Load Model (cloisonne)",
            category=CATEGORY,
            description="The built-in family, a folder of models/diffusers, or a file of models/checkpoints.",
            inputs=[
                io.Combo.Input("model_name", options=model_names()),
                io.Combo.Input("device", options=[AUTO, "cpu"], default=AUTO, tooltip="auto: ComfyUI's own device."),
                io.Combo.Input("dtype", options=[AUTO, "float32", "float16", "bfloat16"], default=AUTO),
                io.Boolean.Input(
                    "offload", default=False, tooltip="Keep each network in the CPU's memory except while it runs."
                ),
            ],
            outputs=[Model.Output("model")],
        )

    @classmethod
    @with_gradients
    def execute(cls, model_name: str, device: str, dtype: str, offload: bool) -> io.NodeOutput:
        """Load it."""
        options: dict[str, Any] = {"dtype": None if dtype == AUTO else dtype, "offload": offload}
        return io.NodeOutput(cl.load(model_source(model_name), device=_device(device), **options))


class AddLora(io.ComfyNode):
    """Adds a LoRA: fused for the whole image, or by a name for regions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneAddLora",
            display_name="Add LoRA (cloisonne)",
            category=CATEGORY,
            description="With a region name it applies only in the regions whose field lora has this name.",
            inputs=[
                Model.Input("model"),
                io.Combo.Input("lora_name", options=file_names("loras")),
                io.Float.Input("scale", default=1.0, min=-10.0, max=10.0, step=0.05),
                io.String.Input("region_name", default="", tooltip="Name for regions; empty: the whole image."),
            ],
            outputs=[Model.Output("changed")],
        )

    @classmethod
    @with_gradients
    def execute(cls, model: Any, lora_name: str, scale: float, region_name: str) -> io.NodeOutput:
        """Add it."""
        file = file_of("loras", lora_name)
        if region_name.strip():
            return io.NodeOutput(model.with_regional_lora(region_name.strip(), file))
        return io.NodeOutput(model.with_lora(file, scale))


class AddControl(io.ComfyNode):
    """Adds a T2I-Adapter or ControlNet for a kind of control."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="CloisonneAddControl",
            display_name="Add Control Adapter (cloisonne)",
            category=CATEGORY,
            description="A T2I-Adapter or ControlNet of models/controlnet, for regions with a control of this kind.",
            inputs=[
                Model.Input("model"),
                io.Combo.Input("adapter_name", options=file_names("controlnet")),
                io.Combo.Input("kind", options=list(get_args(ControlKind))),
            ],
            outputs=[Model.Output("changed")],
        )

    @classmethod
    @with_gradients
    def execute(cls, model: Any, adapter_name: str, kind: str) -> io.NodeOutput:
        """Add it."""
        return io.NodeOutput(model.with_adapter(kind, file_of("controlnet", adapter_name)))


def _device(name: str) -> str:
    return device() if name == AUTO else name
