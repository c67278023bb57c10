"""Read a LoRA file of any trainer: its changes of a checkpoint's layers, with every tensor and header entry checked."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cloisonne.errors import CheckpointError
from cloisonne.models.checkpoints.lora.changes import Change
from cloisonne.models.checkpoints.lora.names import (
    Layer,
    Target,
    component,
    layer_names,
    modules_of,
    plain,
    refused_form,
    slot_of,
)
from cloisonne.models.checkpoints.parts import Parts
from cloisonne.models.checkpoints.tensor_file import TensorFile, listed, reason
from cloisonne.models.quantized.layers import QuantizedLinear

METADATA = "lora_adapter_metadata"
"""The header entry in which diffusers writes PEFT's settings, with keys such as "unet.lora_alpha"."""

OTHER_FAMILIES = {
    **dict.fromkeys(("single_transformer_blocks", "double_blocks", "single_blocks"), "FLUX or a network like it"),
    **dict.fromkeys(("joint_blocks", "transformer.transformer_blocks"), "Stable Diffusion 3 or a network like it"),
}
"""Model families without a UNet, by substrings of their LoRAs' layer names; the first match applies."""

BUNDLED = "bundle_emb."
"""Prefix of the tensors of learned words."""

HONOURED = frozenset({"r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"})
PLAIN_SETTINGS = frozenset(
    {
        *(
            "target_modules",
            "exclude_modules",
            "lora_dropout",
            "init_lora_weights",
            "task_type",
            "peft_type",
            "revision",
        ),
        *("base_model_name_or_path", "inference_mode", "layers_to_transform", "layers_pattern", "auto_mapping"),
        *("runtime_config", "peft_version", "megatron_core", "loftq_config", "eva_config", "corda_config", "bias"),
        *("lora_ga_config", "qalora_group_size", "ensure_weight_tying", "use_dora", "lora_bias", "fan_in_fan_out"),
    }
)
"""PEFT's settings that describe the training, or that the tensors themselves determine."""
OTHER_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Initialisations that change the base's weights: such a LoRA does not fit the published checkpoint."""


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A LoRA file read for a checkpoint.

    changes: by the checkpoint's layers, those that fit. warnings: what of the file is not used. bundled: tensors of
    learned words, by word and by their names in the file.
    """

    file: Path
    changes: Mapping[Layer, Change]
    warnings: tuple[str, ...]
    bundled: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path, parts: Parts) -> "LoraFile":
        """Read a safetensors file.

        Raises CheckpointError where it is no LoRA, has an unsupported form, or was trained for another model family.
        """
        if not file.is_file():
            raise CheckpointError(f'There is no LoRA "{file}"; check its path.')
        if file.suffix != ".safetensors":
            raise CheckpointError(
                f'The LoRA "{file}" is no .safetensors file; convert it once: cloisonne convert {file} OUT.safetensors.'
            )
        opened = TensorFile.open(file)
        _refuse_forms(opened)
        bundled = _bundled(opened)
        named = _by_layer(opened)
        names = layer_names(parts)
        fitting = {written: target for written in named if (target := names.get(plain(written))) is not None}
        networks = {component(layer, parts) for target in fitting.values() for layer in target.layers}
        settings = _Settings.of(opened, networks)
        changes: dict[Layer, Change] = {}
        for written, target in fitting.items():
            slots = {slot: opened.take(tensor) for slot, tensor in named[written].items()}
            layer = target.layers[0]
            change = _change(slots, layer, settings.by_component.get(component(layer, parts)), written, file)
            for own, part in _by_target(change, target, parts, file):
                if own in changes:
                    raise CheckpointError(
                        f'"{file}" changes the layer "{own.name}" under two names, the second "{written}"; remove one.'
                    )
                changes[own] = part
        if named and not changes:
            layers = " ".join(named)
            other = next((f", which is of {family}" for part, family in OTHER_FAMILIES.items() if part in layers), "")
            raise CheckpointError(
                f'"{file}" fits no layer of the model: its layers are {listed(named)}{other}; load a LoRA trained '
                f"for {parts.family}."
            )
        return cls(file, changes, _unfit(opened, named, fitting) + opened.settle("LoRA"), bundled)


def _by_layer(opened: TensorFile) -> dict[str, dict[str, str]]:
    """Names of tensors by the layer's name in the file and by slot."""
    found: dict[str, dict[str, str]] = {}
    for name in opened.keys:
        if (slot := slot_of(name)) is not None:
            found.setdefault(slot[0], {})[slot[1]] = name
    # A layer with only an alpha has no change.
    return {layer: slots for layer, slots in found.items() if slots.keys() != {"alpha"}}


def _change(
    slots: dict[str, Tensor], layer: Layer, settings: Mapping[str, Any] | None, written: str, file: Path
) -> Change:
    alpha = slots.pop("alpha", None)
    change = Change(slots)
    if change.lacks is not None:
        raise CheckpointError(f'"{file}" lacks the tensor {change.lacks} of its layer "{written}"; download it again.')
    if (rank := change.rank) is None:
        return change
    if alpha is None:
        return Change(slots, _scale(settings, layer, rank))
    if alpha.numel() != 1:
        raise CheckpointError(f'"{file}" has an alpha of {list(alpha.shape)} for "{written}"; download it again.')
    return Change(slots, float(alpha.item()) / rank)


def _by_target(change: Change, target: Target, parts: Parts, file: Path) -> Iterator[tuple[Layer, Change]]:
    """The changes of the layers that a layer of the file changes, after a check of their shapes."""
    for layer, outputs, whole in _outputs(target, parts):
        with _fitting(layer, parts, file):
            own = change if outputs is None else change.of_outputs(outputs, whole)
            _check_shapes(own, layer, parts)
        yield layer, own


