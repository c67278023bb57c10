"""A stand-in for what ComfyUI documents of its nodes: V3 schemas, types of values, graphs, progress, folders.

It has the few names that the nodes use, checks more strictly than ComfyUI does, and runs a graph in its API format. It
was written from the documentation; ``tests/comfyui/test_real.py`` runs the same graphs in ComfyUI itself.
"""

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "comfyui"
"""The nodes of cloisonne."""
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
"""Types that a value in the graph may have; all others come by a link."""


class Interrupted(Exception):
    """What ComfyUI raises inside a node after an interrupt."""


@dataclass(kw_only=True, eq=False)
class Slot:
    """An input or output of a schema."""

    id: str
    type: str
    optional: bool = False
    tooltip: str | None = None
    display_name: str | None = None
    default: Any = None
    limits: dict[str, Any] = field(default_factory=dict)


def _type(name: str) -> Any:
    """A type of the protocol: ``Input(id, ...)`` and ``Output(id, ...)`` make slots."""

    def slot(id: str, *, optional: bool = False, tooltip: str | None = None, **more: Any) -> Slot:
        known = ("options", "min", "max", "step", "multiline", "control_after_generate")
        assert set(more) - set(known) <= {"default", "display_name"}, f"unknown arguments of {id}: {more}"
        limits = {key: more[key] for key in known if key in more}
        own = {key: more[key] for key in ("default", "display_name") if key in more}
        return Slot(id=id, type=name, optional=optional, tooltip=tooltip, limits=limits, **own)

    return type(name, (), {"io_type": name, "Input": staticmethod(slot), "Output": staticmethod(slot)})


@dataclass(kw_only=True, eq=False)
class Schema:
    """What ``define_schema`` returns."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Slot]
    outputs: list[Slot]
    is_output_node: bool = False

    def __post_init__(self) -> None:
        ids = [slot.id for slot in (*self.inputs, *self.outputs)]
        assert len(set(ids)) == len(ids), f"ids of inputs and outputs are not unique: {ids}"


class NodeOutput:
    """What ``execute`` returns."""

    def __init__(self, *values: Any) -> None:
        self.values = values


class ComfyNode:
    """The base of nodes."""


class ComfyExtension:
    """The base of extensions."""


@dataclass(eq=False)
class Host:
    """The state of the stand-in.

    bars: (value, total, preview) of each update. interrupt_after: updates until an interrupt. folders: files by folder.
    """

    bars: list[tuple[float, float, Any]] = field(default_factory=list)
    interrupt_after: int | None = None
    folders: dict[str, Path] = field(default_factory=dict)

    def modules(self) -> dict[str, ModuleType]:
        """The modules that nodes import, by name."""
        io = ModuleType("comfy_api.latest.io")
        for name in ("Boolean", "Int", "Float", "String", "Combo", "Image", "Mask"):
            setattr(io, name, _type(name.upper()))
        vars(io).update(Custom=_type, Schema=Schema, NodeOutput=NodeOutput, ComfyNode=ComfyNode)
        latest = _module("comfy_api.latest", io=io, ComfyExtension=ComfyExtension)
        management = _module(
            "comfy.model_management",
            get_torch_device=lambda: torch.device("cpu"),
            throw_exception_if_processing_interrupted=self._throw,
        )
        utils = _module("comfy.utils", ProgressBar=lambda total: _Bar(self, total))
        comfy = _module("comfy", model_management=management, utils=utils)
        folders = _module(
            "folder_paths",
            get_filename_list=self._names,
            get_full_path_or_raise=lambda kind, name: str(self.folders[kind] / name),
            get_folder_paths=lambda kind: [str(self.folders[kind])] if kind in self.folders else [],
        )
        found = (latest, management, utils, comfy, folders, _module("comfy_api", latest=latest))
        return {module.__name__: module for module in found}

    def _names(self, kind: str) -> list[str]:
        root = self.folders.get(kind)
        return [] if root is None else sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file())

    def _throw(self) -> None:
        if self.interrupt_after is not None and len(self.bars) >= self.interrupt_after:
            raise Interrupted


class _Bar:
    def __init__(self, host: Host, total: int) -> None:
        self._host = host

    def update_absolute(self, value: float, total: float, preview: Any = None) -> None:
        self._host.bars.append((value, total, preview))


def _module(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def load_extension(folder: Path) -> dict[str, Any]:
    """The nodes of a folder as ComfyUI loads it from custom_nodes, by their ids."""
    name = _name(folder)
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)

    async def nodes() -> list[Any]:
        return await (await module.comfy_entrypoint()).get_node_list()

    found = {node.define_schema().node_id: node for node in asyncio.run(nodes())}
    return found | {node.define_schema().node_id: node for node in CORE}


class Nodes(dict[str, Any]):
    """The nodes by their ids, and the state of the stand-in."""

    def __init__(self, nodes: Mapping[str, Any], host: Host) -> None:
        super().__init__(nodes)
        self.host = host

    def module(self, name: str) -> ModuleType:
        """A module of the extension, such as "tensors"."""
        return sys.modules[f"{_name(FOLDER)}.{name}"]

    def call(self, node: str, **inputs: Any) -> tuple[Any, ...]:
        """Execute one node."""
        return self[node].execute(**inputs).values


def _name(folder: Path) -> str:
    """The name of the module of a folder."""
    return str(folder).replace(".", "_")


class _Core(ComfyNode):
    """One of ComfyUI's own nodes, as far as the example workflows use it."""

    def __init__(self, schema: Schema, execute: Callable[..., tuple[Any, ...]]) -> None:
        self.define_schema = lambda: schema
        self.execute = lambda **given: NodeOutput(*execute(**given))


