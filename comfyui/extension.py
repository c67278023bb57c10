"""The extension: the list of nodes."""

from comfy_api.latest import ComfyExtension, io

from .nodes.control_map import ControlMap
from .nodes.model import AddControl, AddLora, LoadModel
from .nodes.run import Edit, Generate, Inpaint, Translate
from .nodes.scene import (
    EditRegion,
    NewScene,
    RegionFromBox,
    RegionFromMask,
    SceneFromBoxes,
    SceneFromElements,
    SceneFromMasks,
    SceneToJson,
)

NODES: list[type[io.ComfyNode]] = [
    *(LoadModel, AddLora, AddControl),
    *(NewScene, SceneFromBoxes, SceneFromElements, SceneFromMasks, SceneToJson),
    *(RegionFromBox, RegionFromMask, EditRegion, ControlMap),
    *(Generate, Inpaint, Edit, Translate),
]


class CloisonneExtension(ComfyExtension):
    """All nodes of cloisonne."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes, in the order of the menu."""
        return NODES


async def comfy_entrypoint() -> CloisonneExtension:
    """What ComfyUI calls."""
    return CloisonneExtension()