def _outputs(target: Target, parts: Parts) -> Iterator[tuple[Layer, Tensor | None, tuple[int, ...]]]:
    """Each layer, its outputs among those in the file, None for all in their order, and the file's weight's shape."""
    shapes = [_shape(modules_of(parts)[layer.part].get_submodule(layer.name)) for layer in target.layers]
    sizes = [shape[0] for shape in shapes]
    whole = (sum(sizes), *shapes[0][1:])
    for layer, outputs in zip(target.layers, torch.arange(whole[0]).split(sizes), strict=True):
        if target.swapped:
            yield layer, outputs.roll(len(outputs) // 2), whole
        else:
            yield layer, None if len(sizes) == 1 else outputs, whole


def _shape(module: Any) -> tuple[int, ...]:
    """The shape of a layer's weight."""
    quantised = isinstance(module, QuantizedLinear)
    return (module.out_features, module.in_features) if quantised else tuple(module.weight.shape)


def _check_shapes(change: Change, layer: Layer, parts: Parts) -> None:
    """Raise ValueError where a change does not fit the layer."""
    module: Any = modules_of(parts)[layer.part].get_submodule(layer.name)
    change.check(_shape(module))
    bias = getattr(module, "bias", None)  # norms of transformers have none
    if change.bias(() if bias is None else tuple(bias.shape)) is not None and bias is None:
        raise ValueError("a bias, of which it has none")


@contextmanager
def _fitting(layer: Layer, parts: Parts, file: Path) -> Iterator[None]:
    """In this context, errors about shapes are CheckpointErrors."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError) as error:
        raise CheckpointError(
            f'The LoRA "{file}" does not fit the model, which is of the family {parts.family} (for "{layer.name}" it '
            f"has {reason(error)}); load one trained for this family."
        ) from error


def _unfit(
    opened: TensorFile, named: Mapping[str, Mapping[str, str]], fitting: Mapping[str, Target]
) -> tuple[str, ...]:
    """The warning about layers that the model does not have."""
    unfit = [written for written in named if written not in fitting]
    if not unfit:
        return ()
    opened.skip([tensor for written in unfit for tensor in named[written].values()], "this warning names the layers")
    return (
        f'Of the LoRA "{opened.source}", {len(unfit)} of {len(named)} layers are not in the model and are not used: '
        f"{listed(unfit)}.",
    )


def _refuse_forms(opened: TensorFile) -> None:
    forms = [form for name in opened.keys if (form := refused_form(name)) is not None]
    if forms:
        layers = list(dict.fromkeys(layer for layer, _ in forms))
        raise CheckpointError(
            f'"{opened.source}" is {forms[0][1]}, which is not supported; it changes {len(layers)} layers, such as '
            f'"{layers[0]}": load a LoRA, DoRA, LoHa, LoKr or full difference, or a checkpoint it was merged into.'
        )


def _bundled(opened: TensorFile) -> dict[str, dict[str, Tensor]]:
    """The tensors of learned words, named "bundle_emb.WORD.NAME", by word and name; they count as used."""
    found: dict[str, dict[str, Tensor]] = {}
    for name in opened.keys:
        if name.startswith(BUNDLED):
            word, _, rest = name.removeprefix(BUNDLED).partition(".")
            found.setdefault(word, {})[rest] = opened.take(name)
    return found


@dataclass(frozen=True)
class _Settings:
    """PEFT's settings by the names of networks, as of :func:`component`."""

    by_component: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, opened: TensorFile, components: set[str]) -> "_Settings":
        """The settings in a file's header, if any. Raises CheckpointError for settings that are not honoured."""
        text = opened.entry(METADATA)
        if text is None:
            return cls({})
        try:
            flat = json.loads(text)
            assert isinstance(flat, dict), "a table"
        except (ValueError, AssertionError) as error:
            raise CheckpointError(
                f'The header entry "{METADATA}" of "{opened.source}" is no JSON object; download it again.'
            ) from error
        found: dict[str, dict[str, Any]] = {}
        for key, value in flat.items():
            network, _, setting = key.partition(".")
            found.setdefault(network, {})[setting] = value
        for network in sorted(components & found.keys()):
            cls._check(found[network], network, opened)
        return cls(found)

    @staticmethod
    def _check(settings: Mapping[str, Any], network: str, opened: TensorFile) -> None:
        initialisation = settings.get("init_lora_weights")
        if isinstance(initialisation, str) and initialisation.lower().startswith(OTHER_BASE):
            unknown = [f"init_lora_weights of {initialisation}"]
        else:
            unknown = [key for key, value in settings.items() if key not in HONOURED | PLAIN_SETTINGS and value]
        if unknown:
            raise CheckpointError(
                f'The header of the LoRA "{opened.source}" asks for {listed(unknown)} of its {network}, which is not '
                "honoured; save it as a plain LoRA, or load a checkpoint it was merged into."
            )


def _scale(settings: Mapping[str, Any] | None, layer: Layer, rank: int) -> float:
    """The scale of a layer without an alpha of its own: alpha / rank, or alpha / sqrt(rank); 1 without settings."""
    if settings is None or "lora_alpha" not in settings:
        return 1.0
    patterns: Mapping[str, Any] = settings.get("alpha_pattern") or {}
    matching = [alpha for key, alpha in patterns.items() if re.match(rf"(.*\.)?({key})$", layer.name)]
    alpha = float(matching[0] if matching else settings["lora_alpha"])
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