def _core(name: str, inputs: list[Slot], outputs: list[Slot], execute: Callable[..., tuple[Any, ...]]) -> _Core:
    schema = Schema(
        node_id=name,
        display_name=name,
        category="core",
        description="",
        inputs=inputs,
        outputs=outputs,
        is_output_node=not outputs,
    )
    return _Core(schema, execute)


def _number(name: str, **limits: Any) -> Slot:
    return Slot(id=name, type="INT", limits={"min": 0, "max": 16384, **limits})


def _composite(destination: Any, source: Any, x: int, y: int, operation: str) -> tuple[Any, ...]:
    assert operation == "add"
    result = destination.clone()
    height, width = source.shape[-2:]
    result[:, y : y + height, x : x + width] = (result[:, y : y + height, x : x + width] + source).clamp(0, 1)
    return (result,)


CORE = [
    _core(
        "SolidMask",
        [Slot(id="value", type="FLOAT", limits={"min": 0.0, "max": 1.0}), _number("width"), _number("height")],
        [Slot(id="MASK", type="MASK")],
        lambda value, width, height: (torch.full((1, height, width), value),),
    ),
    _core(
        "MaskComposite",
        [
            Slot(id="destination", type="MASK"),
            Slot(id="source", type="MASK"),
            _number("x"),
            _number("y"),
            Slot(id="operation", type="COMBO", limits={"options": ["multiply", "add", "subtract", "and", "or", "xor"]}),
        ],
        [Slot(id="MASK", type="MASK")],
        _composite,
    ),
    _core(
        "SaveImage",
        [Slot(id="images", type="IMAGE"), Slot(id="filename_prefix", type="STRING")],
        [],
        lambda images, filename_prefix: (images,),
    ),
]


def load_image(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """IMAGE and MASK of a file, as documented: the mask is 1 where the image is transparent."""
    picture = Image.open(path)
    alpha = np.asarray(picture.convert("RGBA"), np.float32)[..., 3] / 255
    pixels = np.asarray(picture.convert("RGB"), np.float32) / 255
    return torch.from_numpy(pixels)[None], torch.from_numpy(1 - alpha)[None]


def run(graph: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Execute a graph in the API format, in inference mode as ComfyUI does. Returns the outputs of each node.

    Raises AssertionError for a graph that does not fit the schemas.
    """
    done: dict[str, tuple[Any, ...]] = {}
    with torch.inference_mode():
        for key in _order(graph):
            node = nodes[graph[key]["class_type"]]
            given = {name: _value(value, done) for name, value in graph[key]["inputs"].items()}
            done[key] = tuple(node.execute(**given).values)
            outputs = node.define_schema().outputs
            assert not outputs or len(done[key]) == len(outputs), f"{key} returned {len(done[key])} values"
    return done


def check(graph: Mapping[str, Any], nodes: Mapping[str, Any]) -> None:
    """Raise AssertionError where a graph lacks an input, or a value or link is not of an input's type."""
    for key, own in graph.items():
        schema = nodes[own["class_type"]].define_schema()
        slots = {slot.id: slot for slot in schema.inputs}
        assert own["inputs"].keys() <= slots.keys(), f"{key}: {own['inputs'].keys() - slots.keys()}"
        missing = [slot.id for slot in schema.inputs if not slot.optional and slot.id not in own["inputs"]]
        assert not missing, f"{key} ({own['class_type']}) lacks {missing}"
        for name, value in own["inputs"].items():
            if is_link(value):
                source = nodes[graph[value[0]]["class_type"]].define_schema()
                assert source.outputs[value[1]].type == slots[name].type, f"{key}.{name}"
            else:
                _check_value(f"{key}.{name}", slots[name], value)


def _check_value(name: str, slot: Slot, value: Any) -> None:
    assert slot.type in WIDGETS, f"{name} of type {slot.type} needs a link"
    assert isinstance(value, WIDGETS[slot.type]), f"{name} is {value!r}"
    if "options" in slot.limits:
        assert value in slot.limits["options"], f"{name} is {value!r}"
    if "min" in slot.limits:
        assert slot.limits["min"] <= value <= slot.limits["max"], f"{name} is {value!r}"


def graph_of(workflow: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, Any]:
    """The graph, in the API format, of a workflow as the page saves it: widgets by position, links by number."""
    links = {link[0]: link for link in workflow["links"]}
    graph = {}
    for own in workflow["nodes"]:
        schema = nodes[own["type"]].define_schema()
        values = iter(own["widgets_values"])
        inputs: dict[str, Any] = {}
        for slot in schema.inputs:
            if slot.type in WIDGETS:
                inputs[slot.id] = next(values)
                if slot.limits.get("control_after_generate"):
                    assert next(values) in ("fixed", "increment", "decrement", "randomize")
        assert next(values, None) is None, f"{own['type']} has more values than widgets"
        for slot in own["inputs"]:
            if slot["link"] is not None:
                number, source, output, target, place, kind = links[slot["link"]]
                assert (target, own["inputs"][place]["name"]) == (own["id"], slot["name"]), f"link {number}"
                assert kind == slot["type"], f"link {number}"
                inputs[slot["name"]] = [str(source), output]
        graph[str(own["id"])] = {"class_type": own["type"], "inputs": inputs}
    return graph


def is_link(value: Any) -> bool:
    """Whether a value of the graph is the output of another node."""
    return isinstance(value, list)


def _value(value: Any, done: Mapping[str, tuple[Any, ...]]) -> Any:
    return done[value[0]][value[1]] if is_link(value) else value


def _order(graph: Mapping[str, Any]) -> Iterator[str]:
    """The nodes, each after those that it needs."""
    done: set[str] = set()
    while len(done) < len(graph):
        ready = [
            key
            for key, own in graph.items()
            if key not in done and all(value[0] in done for value in own["inputs"].values() if is_link(value))
        ]
        assert ready, "the graph has a circle"
        done.update(ready)
        yield from ready
